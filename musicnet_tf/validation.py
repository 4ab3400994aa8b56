"""Values from outside → pydantic models, every fault told in one line that names the file or key."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pydantic
import yaml

from musicnet_tf.errors import ConfigError
from musicnet_tf.registry import nearest

M = TypeVar("M", bound=pydantic.BaseModel)


def construct(cls: type[M], values: Mapping[str, Any], where: str) -> M:
    """A model of these values.

    Raises:
        ConfigError: which starts with `where` and names every faulty key; for an unknown key, the nearest.
    """
    try:
        return cls.model_validate(dict(values))
    except pydantic.ValidationError as error:
        raise ConfigError(f"{where}: {describe(cls, error)}") from error
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error


def read_yaml(path: str | Path) -> dict[str, Any]:
    """The mapping that a YAML file holds, of plain values alone.

    Raises:
        ConfigError: in one line that names the file, where it is not there, cannot be read as YAML or holds
            no mapping.
    """
    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: not found") from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: not readable as YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: must be a mapping of keys to values")
    return values


def describe(cls: type[pydantic.BaseModel], error: pydantic.ValidationError) -> str:
    """All faults of one validation in one line."""
    return "; ".join(_describe(cls, fault) for fault in error.errors(include_url=False))


def _describe(cls: type[pydantic.BaseModel], fault: Any) -> str:
    location = fault["loc"]
    key = ".".join(str(part) for part in location)
    if fault["type"] == "extra_forbidden":
        choices = _fields_at(cls, location[:-1])
        return f"unknown key {key!r}{nearest(str(location[-1]), choices)}"
    if fault["type"] == "missing":
        return f"key {key!r} is missing"
    seen = reprlib.repr(fault["input"])
    return f"key {key!r}: {fault['msg'].lower()}, got {seen}" if key else f"{fault['msg'].lower()}, got {seen}"


def _fields_at(cls: type[pydantic.BaseModel], location: Sequence[Any]) -> list[str]:
    """Names of the fields of the model that lies at `location` within `cls`."""
    for part in location:
        field = cls.model_fields.get(part) if isinstance(part, str) else None
        if field is None:
            continue
        inner = [field.annotation, *getattr(field.annotation, "__args__", ())]
        models = [t for t in inner if isinstance(t, type) and issubclass(t, pydantic.BaseModel)]
        cls = models[0] if models else cls
    return list(cls.model_fields)


def parse_overrides(overrides: Sequence[str]) -> dict[str, Any]:
    """`["a.b=1", "c=[x]"]` → `{"a": {"b": 1}, "c": ["x"]}`, values in YAML.

    Raises:
        ConfigError: on an override without `=` or whose value is no YAML.
    """
    tree: dict[str, Any] = {}
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not all(key.split(".")):
            raise ConfigError(f"--set {override}: expected key=value, such as train.steps=200")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ConfigError(f"--set {override}: the value is no YAML") from error
        for part in reversed(key.split(".")):
            value = {part: value}
        tree = merge(tree, value)
    return tree


def merge(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with `changes` laid over it, mapping by mapping."""
    merged = dict(base)
    for key, value in changes.items():
        old = merged.get(key)
        merged[key] = merge(old, value) if isinstance(value, Mapping) and isinstance(old, Mapping) else value
    return merged
