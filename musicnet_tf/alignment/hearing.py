"""What a transcription model hears in a sound, for all that aligns or moves notes by it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from musicnet_tf import audio as sounds
from musicnet_tf import windowing
from musicnet_tf.errors import AudioError, ModelError
from musicnet_tf.timebase import FrameClock

if TYPE_CHECKING:
    from musicnet_tf.transcription import Predictor


class Heard(NamedTuple):
    """What a model hears in a recording.

    Attributes:
        heads: name → activations, float32 `(frames, pitches)`; `frame` and `onset` are there.
        clock: when each frame is.
        first_pitch: MIDI number of column 0.
    """

    heads: dict[str, np.ndarray]
    clock: FrameClock
    first_pitch: int

    @property
    def num_frames(self) -> int:
        return len(self.heads["onset"])


def hear(audio: np.ndarray, sample_rate: int, predictor: Predictor) -> Heard:
    """Runs a transcription model over float32 mono audio `(n,)`.

    Raises:
        ModelError: where the model has no heads `onset` and `frame` of equal pitches.
        AudioError: where the recording is shorter than two frames.
    """
    spec = predictor.manifest.geometry
    onset, frame = (spec.heads.get(name) for name in ("onset", "frame"))
    if onset is None or onset != frame:
        raise ModelError(
            f"model {predictor.manifest.name!r} has no heads onset and frame of the same pitches;"
            " take one that hears onsets, such as notes_harmonic_cnn"
        )
    resampled = sounds.resample(audio, sample_rate, spec.clock.sample_rate, "the recording")
    clock = windowing.recording_clock(spec)
    if clock.num_frames(len(resampled)) < 2:
        raise AudioError("the recording is shorter than two frames of the model; is it the right file?")
    return Heard(windowing.posteriorgram(resampled, spec, predictor), clock, onset.first_pitch)
