"""Tones as a corpus of tags, and a model without learning that hears them: for tests that need tags in sound."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from musicnet_tf.datasets import Recording
from musicnet_tf.datasets._tagged import TaggedDataset
from musicnet_tf.errors import AudioError
from musicnet_tf.events import TagSpans
from musicnet_tf.manifest import Manifest
from musicnet_tf.models import HeadSpec, ModelSpec
from musicnet_tf.timebase import FrameClock

SAMPLE_RATE, FRAMES = 8000, 3
HERTZ = {"low": 300.0, "mid": 700.0, "high": 1500.0, "never": 2500.0}
LOUDNESS = {"low": 0.4, "mid": 0.3, "high": 0.1}
"""Of its whole scale, the model hears a tone as its amplitude over 0.4."""

Stretch = tuple[float, float, str]
RECORDINGS: dict[str, tuple[str, float, list[Stretch]]] = {
    "duo": ("validation", 6.0, [(0.0, 4.0, "low"), (2.0, 6.0, "high")]),
    "solo": ("validation", 4.0, [(1.0, 4.0, "mid")]),
    "trio": ("test", 8.0, [(0.0, 8.0, "low"), (2.0, 5.0, "mid"), (4.0, 7.0, "high")]),
    "brief": ("test", 4.5, [(0.0, 4.5, "low"), (3.8, 4.0, "mid"), (0.0, np.inf, "ensemble/duo")]),
    "silent": ("test", 3.0, [(0.0, np.inf, "ensemble/none")]),
}
"""Id → split, seconds, and stretches that bear a tag; tones sound where they are told, and nothing else does."""


class Tones(TaggedDataset):
    """Sines. `root` is not read; recording `broken` cannot be, and the tags of `untold` are not told."""

    name: ClassVar[str] = "tones"
    description: ClassVar[str] = "tones"
    licence: ClassVar[str] = "CC0"
    source: ClassVar[str] = "tests"

    broken: bool = False
    untold: bool = False

    def recordings(self) -> list[Recording]:
        more = [id for id in ("broken", "untold") if getattr(self, id)]
        rows = [*((id, row[0]) for id, row in RECORDINGS.items()), *((id, "test") for id in more)]
        return [Recording(id, split, id) for id, split in sorted(rows)]  # type: ignore[arg-type]

    def load_audio(self, recording: Recording, sample_rate: int) -> np.ndarray:
        if recording.id == "broken":
            raise AudioError("broken.wav: cannot be read")
        _, seconds, stretches = RECORDINGS[recording.id if recording.id != "untold" else "silent"]
        time = np.arange(round(seconds * sample_rate)) / sample_rate
        audio = np.zeros(len(time))
        for start, stop, tag in stretches:
            if tag in LOUDNESS:
                audio += LOUDNESS[tag] * np.sin(2 * np.pi * HERTZ[tag] * time) * ((time >= start) & (time < stop))
        return audio.astype(np.float32)

    def load_tags(self, recording: Recording) -> TagSpans | None:  # type: ignore[override]
        return None if recording.id in ("untold", "broken") else tags_of(recording.id)


def tags_of(id: str) -> TagSpans:
    """What bears which tag."""
    return TagSpans(*zip(*RECORDINGS[id][2], strict=True))  # type: ignore[arg-type]


class ToneEar:
    """How loud is the tone of each tag in each second? Named as a trained model is."""

    def __init__(self, decoder: dict[str, Any] | None = None, least_seconds: float = 0.0) -> None:
        head = HeadSpec(len(HERTZ), labels=tuple(HERTZ))
        heads = {"tag": head, "embedding": HeadSpec(2)}
        spec = ModelSpec(FrameClock(SAMPLE_RATE, SAMPLE_RATE, SAMPLE_RATE // 2), FRAMES * SAMPLE_RATE, FRAMES, 0, heads)
        self.manifest = Manifest(
            name="tone_ear",
            task="tags",
            spec=spec.to_dict(),
            decoder=decoder or {},
            experiment={"task": {"least_seconds": least_seconds}},
        )

    def __call__(self, windows: np.ndarray) -> dict[str, np.ndarray]:
        segments = windows.reshape(len(windows), FRAMES, SAMPLE_RATE)
        time = np.arange(SAMPLE_RATE) / SAMPLE_RATE
        tones = np.exp(2j * np.pi * np.outer(time, [*HERTZ.values()]))
        heard = np.abs(segments @ tones) * 2 / SAMPLE_RATE / 0.4
        return {"tag": np.clip(heard, 0, 1).astype(np.float32), "embedding": segments[..., :2]}
