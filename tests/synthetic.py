"""A small corpus in MusicNet's layout, made of sums of decaying harmonics, for tests that need sound and labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile

from musicnet_tf.events import Notes
from musicnet_tf.scores import format_musicnet_csv

LABEL_RATE = 44100
"""Of the times in MusicNet's label files, whatever rate the audio has."""

TRAIN = {"1001": 5.0, "1002": 3.5, "1003": 4.2, "1004": 3.0}
VALIDATION = {"2001": 4.6, "2002": 3.3}
"""Ids and seconds of the recordings of the tiny corpus."""


def random_notes(rng: np.random.Generator, seconds: float, count: int) -> Notes:
    """Notes on the grid of `LABEL_RATE` that begin and end within `seconds`."""
    onset = rng.integers(0, round((seconds - 0.5) * LABEL_RATE), count)
    length = rng.integers(round(0.1 * LABEL_RATE), round(0.5 * LABEL_RATE), count)
    pitch, instrument = rng.integers(40, 85, count), rng.choice([0, 40, 42], count)
    return Notes(onset / LABEL_RATE, (onset + length) / LABEL_RATE, pitch, instrument=instrument)


def synthesise(notes: Notes, sample_rate: int, seconds: float, harmonics: int = 4) -> np.ndarray:
    """Each note as harmonics of amplitude 1/h that decay by e in 0.5 s; float32 mono, peak at most 0.5."""
    sound = np.zeros(round(seconds * sample_rate))
    for note in notes:
        first, after = round(note.onset * sample_rate), min(round(note.offset * sample_rate), len(sound))
        time = np.arange(after - first) / sample_rate
        hertz = 440.0 * 2.0 ** ((note.pitch - 69) / 12)
        partials = [np.sin(2 * np.pi * h * hertz * time) / h for h in range(1, harmonics + 1)]
        sound[first:after] += np.sum(partials, axis=0) * np.exp(-2 * time)
    return (0.5 * sound / max(np.abs(sound).max(), 1e-9)).astype(np.float32)


def write_musicnet(root: Path, recordings: dict[str, float], sample_rate: int = 16000, seed: int = 0) -> Path:
    """Writes `train_data/<id>.wav` and `train_labels/<id>.csv` for each id and length in seconds."""
    for folder in ("train_data", "train_labels"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for name, seconds in recordings.items():
        rng = np.random.default_rng([seed, int(name)])
        notes = random_notes(rng, seconds, round(4 * seconds))
        sound = synthesise(notes, sample_rate, seconds)
        soundfile.write(root / "train_data" / f"{name}.wav", sound, sample_rate, subtype="PCM_16")
        (root / "train_labels" / f"{name}.csv").write_text(format_musicnet_csv(notes))
    return root
