"""MusicNet: 330 recordings of chamber music, labelled by aligning scores to them."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np

from musicnet_tf import scores, works
from musicnet_tf.datasets import Dataset, Recording, Split, _layout, _musicnet_forms
from musicnet_tf.datasets._tagged import tags_of_music
from musicnet_tf.events import Beats, Notes, TagSpans
from musicnet_tf.registry import DATASETS

PAPER_TEST = ("1819", "2303", "2382")
"""The three test recordings of the paper."""

EXTENDED_TEST = ("1759", "1819", "2106", "2191", "2298", "2303", "2382", "2416", "2556", "2628")
"""The ten test recordings of the published release."""


@DATASETS.register("musicnet")
class MusicNet(Dataset):
    """MusicNet in any of its published forms, which is detected.

    `root` is the folder that holds `train_data/`, `train_labels/` and so on, or `musicnet.h5`, or `musicnet.npz`;
    or such a file itself. `musicnet_metadata.csv` is read where it lies beside them. Recordings of one composer's
    composition and movement count as one work; a work goes wholly to test if any recording of it does, else wholly
    to validation if any does, whether or not that recording is at hand.

    Attributes:
        validation: ids kept from training, to choose thresholds on.
        test: ids set apart, beside those in `test_data/`.
        trust_pickle: whether the npz form, whose labels are pickled Python objects, may be read.
        delay: seconds by which the sound comes later than the published labels say, added to every note; nothing is
            added by default. On 360 isolated onsets of its piano recordings the sound is about 0.027 s *early*,
            near the half window (0.023 s) of the spectrogram by which the scores were aligned.
    """

    description: ClassVar[str] = "330 recordings of chamber music in 11 instruments, labels aligned from scores"
    licence: ClassVar[str] = "labels CC BY 4.0; recordings public domain or Creative Commons, see each"
    source: ClassVar[str] = "Thickstun, Harchaoui, Kakade: Learning Features of Music from Scratch, ICLR 2017"

    validation: tuple[str, ...] = ("2227", "2231", "2247")
    test: tuple[str, ...] = EXTENDED_TEST
    trust_pickle: bool = False
    delay: float = 0.0

    def recordings(self) -> list[Recording]:
        form = self._form()
        return self._recordings(form, form.ids())

    def label_files(self) -> list[tuple[Recording, Path]]:
        """Every recording that has a label file, and that file, whether or not its audio is at hand.

        Raises:
            DatasetError: as `recordings`, or where the labels are not files of their own.
        """
        form = self._form()
        paths = form.label_files()
        return [(recording, paths[recording.id]) for recording in self._recordings(form, list(paths))]

    def load_audio(self, recording: Recording, sample_rate: int) -> np.ndarray:
        return self._form().load_audio(recording.id, sample_rate)

    def load_notes(self, recording: Recording) -> Notes:
        return self._form().load_notes(recording.id).shift(self.delay)

    def load_beats(self, recording: Recording) -> Beats | None:
        return scores.beats_of_labels(self.load_notes(recording))

    def load_tags(self, recording: Recording) -> TagSpans:
        """Instruments where they sound, `ensemble/…` and `composer/…` of the whole."""
        return tags_of_music(self.load_notes(recording), recording.metadata)

    def _form(self) -> _musicnet_forms.Form:
        return _musicnet_forms.detect(self.root, trust_pickle=self.trust_pickle)

    def _recordings(self, form: _musicnet_forms.Form, ids: list[str]) -> list[Recording]:
        metadata = self._metadata()
        test = {_work(id, metadata) for id in {*self.test, *form.test_ids()}}
        validation = {_work(id, metadata) for id in self.validation}

        def split(id: str) -> Split:
            return _layout.side(_work(id, metadata), validation, test)

        return [Recording(id, split(id), _work(id, metadata), metadata.get(id, {})) for id in sorted(ids)]

    def _metadata(self) -> dict[str, dict[str, str]]:
        """Id → its row, empty where there is no such file."""
        return works.read_metadata(self.root if self.root.is_dir() else self.root.parent)


def _work(id: str, metadata: dict[str, dict[str, str]]) -> str:
    """What is performed: composer, composition and movement; the id itself where they are not known."""
    row = metadata.get(id, {})
    parts = [row.get(key, "") for key in ("composer", "composition", "movement")]
    return ": ".join(parts) if any(parts) else id
