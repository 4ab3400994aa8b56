"""Names → classes, found by looking through a package. A new model, task or corpus is one file.

Every registered class but a scorer is a frozen pydantic model: its fields are what a config may set, its methods are
what it does. `ENTRY.name` is the name under which it was registered; that of a decoder or a scorer is its task's.
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Callable
from typing import Any, ClassVar, Generic, TypeVar

import pydantic

from musicnet_tf.errors import ConfigError


class Entry(pydantic.BaseModel):
    """Base of everything that is registered: frozen, and strict about unknown keys."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)
    name: ClassVar[str] = ""

    @pydantic.model_serializer(mode="wrap")
    def _with_name(self, handler: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        return {"name": self.name, **handler(self)}


E = TypeVar("E", bound=Entry)


class Registry(Generic[E]):
    """The classes that the modules of one package registered."""

    def __init__(self, kind: str, package: str) -> None:
        self.kind = kind
        self._package = package
        self._classes: dict[str, type[E]] = {}
        self._discovered = False

    def register(self, name: str) -> Callable[[type[E]], type[E]]:
        """Class decorator. Raises ConfigError where the name is taken."""

        def add(cls: type[E]) -> type[E]:
            if name in self._classes:
                taken = self._classes[name]
                raise ConfigError(f"{self.kind} {name!r} is registered twice: {taken.__module__} and {cls.__module__}")
            cls.name = name
            self._classes[name] = cls
            return cls

        return add

    def names(self) -> list[str]:
        self._discover()
        return sorted(self._classes)

    def get(self, name: str) -> type[E]:
        """The class of that name. Raises ConfigError that lists the choices, nearest first."""
        self._discover()
        if name not in self._classes:
            raise ConfigError(
                f"unknown {self.kind} {name!r}{nearest(name, self._classes)}; choose from: {', '.join(self.names())}"
            )
        return self._classes[name]

    def _discover(self) -> None:
        if self._discovered:
            return
        import_modules(self._package)
        self._discovered = True


def import_modules(package: str) -> None:
    """Imports what lies directly in a package; a package in which classes register calls it on itself."""
    path = importlib.import_module(package).__path__
    for module in pkgutil.iter_modules(path):
        importlib.import_module(f"{package}.{module.name}")


def nearest(word: str, choices: Any) -> str:
    """`", did you mean 'x'?"` for the choice most like `word`, or nothing."""
    match = difflib.get_close_matches(word, [str(c) for c in choices], n=1)
    return f", did you mean {match[0]!r}?" if match else ""


MODELS: Registry[Any] = Registry("model", "musicnet_tf.models")
TASKS: Registry[Any] = Registry("task", "musicnet_tf.tasks")
DATASETS: Registry[Any] = Registry("corpus", "musicnet_tf.datasets")
DECODERS: Registry[Any] = Registry("decoder", "musicnet_tf.decode")
SCORERS: Registry[Any] = Registry("scorer", "musicnet_tf.metrics")
