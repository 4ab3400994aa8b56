"""The models of a server and their versions: which are there, which are loaded, who is using them."""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import gc
import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from grpc import StatusCode

from musicnet_tf import inference
from musicnet_tf.errors import ConfigError, ModelError
from serving.server.errors import RequestError, invalid
from serving.server.metrics import Metrics
from serving.server.servable import Servable
from serving.server.settings import ModelConfig, check_models

_LOG = logging.getLogger(__name__)


KEPT_ENDED = 32
"""Versions that are no longer served and still told of in the status of a model."""


class State(enum.Enum):
    """Of a version, with the numbers of `ModelVersionStatus.State`."""

    LOADING = 20
    AVAILABLE = 30
    UNLOADING = 40
    END = 50


@dataclasses.dataclass
class Version:
    """One version of a model, as it is now.

    Attributes:
        servable: there while it can be run.
        error: why it could not be loaded.
        users: requests that are using it.
    """

    state: State = State.LOADING
    servable: Servable | None = None
    error: str = ""
    users: int = 0
    content: frozenset[tuple[str, int, int]] = frozenset()


@dataclasses.dataclass
class _Model:
    config: ModelConfig
    versions: dict[int, Version] = dataclasses.field(default_factory=dict)
    reported: str = ""

    def available(self) -> list[int]:
        return sorted(number for number, version in self.versions.items() if version.state is State.AVAILABLE)


class Models:
    """Models by name. Requests acquire a version; `poll` loads what is new and lets go of what is old."""

    def __init__(self, load: Callable[[Path], Servable], metrics: Metrics, any_label: bool = False) -> None:
        """Knows no model yet.

        Args:
            load: folder of a version → the version, ready to answer quickly. May raise ModelError.
            metrics: where loads and versions are counted.
            any_label: whether a label may name a version that is not available.
        """
        self._load = load
        self._metrics = metrics
        self._any_label = any_label
        self._models: dict[str, _Model] = {}
        self._by_name: dict[str, _Model] = {}
        self._let_go = False
        self._lock = threading.Lock()
        self._polling = threading.Lock()

    def configure(self, configs: Sequence[ModelConfig]) -> None:
        """Takes these models in place of those before, loads what is new and unloads what is gone.

        Raises:
            ConfigError: where two share a name, or a label names a version that is not available; everything
                stays as it was then.
        """
        check_models(configs)
        with self._polling:
            models = {config.name: _Model(config, self._versions_of(config)) for config in configs}
            for model in models.values():
                self._load_new(model)
            try:
                for model in models.values():
                    self._check_labels(model)
            except ConfigError:
                self._drop(models, self._models)
                raise
            with self._lock:
                before, self._models = self._models, models
                self._by_name = {name: model for model in models.values() for name in model.config.names}
            self._drop(before, models)
            for model in models.values():
                self._retire_old(model)
            self._free_memory()

    def poll(self) -> None:
        """Looks once into the folders of all models."""
        with self._polling:
            for model in list(self._models.values()):
                self._load_new(model)
                self._retire_old(model)
            self._free_memory()

    def close(self) -> None:
        """Lets go of every version as soon as nobody uses it."""
        self.configure([])

    def names(self) -> Mapping[str, list[int]]:
        """Every name and the versions that are available under it."""
        with self._lock:
            return {name: model.available() for name, model in self._by_name.items()}

    @contextlib.contextmanager
    def acquire(
        self, name: str, version: int | None = None, label: str | None = None
    ) -> Iterator[tuple[int, Servable]]:
        """A version that stays loaded within the block: the one that is named, or else the newest.

        Raises:
            RequestError: where there is no such model, version or label.
        """
        with self._lock:
            number, held = self._find(name, version, label)
            held.users += 1
        try:
            assert held.servable is not None
            yield number, held.servable
        finally:
            with self._lock:
                held.users -= 1
                self._let_go_if_unused(name, number, held)

    def status(self, name: str, version: int | None = None, label: str | None = None) -> dict[int, tuple[State, str]]:
        """State and error of a model's versions, newest first, or of the one that is named.

        Raises:
            RequestError: where there is no such model, version or label.
        """
        with self._lock:
            model = self._by_name.get(name)
            if model is None or not model.versions:
                raise RequestError(StatusCode.NOT_FOUND, f"Could not find any versions of model {name}")
            if label is not None:
                version = _version_of_label(model, label)
            if version is not None and version not in model.versions:
                raise RequestError(StatusCode.NOT_FOUND, f"Could not find version {version} of model {name}")
            numbers = sorted(model.versions, reverse=True) if version is None else [version]
            return {number: (model.versions[number].state, model.versions[number].error) for number in numbers}

    def _find(self, name: str, version: int | None, label: str | None) -> tuple[int, Version]:
        wanted = f"Latest({name})" if version is None else f"Specific({name}, {version})"
        model = self._by_name.get(name)
        if model is not None and label is not None:
            version = _version_of_label(model, label)
            wanted = f"Specific({name}, {version})"
        available = model.available() if model else []
        number = version if version is not None else max(available, default=-1)
        if model is None or number not in available:
            raise RequestError(StatusCode.NOT_FOUND, f"Servable not found for request: {wanted}")
        return number, model.versions[number]

    def _versions_of(self, config: ModelConfig) -> dict[int, Version]:
        """What is loaded already of a model that stays where it was."""
        known = self._models.get(config.name)
        return known.versions if known and known.config.base_path == config.base_path else {}

    def _load_new(self, model: _Model) -> None:
        found = _numbered_folders(model)
        if found is None:
            return
        for number in sorted(model.config.policy.choose(found), reverse=True):
            version = model.versions.get(number)
            if version and version.state is not State.END:
                continue
            content = _content(found[number])
            if version and version.error and version.content == content:
                continue  # it failed, and nothing has changed since
            self._load_version(model, number, found[number], content)

    def _load_version(self, model: _Model, number: int, folder: Path, content: frozenset[tuple[str, int, int]]) -> None:
        name, version = model.config.name, Version(content=content)
        with self._lock:
            model.versions[number] = version
        try:
            servable = self._load(folder)
        except Exception as error:
            if not isinstance(error, ModelError):
                _LOG.exception("model %s version %d: a fault in loading it", name, number)
                error = ModelError("a fault in loading it; the server's log says why")
            _LOG.error("model %s version %d cannot be served: %s", name, number, error)
            with self._lock:  # clients may know why, but not where
                version.state, version.error = State.END, str(error).replace(str(folder), f"{name}/{number}")
            self._metrics.loads.labels(name, "error").inc()
            return
        with self._lock:
            version.servable, version.state = servable, State.AVAILABLE
        self._metrics.loads.labels(name, "ok").inc()
        self._metrics.versions.labels(name, number).set(1)
        _LOG.info("model %s version %d is available", name, number)

    def _retire_old(self, model: _Model) -> None:
        """Lets go of versions that the policy no longer wants, once one that it wants is there."""
        found = _numbered_folders(model)
        if found is None:
            return
        wanted = model.config.policy.choose(found)
        with self._lock:
            if wanted and not wanted & set(model.available()):
                return
            for number in set(model.available()) - wanted:
                self._retire(model, number)
            ended = [number for number, version in model.versions.items() if version.state is State.END]
            for number in sorted(set(ended) - wanted)[:-KEPT_ENDED]:
                del model.versions[number]

    def _drop(self, models: Mapping[str, _Model], kept: Mapping[str, _Model]) -> None:
        staying = {id(version) for model in kept.values() for version in model.versions.values()}
        with self._lock:
            for model in models.values():
                for number in model.available():
                    if id(model.versions[number]) not in staying:
                        self._retire(model, number)

    def _retire(self, model: _Model, number: int) -> None:
        version = model.versions[number]
        version.state = State.UNLOADING
        self._let_go_if_unused(model.config.name, number, version)

    def _let_go_if_unused(self, name: str, number: int, version: Version) -> None:
        if version.state is State.UNLOADING and not version.users:
            version.state, version.servable, self._let_go = State.END, None, True
            with contextlib.suppress(KeyError):
                self._metrics.versions.remove(name, str(number))
            _LOG.info("model %s version %d is unloaded", name, number)

    def _free_memory(self) -> None:
        """Collects versions that were let go of: graphs hold each other, and pile up until Python looks of itself."""
        if self._let_go:
            self._let_go = False
            gc.collect()

    def _check_labels(self, model: _Model) -> None:
        for label, number in model.config.labels.items():
            if not self._any_label and number not in model.available():
                raise ConfigError(
                    f"model {model.config.name!r}: label {label!r} names version {number}, which is not available;"
                    " allow that by --allow_version_labels_for_unavailable_models"
                )


def _version_of_label(model: _Model, label: str) -> int:
    if label not in model.config.labels:
        raise invalid(f"Unrecognized servable version label: {label}")
    return model.config.labels[label]


def _numbered_folders(model: _Model) -> dict[int, Path] | None:
    """Number → folder of the versions that are whole; None where the model's folder cannot be read."""
    base = model.config.base_path
    try:
        found = {
            int(path.name): path
            for path in base.iterdir()
            if path.name.isdecimal() and path.name.isascii() and (path / inference.SAVED_MODEL).is_file()
        }
        reason = "" if found else "holds no version yet"
    except OSError as error:
        found, reason = None, f"cannot be read ({error.strerror})"
    if reason and reason != model.reported:  # said once, not at every look
        _LOG.warning("model %s: %s %s", model.config.name, base, reason)
    model.reported = reason
    return found


def _content(folder: Path) -> frozenset[tuple[str, int, int]]:
    """Changes when a file beneath the folder does."""
    with contextlib.suppress(OSError):
        stats = [(path, path.stat()) for path in folder.rglob("*")]
        return frozenset((str(path), stat.st_size, stat.st_mtime_ns) for path, stat in stats)
    return frozenset()
