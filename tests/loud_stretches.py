"""A recording that is loud, soft and silent in turn, and a model that hears which, in NumPy alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile

from musicnet_tf.decode.tags import TagDecoding
from musicnet_tf.manifest import Manifest
from musicnet_tf.models import HeadSpec, ModelSpec
from musicnet_tf.timebase import FrameClock

RATE, HOP, FRAMES = 8000, 4000, 4
NAMES = ("silence", "sound", "loud")
SPEC = ModelSpec(
    clock=FrameClock(RATE, HOP, HOP // 2),
    window_length=FRAMES * HOP,
    num_frames=FRAMES,
    margin=0,
    heads={"tag": HeadSpec(3, labels=NAMES), "embedding": HeadSpec(2)},
)
"""Of a model that hears half a second at a time."""

WEIGHTS, BIASES = (-200.0, 200.0, 200.0), (20.0, -20.0, -80.0)
"""Logits by the mean amplitude of a stretch: there is sound above a tenth, and it is loud above four tenths."""
EMBEDDING = (-3.0, 10.0)
"""By the same, far from [0, 1]."""

AMPLITUDES = [0.75, 0.75, 0.25, 0.25, 0.25, 0.0, 0.0, 0.9]
"""Of half seconds, the last of which is cut."""
SECONDS = 3.75
MANIFEST = Manifest(name="loudness", task="tags", spec=SPEC.to_dict(), decoder=TagDecoding().model_dump(mode="json"))


class Loudness:
    """The predictor."""

    manifest = MANIFEST

    def __call__(self, windows: np.ndarray) -> dict[str, np.ndarray]:
        level = np.abs(windows).reshape(len(windows), FRAMES, HOP).mean(axis=2, keepdims=True)
        logits = level * WEIGHTS + BIASES
        return {"tag": 1 / (1 + np.exp(-logits)), "embedding": level * EMBEDDING}


def write(path: Path) -> Path:
    """A WAV file, 16 bits."""
    samples = np.repeat(AMPLITUDES, HOP)[: round(SECONDS * RATE)]
    samples[1::2] *= -1
    soundfile.write(path, samples, RATE, "PCM_16")
    return path
