"""Recordings whose beats are plain to hear, and the geometry of models that hear them, in NumPy alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile

from musicnet_tf.events import Beats
from musicnet_tf.models import HeadSpec, ModelSpec
from musicnet_tf.timebase import FrameClock

RATE, HOP, FRAMES = 8000, 160, 100
SPEC = ModelSpec(
    clock=FrameClock(RATE, HOP, HOP // 2),
    window_length=FRAMES * HOP,
    num_frames=FRAMES,
    margin=0,
    heads={"beat": HeadSpec(1), "downbeat": HeadSpec(1)},
)
"""Of models that look at a frame at a time."""

SECONDS = 10.0
TRUTH = Beats(0.41 + np.cumsum([0, *[0.5, 0.48, 0.52, 0.5, 0.5] * 3, 0.5, 0.5]), [1, 2, 3] * 6)
"""A waltz at 120 beats a minute, not quite even."""

_BEAT, _DOWNBEAT = 0.5, 0.9  # amplitudes


def samples(beats: Beats, seconds: float = SECONDS) -> np.ndarray:
    """A click of two samples a beat, louder on downbeats; float32 mono."""
    sound = np.zeros(round(seconds * RATE), np.float32)
    for time, position in beats:
        at = round(time * RATE)
        sound[at : at + 2] = _DOWNBEAT if position == 1 else _BEAT
    return sound


def write(path: Path, beats: Beats, seconds: float = SECONDS) -> Path:
    """A WAV file of `samples`, 16 bits."""
    soundfile.write(path, samples(beats, seconds), RATE, "PCM_16")
    return path
