"""Bach10: four-part chorales with every part also recorded alone, notes checked by hand."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np

from musicnet_tf import audio, scores
from musicnet_tf.datasets import Dataset, Recording, _layout
from musicnet_tf.datasets._tagged import tags_of_music
from musicnet_tf.errors import DatasetError
from musicnet_tf.events import Beats, Notes, TagSpans
from musicnet_tf.registry import DATASETS

PROGRAMS = {"violin": 40, "clarinet": 71, "saxphone": 66, "bassoon": 70}
"""Part, spelled as in the published file names → MIDI program."""

_LABEL_SUFFIX = ".musicnet.csv"
_NAME = re.compile(r"(?P<number>\d\d)-(?P<title>[^-]+)")


class _Item(NamedTuple):
    label: Path
    part: str | None

    @property
    def chorale(self) -> str:
        return self.label.name.removesuffix(_LABEL_SUFFIX)

    @property
    def id(self) -> str:
        return f"{self.chorale}-{self.part}" if self.part else self.chorale


@DATASETS.register("bach10")
class Bach10(Dataset):
    """Mixes `<nn>-<title>.<audio>` and parts `<nn>-<title>-<part>.<audio>`, notes in `<nn>-<title>.musicnet.csv`.

    Files may lie in `root` or in one folder a chorale. A part carries the notes of its instrument alone, and the
    beats that a person tapped to the mix, which all notes together tell in `start_beat`.

    Attributes:
        stems: whether the parts are recordings too, beside the mixes.
        validation, test: chorales, by their two digits, that are kept from training.
    """

    description: ClassVar[str] = "Bach chorales by violin, clarinet, tenor saxophone and bassoon: mixes and stems"
    licence: ClassVar[str] = "research use"
    source: ClassVar[str] = "Duan, Pardo, Zhang: Multiple fundamental frequency estimation (Bach10), TASLP 2010"

    stems: bool = True
    validation: tuple[str, ...] = ("04",)
    test: tuple[str, ...] = ("05", "06", "07", "08", "09", "10")

    def recordings(self) -> list[Recording]:
        items = sorted(self._items(), key=lambda item: item.id)
        for item in items:
            _layout.need_audio(item.label, item.id)
        return [self._recording(item) for item in items]

    def load_audio(self, recording: Recording, sample_rate: int) -> np.ndarray:
        item = self._item(recording)
        return audio.load(_layout.need_audio(item.label, item.id), sample_rate)

    def load_notes(self, recording: Recording) -> Notes:
        item = self._item(recording)
        notes = scores.read_musicnet_csv(item.label)
        return notes[notes.instrument == PROGRAMS[item.part]] if item.part else notes

    def load_beats(self, recording: Recording) -> Beats | None:
        return scores.beats_of_labels(scores.read_musicnet_csv(self._item(recording).label), units=1.0)

    def load_tags(self, recording: Recording) -> TagSpans:
        """Instruments where they sound, `composer/Bach` and the ensemble of the whole."""
        return tags_of_music(self.load_notes(recording), recording.metadata)

    def _recording(self, item: _Item) -> Recording:
        number, title = item.chorale.split("-", 1)
        metadata = {"composer": "Bach", "composition": title, "ensemble": item.part or "Violin, Clarinet, Sax, Bassoon"}
        return Recording(item.id, _layout.side(number, self.validation, self.test), item.chorale, metadata)

    def _items(self) -> Iterator[_Item]:
        _layout.need_root(self.root, self.name)
        labels = [path for path in self.root.rglob("*" + _LABEL_SUFFIX) if _NAME.fullmatch(_Item(path, None).chorale)]
        if not labels:
            raise DatasetError(f"{self.root}: not Bach10; looked for <nn>-<title>{_LABEL_SUFFIX} below it")
        for label in labels:
            yield _Item(label, None)
            yield from (_Item(label, part) for part in PROGRAMS if self.stems)

    def _item(self, recording: Recording) -> _Item:
        for item in self._items():
            if item.id == recording.id:
                return item
        raise DatasetError(f"{self.root}: holds no recording {recording.id!r}")
