"""Clicks as a corpus, and a model without learning that hears them: for tests that need beats in sound."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from musicnet_tf.beat_writers import with_clicks
from musicnet_tf.datasets import Dataset, Recording
from musicnet_tf.errors import AudioError
from musicnet_tf.events import UNKNOWN, Beats, Notes
from musicnet_tf.manifest import Manifest
from musicnet_tf.models import HeadSpec, ModelSpec
from musicnet_tf.timebase import FrameClock

SAMPLE_RATE, HOP, FRAMES, MARGIN = 8000, 160, 250, 10
_CLICK_HZ = {"beat": 1000.0, "downbeat": 1500.0}

RECORDINGS: dict[str, tuple[str, float, int, float]] = {
    "andante": ("validation", 90.0, 3, 24.0),
    "allegro": ("validation", 132.0, 4, 20.0),
    "vivace": ("test", 160.0, 4, 16.0),
    "free": ("test", 100.0, UNKNOWN, 16.0),
    "silent": ("test", 100.0, 0, 12.0),
    "brief": ("test", 100.0, 4, 4.5),
}
"""Id → split, tempo, beats in a bar (`UNKNOWN` where the downbeats are not told, 0 where no beats are), and seconds."""


class Clicks(Dataset):
    """A click a beat, higher on downbeats. `root` is not read; recording `broken`, if asked for, cannot be."""

    name: ClassVar[str] = "clicks"
    description: ClassVar[str] = "clicks"
    licence: ClassVar[str] = "CC0"
    source: ClassVar[str] = "tests"

    broken: bool = False

    def recordings(self) -> list[Recording]:
        found = [Recording(id, row[0], id, {"composer": "none"}) for id, row in sorted(RECORDINGS.items())]
        return found + ([Recording("broken", "validation", "broken")] if self.broken else [])

    def load_audio(self, recording: Recording, sample_rate: int) -> np.ndarray:
        if recording.id == "broken":
            raise AudioError("broken.wav: cannot be read")
        silence = np.zeros(round(RECORDINGS[recording.id][3] * sample_rate), np.float32)
        return np.concatenate([*with_clicks(iter([silence]), sample_rate, beats_of(recording.id))])

    def load_notes(self, recording: Recording) -> Notes:
        return Notes.empty()

    def load_beats(self, recording: Recording) -> Beats | None:
        told = RECORDINGS.get(recording.id, ("", 0, 0, 0))[2]
        if not told:
            return None
        return beats_of(recording.id) if told != UNKNOWN else Beats(beats_of(recording.id).time)


def beats_of(id: str) -> Beats:
    """Where the clicks are, all of them, told or not."""
    _, tempo, beats_per_bar, seconds = RECORDINGS[id]
    time = np.arange(0.3, seconds - 0.2, 60 / tempo)
    return Beats(time, np.arange(len(time)) % (beats_per_bar if beats_per_bar > 0 else 4) + 1)


class ClickEar:
    """How loud are a beat's and a downbeat's sine in the 20 ms from each frame on? Named as a trained model is."""

    def __init__(self, decoder: dict | None = None, heads: tuple[str, ...] = ("beat", "downbeat")) -> None:
        clock = FrameClock(SAMPLE_RATE, HOP, 0)
        self._heads = heads
        spec = ModelSpec(clock, FRAMES * HOP, FRAMES, MARGIN, {name: HeadSpec(1) for name in heads})
        self.manifest = Manifest(name="click_ear", task="beats", spec=spec.to_dict(), decoder=decoder or {})

    def __call__(self, windows: np.ndarray) -> dict[str, np.ndarray]:
        segments = windows.reshape(len(windows), FRAMES, HOP)
        time = np.arange(HOP) / SAMPLE_RATE
        heard = {}
        for name, hertz in _CLICK_HZ.items():
            strength = np.abs(segments @ np.exp(2j * np.pi * hertz * time)) / HOP
            rise = np.maximum(0, strength - np.pad(strength, ((0, 0), (1, 0)))[:, :-1])
            heard[name] = np.clip(rise[..., np.newaxis] / 0.08, 0, 0.98).astype(np.float32)
        heard["beat"] = np.maximum(heard["beat"], heard["downbeat"])
        return {name: heard[name] for name in self._heads}
