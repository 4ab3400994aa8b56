"""MAPS: a Disklavier or a sampled piano playing MIDI files, so that the labels are exact."""

from __future__ import annotations

import re
from pathlib import Path
from typing import ClassVar

import numpy as np
import pydantic

from musicnet_tf import audio, scores
from musicnet_tf.datasets import Dataset, Recording, _layout
from musicnet_tf.errors import DatasetError
from musicnet_tf.events import Notes
from musicnet_tf.registry import DATASETS

_NAME = re.compile(r"MAPS_MUS-(?P<piece>.+)_(?P<instrument>[^_]+)")
_LABEL_SUFFIXES = (".tsv", ".txt")


@DATASETS.register("maps")
class Maps(Dataset):
    """Whole pieces (`MUS`) of MAPS: `MAPS_MUS-<piece>_<instrument>.wav` with `.tsv` or `.txt` beside it.

    Files may lie in `root` or in folders below it, as in the published `<instrument>/MUS/`. A `.tsv` holds onset,
    offset, pitch and velocity; the published `.txt` holds no velocity, and is read where there is no `.tsv`.

    Attributes:
        validation, test: pieces, on whichever instrument they are played, that are kept from training.
        delay: instrument → seconds by which its sound comes later than the published labels say, added to every
            note; nothing is added by default. Measured on isolated onsets, ENSTDkCl is about 0.007 s late and
            ENSTDkAm, whose microphones stood far off, about 0.03 s.
    """

    description: ClassVar[str] = "classical piano pieces on Disklavier and sampled pianos, exact labels"
    licence: ClassVar[str] = "CC BY-NC-SA"
    source: ClassVar[str] = "Emiya, Badeau, David: Multipitch estimation of piano sounds (MAPS), TASLP 2010"

    validation: tuple[str, ...] = ("bor_ps6", "deb_menu", "mz_545_3", "scn15_12")
    test: tuple[str, ...] = ()
    delay: dict[str, float] = pydantic.Field(default={})

    def recordings(self) -> list[Recording]:
        labels = self._labels()
        for stem, label in labels.items():
            _layout.need_audio(label, stem)
        return [self._recording(stem) for stem in labels]

    def load_audio(self, recording: Recording, sample_rate: int) -> np.ndarray:
        return audio.load(_layout.need_audio(self._label(recording), recording.id), sample_rate)

    def load_notes(self, recording: Recording) -> Notes:
        delay = self.delay.get(recording.id.rpartition("_")[2], 0.0)
        return scores.read_maps_tsv(self._label(recording)).shift(delay)

    def _recording(self, stem: str) -> Recording:
        match = _NAME.fullmatch(stem)
        assert match, stem  # `_labels` lists no other
        piece = match["piece"]
        metadata = {"composition": piece, "instrument": match["instrument"], "ensemble": "Solo Piano"}
        return Recording(stem, _layout.side(piece, self.validation, self.test), piece, metadata)

    def _labels(self) -> dict[str, Path]:
        """Stem → label file, sorted by stem."""
        _layout.need_root(self.root, self.name)
        found = [path for path in self.root.rglob("MAPS_MUS-*") if path.suffix in _LABEL_SUFFIXES]
        found.sort(key=lambda path: (path.stem, path.suffix == ".tsv"))
        labels = {path.stem: path for path in found if _NAME.fullmatch(path.stem)}
        if not labels:
            raise DatasetError(
                f"{self.root}: not MAPS; looked for MAPS_MUS-<piece>_<instrument>.tsv (or .txt) below it"
            )
        return labels

    def _label(self, recording: Recording) -> Path:
        try:
            return self._labels()[recording.id]
        except KeyError as error:
            raise DatasetError(f"{self.root}: holds no recording {recording.id!r}") from error
