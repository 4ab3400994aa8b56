"""Experiments as strict YAML: frozen, typed, every key checked, one default in one place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
import yaml

from musicnet_tf import files
from musicnet_tf.augment import Augmentation
from musicnet_tf.errors import ConfigError
from musicnet_tf.models import Model
from musicnet_tf.note_changes import NoteChanges
from musicnet_tf.registry import MODELS, TASKS, Registry
from musicnet_tf.tasks import Task
from musicnet_tf.validation import construct, merge, parse_overrides, read_yaml

FILENAME = "config.yaml"


class Section(pydantic.BaseModel):
    """Base of every part of a config: frozen, and strict about unknown keys."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)


def _from_registry(registry: Registry[Any]) -> pydantic.BeforeValidator:
    def build(value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        fields = dict(value)
        name = fields.pop("name", None)
        if name is None:
            raise ConfigError(f"{registry.kind}: needs a name; choose from: {', '.join(registry.names())}")
        return construct(registry.get(str(name)), fields, where=registry.kind)

    return pydantic.BeforeValidator(build)


class Source(Section):
    """A record set to train or validate on, and how often windows are drawn from it."""

    records: Path
    weight: float = pydantic.Field(default=1.0, gt=0)


class Data(Section):
    """Where windows come from.

    Attributes:
        folder: that relative `records` paths start from.
        train: record sets; windows are drawn from their `train` split in proportion to `weight`.
        validation: record sets whose `validation` split is measured; the training sets where none are named.
        windows_per_excerpt: windows drawn from one excerpt each time it comes by. More of them spread the
            cost of decoding it, fewer mix the batches better.
        shuffle_excerpts, shuffle_windows: sizes of the shuffled blocks, in compressed excerpts and in
            decoded windows.
        augmentation: of training windows.
        hear: `audio`, or `notes`: what the transcriber of a network would tell if it erred nowhere, from the notes of
            records, whose audio is not looked at; for families that have one (`note_beat_tcn`). Only what follows the
            transcriber is trained then, much faster.
        notes: how notes are changed before they are heard so, in training.
        polyphony: draws only training windows in whose frame exactly so many pitches sound, of those that
            begin at whole hops of an excerpt; for models of one frame a window, without transposition. 1 makes
            the monophonic subset of the MusicNet paper (section 4.5). Most of `windows_per_excerpt` are left
            out then, so there should be more.
    """

    folder: Path = Path("data/records")
    train: tuple[Source, ...]
    validation: tuple[Source, ...] = ()
    windows_per_excerpt: int = pydantic.Field(default=6, gt=0)
    shuffle_excerpts: int = pydantic.Field(default=64, gt=0)
    shuffle_windows: int = pydantic.Field(default=64, gt=0)
    augmentation: Augmentation = Augmentation()
    hear: Literal["audio", "notes"] = "audio"
    notes: NoteChanges = NoteChanges()
    polyphony: int | None = pydantic.Field(default=None, ge=0)

    def path(self, source: Source) -> Path:
        """The folder of a record set."""
        return self.folder.expanduser() / source.records.expanduser()


class Train(Section):
    """How a model is trained.

    Attributes:
        steps: optimiser steps in all.
        steps_per_epoch: steps from one validation, checkpoint and log entry to the next.
        validation_steps: batches of validation windows each time.
        batch_size: windows a step, over all replicas.
        optimizer: `adam` (with decoupled `weight_decay` where it is not 0) or `sgd` (momentum 0.9).
        schedule: `cosine` falls from `learning_rate` to a hundredth of it, `constant` stays.
        warmup_steps: over which the rate rises linearly from 0.
        clip_norm: global norm that gradients are scaled down to; 0 for no limit.
        mixed_precision: `float32`, `mixed_float16` (GPU) or `mixed_bfloat16` (TPU, recent CPU and GPU).
        keep: `best` keeps the weights of the least validation loss; `last` those of the last epoch, which needs no
            validation records: none are read unless `data.validation` names them.
        patience: epochs without a better validation loss before training stops; 0 for never.
    """

    steps: int = pydantic.Field(default=1000, gt=0)
    steps_per_epoch: int = pydantic.Field(default=100, gt=0)
    validation_steps: int = pydantic.Field(default=10, gt=0)
    batch_size: int = pydantic.Field(default=8, gt=0)
    optimizer: Literal["adam", "sgd"] = "adam"
    learning_rate: float = pydantic.Field(default=1e-3, gt=0)
    schedule: Literal["cosine", "constant"] = "cosine"
    warmup_steps: int = pydantic.Field(default=0, ge=0)
    weight_decay: float = pydantic.Field(default=0.0, ge=0)
    clip_norm: float = pydantic.Field(default=0.0, ge=0)
    mixed_precision: Literal["float32", "mixed_float16", "mixed_bfloat16"] = "float32"
    keep: Literal["best", "last"] = "best"
    patience: int = pydantic.Field(default=0, ge=0)

    @pydantic.model_validator(mode="after")
    def _patience_watches_validation(self) -> Train:
        if self.patience and self.keep == "last":
            raise ValueError("patience watches the validation loss, which keep: last does not go by; leave one out")
        return self

    @property
    def epochs(self) -> int:
        """Steps in epochs, the last one whole."""
        return -(-self.steps // self.steps_per_epoch)


class Experiment(Section):
    """One training: a task, a model, data and how; everything that decides its outcome.

    Attributes:
        name: of the experiment, and of the model that comes of it.
        seed: drives the initial weights, the windows and the augmentation.
        initial_weights: name or folder of a trained model whose weights this training begins from: with the same
            `model` section, or with that of one of its parts; drawn by the seed where it is empty.
    """

    name: str = pydantic.Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    seed: int = pydantic.Field(default=0, ge=0, lt=2**31)
    initial_weights: str = ""
    task: Annotated[pydantic.SerializeAsAny[Task], _from_registry(TASKS)]
    model: Annotated[pydantic.SerializeAsAny[Model], _from_registry(MODELS)]
    data: Data
    train: Train = Train()

    @pydantic.model_validator(mode="after")
    def _fit_together(self) -> Experiment:
        self.task.check(self.model.name, self.model.spec())
        if self.data.augmentation.mixup and not self.task.mixes:
            raise ConfigError(
                f"data.augmentation.mixup: tags of two windows can be mixed, and what task {self.task.name!r} learns"
                " cannot; leave it out, or train task 'tags'"
            )
        if self.model.parts() and not self.initial_weights:
            raise ConfigError(
                f"initial_weights: {self.model.name!r} hears by a network that is trained already; name a model of the"
                f" same {next(iter(self.model.parts()))} section, such as one that `musicnet list` names"
            )
        self._check_what_is_heard()
        return self

    def _check_what_is_heard(self) -> None:
        """Raises ConfigError where the model cannot hear notes, or what is set changes nothing that is heard."""
        if self.data.hear == "audio":
            if self.data.notes != NoteChanges():
                raise ConfigError("data.notes: changes the notes that a network hears; set data.hear: notes")
            return
        if self.model.ear() is None:
            raise ConfigError(f"data.hear: model {self.model.name!r} has no transcriber and learns from audio alone")
        if self.data.augmentation != Augmentation():
            raise ConfigError("data.augmentation: changes audio, and data.hear is notes; set data.notes in its place")

    def trains_as(self, other: Experiment) -> bool:
        """Whether it is the same training, wherever its records and the model that it begins from lie."""
        return self.anywhere() == other.anywhere()

    def anywhere(self) -> Experiment:
        """The same without the folders that its record sets and the model that it begins from lie in."""
        data = self.data.model_copy(update={"folder": Data.model_fields["folder"].default})
        return self.model_copy(update={"data": data, "initial_weights": Path(self.initial_weights).name})

    def to_yaml(self) -> str:
        """Every value, defaults among them."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)

    def write(self, folder: str | Path) -> None:
        """Writes `config.yaml` into a folder."""
        files.write_text(Path(folder) / FILENAME, self.to_yaml())


def load(path: str | Path, overrides: Sequence[str] = ()) -> Experiment:
    """Reads an experiment from YAML, changed by overrides such as `train.steps=200`.

    Raises:
        ConfigError: where the file cannot be read, a key is unknown or a value of the wrong type; the
            message names the key, and for an unknown one the nearest right one.
    """
    return construct(Experiment, merge(read_yaml(path), parse_overrides(overrides)), where=str(path))
