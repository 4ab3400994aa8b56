"""Corpora, one file each. A corpus yields recordings: id, audio, notes, beats, tags, split, metadata; no more."""

from __future__ import annotations

import abc
import dataclasses
import hashlib
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from musicnet_tf.events import Beats, Notes, TagSpans
from musicnet_tf.registry import Entry

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")


@dataclasses.dataclass(frozen=True)
class Recording:
    """A recording that is known but not yet read: cheap, picklable, the same on every machine.

    Attributes:
        id: unique within its corpus, safe as a file name.
        split: `train`, `validation` or `test`.
        work: what is performed. Two recordings of one work are never on two sides of a split.
        metadata: composer, composition, movement, ensemble, licence … as far as known, text only.
    """

    id: str
    split: Split
    work: str
    metadata: dict[str, str] = dataclasses.field(default_factory=dict)


class Dataset(Entry, abc.ABC):
    """A corpus on disk. Subclasses register with `@DATASETS.register(name)` and are frozen configs.

    Attributes:
        root: the folder that holds the corpus as published.
    """

    description: ClassVar[str]
    licence: ClassVar[str]
    source: ClassVar[str]

    root: Path

    @abc.abstractmethod
    def recordings(self) -> list[Recording]:
        """Every recording of the corpus, sorted by id, without opening any audio.

        Raises:
            DatasetError: where `root` does not hold the corpus; the message says what was looked for.
        """

    @abc.abstractmethod
    def load_audio(self, recording: Recording, sample_rate: int) -> np.ndarray:
        """Float32 mono `(samples,)` in [-1, 1] at `sample_rate`. Raises AudioError."""

    @abc.abstractmethod
    def load_notes(self, recording: Recording) -> Notes:
        """The notes in seconds from the first sample. Raises ScoreError."""

    def load_beats(self, recording: Recording) -> Beats | None:
        """The beats in seconds from the first sample; None where the corpus does not tell them. Raises ScoreError."""
        return None

    def load_tags(self, recording: Recording) -> TagSpans | None:
        """The stretches that bear a tag, from the first sample; None where none are told. Raises DatasetError."""
        return None

    @classmethod
    def annotations(cls) -> tuple[str, ...]:
        """What the corpus may tell of its recordings: `notes` first, then `beats` and `tags`, if it can load them."""
        own = {"beats": cls.load_beats is not Dataset.load_beats, "tags": cls.load_tags is not Dataset.load_tags}
        return ("notes", *(what for what, told in own.items() if told))


def stable_split(work: str, validation: float = 0.1, test: float = 0.0) -> Split:
    """A split that depends on nothing but the work's name (SHA-256, never Python's salted `hash`)."""
    position = int.from_bytes(hashlib.sha256(work.encode()).digest()[:8], "big") / 2**64
    if position < test:
        return "test"
    return "validation" if position < test + validation else "train"
