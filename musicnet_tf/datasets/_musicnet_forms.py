"""The three forms in which MusicNet is published: folders of wav and CSV, one HDF5 file, one npz file."""

from __future__ import annotations

import abc
import pickle
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple

import h5py
import numpy as np

from musicnet_tf import audio, scores
from musicnet_tf.datasets import _layout
from musicnet_tf.errors import DatasetError, ScoreError
from musicnet_tf.events import Notes

SAMPLE_RATE = 44100
"""Of all published audio, and of the times of all labels in every form."""

_SIDES = ("train", "test")
_ID = re.compile(r"[\w-]+")
_FILES = ("musicnet.h5", "musicnet.npz")


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


class Hdf5(Form):
    """Groups `id_<id>` of `data`, float32 `(samples,)`, and `labels`, records with named columns."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def ids(self) -> list[str]:
        with self._open() as file:
            ids = [name.removeprefix("id_") for name in file if name.startswith("id_")]
            for id in ids:
                self._datasets(file, id)
        return _safe_ids(self._path, ids, "groups id_<id>")

    def load_audio(self, id: str, sample_rate: int) -> np.ndarray:
        with self._open() as file:
            samples = self._datasets(file, id)[0][...]
        return audio.resample(samples, SAMPLE_RATE, sample_rate, f"{self._path}: recording {id}")

    def load_notes(self, id: str) -> Notes:
        with self._open() as file:
            labels = self._datasets(file, id)[1][...]
        missing = set(_LABEL_COLUMNS) - set(labels.dtype.names or ())
        if missing:
            raise ScoreError(f"{self._path}: labels of {id} have no column {sorted(missing)}")
        return _notes(f"{self._path}: recording {id}", {name: labels[name] for name in _LABEL_COLUMNS})

    def _open(self) -> h5py.File:
        try:
            return h5py.File(self._path, "r")
        except OSError as error:
            raise DatasetError(f"{self._path}: not a whole HDF5 file ({error}); fetch it again") from error

    def _datasets(self, file: h5py.File, id: str) -> tuple[h5py.Dataset, h5py.Dataset]:
        found = tuple(file.get(f"id_{id}/{kind}") for kind in ("data", "labels"))
        if not all(isinstance(item, h5py.Dataset) for item in found):
            raise DatasetError(f"{self._path}: looked for id_{id}/data and id_{id}/labels; one or both are missing")
        return found  # type: ignore[return-value]


class Npz(Form):
    """Entries `<id>` of `(X, Y)`: samples and a pickled interval tree of labels.

    Read only where the caller trusts the file, and even then by an unpickler that makes arrays and intervals and
    refuses all else.
    """

    def __init__(self, path: Path, *, trust_pickle: bool) -> None:
        if not trust_pickle:
            raise DatasetError(
                f"{path}: its labels are pickled Python objects, which can carry code; if you trust whoever made the"
                " file set trust_pickle=true, otherwise use the CSV or HDF5 form"
            )
        self._path = path

    def ids(self) -> list[str]:
        with self._open() as archive:
            entries = [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]
        return _safe_ids(self._path, entries, "entries <id>.npy")

    def load_audio(self, id: str, sample_rate: int) -> np.ndarray:
        samples, _ = self._entry(id)
        return audio.resample(samples, SAMPLE_RATE, sample_rate, f"{self._path}: recording {id}")

    def load_notes(self, id: str) -> Notes:
        _, intervals = self._entry(id)
        rows = [(start, end, *data) for start, end, data in sorted(intervals, key=lambda interval: interval[:2])]
        names = ("start_time", "end_time", "instrument", "note", "measure", "beat", "note_value")
        if any(len(row) != len(names) for row in rows):
            raise ScoreError(f"{self._path}: labels of {id} are not (instrument, note, measure, beat, note value)")
        columns = dict(zip(names, zip(*rows, strict=True), strict=True)) if rows else dict.fromkeys(names, ())
        return _notes(f"{self._path}: recording {id}", columns)

    def _open(self) -> zipfile.ZipFile:
        try:
            return zipfile.ZipFile(self._path)
        except (OSError, zipfile.BadZipFile) as error:
            raise DatasetError(f"{self._path}: not a whole npz file ({error}); fetch it again") from error

    def _entry(self, id: str) -> tuple[np.ndarray, list[_Interval]]:
        try:
            with self._open() as archive, archive.open(f"{id}.npy") as file:
                pair = _load_pickled_array(file)
            samples, intervals = pair.reshape(2).tolist()
            return np.asarray(samples, np.float32).reshape(-1), list(intervals)
        except DatasetError:
            raise
        except KeyError as error:
            raise DatasetError(f"{self._path}: holds no recording {id!r}") from error
        except Exception as error:  # a damaged pickle raises whatever it stumbles over
            raise DatasetError(f"{self._path}: entry {id} is not (samples, interval tree): {error}") from error


class _Interval(NamedTuple):
    """Stands in for `intervaltree.Interval`, which need not be installed."""

    begin: int
    end: int
    data: Any = None


_HARMLESS: Mapping[tuple[str, str], Callable[..., Any]] = {
    ("intervaltree.intervaltree", "IntervalTree"): list,
    ("intervaltree.interval", "Interval"): _Interval,
    ("_codecs", "encode"): lambda text, _codec: text.encode("latin1"),  # how protocol 2 spells bytes
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
}
# numpy's own rebuilders, under the names that numpy 1 and 2 pickle them by
_ARRAY_MODULES = ("numpy.core.multiarray", "numpy._core.multiarray")
_REBUILDERS = {"_reconstruct": np.empty(0).__reduce__()[0], "scalar": np.float64(0).__reduce__()[0]}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        allowed = _REBUILDERS.get(name) if module in _ARRAY_MODULES else _HARMLESS.get((module, name))
        if allowed is None:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which labels have no need of")
        return allowed


def _load_pickled_array(file: IO[bytes]) -> np.ndarray:
    """What `numpy.load` does to an object array, by the unpickler above."""
    version = np.lib.format.read_magic(file)
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read_header(file)
    if not dtype.hasobject:
        raise pickle.UnpicklingError(f"an array of {dtype}, not of objects")
    return _Unpickler(file, encoding="latin1").load().reshape(shape)


_LABEL_COLUMNS = ("start_time", "end_time", "instrument", "note", "note_value")


def _notes(name: str, columns: Mapping[str, Any]) -> Notes:
    """Notes of MusicNet's columns. Beats stay unknown: these two forms count them within the measure, the CSV
    from the beginning.
    """
    start, end = (np.asarray(columns[key], np.float64) / SAMPLE_RATE for key in ("start_time", "end_time"))
    pitch, instrument = (np.asarray(columns[key], np.int64) for key in ("note", "instrument"))
    text = [value.decode() if isinstance(value, bytes) else str(value) for value in columns["note_value"]]
    try:
        return Notes(start, end, pitch, None, instrument - 1, note_value=np.array(text, np.str_))  # type: ignore[arg-type]
    except ScoreError as error:
        raise ScoreError(f"{name}: {error}") from error


def _safe_ids(path: Path, ids: list[str], sought: str) -> list[str]:
    """The ids themselves, once each proved fit for a file name."""
    bad = [id for id in ids if not _ID.fullmatch(id)]
    if bad or not ids:
        raise DatasetError(f"{path}: not MusicNet; looked for {sought}" + (f", found {bad[0]!r}" if bad else ""))
    return ids


def _candidates(root: Path) -> Iterator[Path]:
    if root.is_file():
        yield root
    yield from (root / name for name in _FILES if (root / name).is_file())


def detect(root: Path, *, trust_pickle: bool) -> Form:
    """The form that lies at `root`; of several in one folder the folders first, then HDF5.

    Raises:
        DatasetError: where there is none; the message says what was looked for.
    """
    _layout.need_root(root, "musicnet")
    if Folders.present(root):
        return Folders(root)
    for path in _candidates(root):
        if path.suffix in (".h5", ".hdf5"):
            return Hdf5(path)
        if path.suffix == ".npz":
            return Npz(path, trust_pickle=trust_pickle)
    raise DatasetError(
        f"{root}: not MusicNet; looked for folders train_data and train_labels (or test_data and test_labels), "
        + " and ".join(_FILES)
    )
