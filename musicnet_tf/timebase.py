"""The only place where samples, frames and seconds are turned into one another."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

from musicnet_tf.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class FrameClock:
    """A uniform grid of frames over a stretch of audio.

    Frame `k` speaks for the instant at sample `origin + k * hop_length`, the *centre* of whatever
    analysis window produced it. A transform padded so that frame 0 is centred on sample 0 has
    `origin=0` (librosa's `center=True`); one that reads whole windows of `n` samples has
    `origin=n // 2` (the MusicNet paper's midpoint). The convention is a field, never an offset
    constant elsewhere.

    Attributes:
        sample_rate: samples a second.
        hop_length: samples from one frame to the next.
        origin: sample index at the centre of frame 0.
    """

    sample_rate: int
    hop_length: int
    origin: int = 0

    def __post_init__(self) -> None:
        for name in ("sample_rate", "hop_length"):
            if getattr(self, name) <= 0:
                raise ConfigError(f"FrameClock.{name} must be positive, got {getattr(self, name)}")

    @property
    def frame_rate(self) -> float:
        """Frames a second."""
        return self.sample_rate / self.hop_length

    def frame_to_sample(self, frame: npt.ArrayLike) -> np.ndarray:
        """Centre of each frame in samples; fractional frames are allowed."""
        return np.asarray(frame) * self.hop_length + self.origin

    def frame_to_time(self, frame: npt.ArrayLike) -> np.ndarray:
        """Centre of each frame in seconds; fractional frames are allowed."""
        return self.frame_to_sample(frame) / self.sample_rate

    def sample_to_frame(self, sample: npt.ArrayLike) -> np.ndarray:
        """Fractional frame index of each sample."""
        return (np.asarray(sample, dtype=np.float64) - self.origin) / self.hop_length

    def time_to_frame(self, seconds: npt.ArrayLike) -> np.ndarray:
        """Fractional frame index of each instant in seconds."""
        return self.sample_to_frame(np.asarray(seconds, dtype=np.float64) * self.sample_rate)

    def num_frames(self, num_samples: int) -> int:
        """How many frames have their centre within the first `num_samples` samples."""
        return max(0, -((self.origin - num_samples) // self.hop_length))

    def times(self, num_frames: int) -> np.ndarray:
        """Centres of the first `num_frames` frames in seconds, float64 `(num_frames,)`."""
        return self.frame_to_time(np.arange(num_frames))
