"""The three forms in which MusicNet is published: folders of wav and CSV, one HDF5 file, one npz file."""

from __future__ import annotations

import abc
from pathlib import Path

import numpy as np

from musicnet_tf import audio, scores
from musicnet_tf.datasets import _layout
from musicnet_tf.errors import DatasetError
from musicnet_tf.events import Notes

SAMPLE_RATE = 44100
"""Of all published audio, and of the times of all labels in every form."""

_SIDES = ("train", "test")


class Form(abc.ABC):
    """One published form at one place."""

    @abc.abstractmethod
    def ids(self) -> list[str]:
        """Recordings that have both audio and labels. Raises DatasetError where one of the two is missing."""

    @abc.abstractmethod
    def load_audio(self, id: str, sample_rate: int) -> np.ndarray:
        """Float32 mono."""

    @abc.abstractmethod
    def load_notes(self, id: str) -> Notes:
        """Notes in seconds."""

    def label_files(self) -> dict[str, Path]:
        """Id → label file. Raises DatasetError where labels are not files of their own."""
        raise DatasetError(
            f"{type(self).__name__}: keeps its labels together with the audio, not in files of their own"
        )

    def test_ids(self) -> set[str]:
        """Recordings that this form itself sets apart for testing."""
        return set()


class Folders(Form):
    """`train_data|test_data/<id>.<audio>` and `train_labels|test_labels/<id>.csv`."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._audio = {side: _layout.audio_files(root / f"{side}_data") for side in _SIDES}
        self._labels = {
            side: {path.stem: path for path in sorted((root / f"{side}_labels").glob("[!.]*.csv"))} for side in _SIDES
        }

    @classmethod
    def present(cls, root: Path) -> bool:
        return any((root / f"{side}_{kind}").is_dir() for side in _SIDES for kind in ("data", "labels"))

    def ids(self) -> list[str]:
        for side in _SIDES:
            audio_paths, labels = self._audio[side], self._labels[side]
            for id in sorted(audio_paths.keys() ^ labels.keys()):
                heard = audio_paths.get(id, self._root / f"{side}_data" / f"{id}.wav")
                label = labels.get(id, self._root / f"{side}_labels" / f"{id}.csv")
                missing, lone = (heard, label) if id in labels else (label, heard)
                raise DatasetError(f"{lone}: its counterpart {missing} is missing; add it, or move the other away")
        return [id for side in _SIDES for id in self._labels[side]]

    def load_audio(self, id: str, sample_rate: int) -> np.ndarray:
        return audio.load(self._find(self._audio, id, "audio"), sample_rate)

    def load_notes(self, id: str) -> Notes:
        return scores.read_musicnet_csv(self._find(self._labels, id, "label file"), SAMPLE_RATE)

    def label_files(self) -> dict[str, Path]:
        return {**self._labels["train"], **self._labels["test"]}

    def test_ids(self) -> set[str]:
        return {*self._audio["test"], *self._labels["test"]}

    def _find(self, paths: dict[str, dict[str, Path]], id: str, what: str) -> Path:
        for side in _SIDES:
            if id in paths[side]:
                return paths[side][id]
        raise DatasetError(f"{self._root}: holds no {what} of recording {id!r}")


def detect(root: Path, *, trust_pickle: bool) -> Form:
    """The form that lies at `root`.

    Raises:
        DatasetError: where there is none; the message says what was looked for.
    """
    _layout.need_root(root, "musicnet")
    if Folders.present(root):
        return Folders(root)
    raise DatasetError(f"{root}: not MusicNet; looked for train_data/ with train_labels/ (or test_*)")
