"""The recordings that every transcriber hears, and what is played in them."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import soundfile

from musicnet_tf import audio, evaluation, files, scores
from musicnet_tf.datasets import Dataset, Recording
from musicnet_tf.datasets.bach10 import Bach10
from musicnet_tf.datasets.maps import Maps
from musicnet_tf.datasets.musicnet import MusicNet
from musicnet_tf.errors import ConfigError, DatasetError, ScoreError
from musicnet_tf.events import Beats, Notes
from musicnet_tf.registry import nearest

AnyEvents = TypeVar("AnyEvents", Beats, Notes)

SAMPLE_RATE = 44100
"""Of what all are given; each resamples it to its own rate by its own means."""

CORPORA: dict[str, Callable[[Path], Dataset]] = {
    "maps": lambda root: Maps(root=root / "maps"),
    "bach10": lambda root: Bach10(root=root / "bach10", stems=False),
    "bach10_stems": lambda root: Bach10(root=root / "bach10"),
    "musicnet": lambda root: MusicNet(root=root / "musicnet"),
}


@dataclasses.dataclass(frozen=True)
class Sound:
    """A recording, or its beginning.

    Attributes:
        corpus, name: which.
        audio: WAV, 16 bits, mono, at `SAMPLE_RATE`.
        seconds: its length.
        identity: fingerprint of its sound.
    """

    corpus: str
    name: str
    audio: Path
    seconds: float
    identity: str

    @property
    def id(self) -> str:
        """Corpus and name, as a relative path."""
        return f"{self.corpus}/{self.name}"


@dataclasses.dataclass(frozen=True)
class Piece(Sound):
    """A recording and the notes that are played in it."""

    notes: Notes


def gather(
    data_dir: Path,
    corpora: Sequence[str],
    split: str,
    cache: Path,
    seconds: float | None = None,
    musicnet_labels: Path | None = None,
) -> list[Piece]:
    """The recordings of a split, with their sound in `cache`.

    Args:
        data_dir: holds a folder for each corpus.
        corpora: names in `CORPORA`.
        split: `validation`, `test` …
        cache: for the WAVs; those that are there are not made again.
        seconds: only so much of the beginning of each.
        musicnet_labels: folder of `<id>.csv` in MusicNet's columns, in place of the published labels.

    Raises:
        ConfigError: for an unknown corpus.
        DatasetError, AudioError, ScoreError: where a corpus, recording or label file is not what it should be.
    """
    pieces = []
    for corpus in corpora:
        if corpus not in CORPORA:
            raise ConfigError(f"unknown corpus {corpus!r}{nearest(corpus, CORPORA)}; choose from: {', '.join(CORPORA)}")
        dataset = CORPORA[corpus](data_dir)
        for recording in evaluation.select(dataset, split):
            if corpus == "bach10_stems" and recording.id == recording.work:
                continue  # the mix
            labels = musicnet_labels if corpus == "musicnet" else None
            notes = _labels_in(labels, recording.id) if labels else dataset.load_notes(recording)
            sound = sound_of(corpus, dataset, recording, cache, seconds)
            pieces.append(Piece(**vars(sound), notes=beginning(notes, sound.seconds)))
    return pieces


def sound_of(corpus: str, dataset: Dataset, recording: Recording, cache: Path, seconds: float | None = None) -> Sound:
    """A recording's sound, which is written into `cache` where it is not there; or only its first `seconds`."""
    path = cache / corpus / f"{recording.id}{f'.{seconds:g}s' if seconds else ''}.wav"
    if not path.is_file():
        _write_wav(path, dataset.load_audio(recording, SAMPLE_RATE), seconds)
    length = soundfile.info(path).frames / SAMPLE_RATE
    return Sound(corpus, recording.id, path, length, hashlib.sha256(path.read_bytes()).hexdigest()[:16])


def beginning(notes: Notes, seconds: float) -> Notes:
    """The notes that begin before an instant, none sounding beyond it."""
    kept = notes[notes.onset < seconds]
    return scores.with_columns(kept, offset=np.minimum(kept.offset, seconds))


def read_estimate(path: Path) -> Notes:
    """Notes as `driver.py` writes them. Those without length, which some transcribers give, are left out.

    Raises:
        DatasetError: where it is no such table.
    """
    return read_table(path, 4, _notes_of, "notes of a transcriber")


def _notes_of(table: np.ndarray) -> Notes:
    onset, offset, pitch, velocity = table[table[:, 1] > table[:, 0]].T
    return Notes(onset, offset, pitch.astype(np.int64), np.clip(velocity, 1, 127).astype(np.int64))


def read_table(path: Path, columns: int, events: Callable[[np.ndarray], AnyEvents], what: str) -> AnyEvents:
    """The events in a table of numbers below one line of names, as drivers write them.

    Args:
        path: of the CSV.
        columns: how many it has.
        events: float64 `(rows, columns)` → events.
        what: it holds, for messages.

    Raises:
        DatasetError: where it is no such table.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()[1:]
        return events(np.array([line.split(",") for line in lines], np.float64).reshape(-1, columns))
    except (OSError, ValueError, ScoreError) as error:
        raise DatasetError(f"{path}: not {what} ({error}); remove it, and run again") from error


def _labels_in(folder: Path, name: str) -> Notes:
    path = folder / f"{name}.csv"
    if not path.is_file():
        raise DatasetError(f"{path}: not found; --musicnet_labels names a folder with a table for every recording")
    return scores.read_musicnet_csv(path)


def _write_wav(path: Path, samples: np.ndarray, seconds: float | None) -> None:
    samples = samples[: round(seconds * SAMPLE_RATE)] if seconds else samples
    files.make_folder(path.parent)
    with files.atomic(path) as part:
        soundfile.write(part, audio.quantise(samples), SAMPLE_RATE, subtype="PCM_16")
