"""Local maxima of a beat activation."""

from __future__ import annotations

import numpy as np


class PeakPicker:
    """Peaks: the greatest of the frames around them, and of at least a threshold (Böck & Schedl, DAFx 2011).

    Frames come in pieces, and however they are cut, the peaks are the same. Of equal neighbours the middle one counts.

    >>> picker = PeakPicker(threshold=0.5, reach=2)
    >>> picker.push(np.array([0.0, 0.9, 0.2, 0.6, 0.1, 0.1, 0.3, 0.8, 0.8]))  # 0.6 is too near to 0.9
    [1.0]
    >>> picker.finish()
    [7.5]

    Args:
        threshold: least activation of a peak.
        reach: frames to either side in which none is greater.
    """

    def __init__(self, threshold: float, reach: int) -> None:
        self._threshold = threshold
        self._reach = max(1, reach)
        self._values = np.full(self._reach, -np.inf)  # before the recording
        self._from = -self._reach
        self._plateau: list[int] = []

    @property
    def look_ahead(self) -> int:
        """Frames after a peak that must be seen: those around it, and those that are equal to it."""
        return 2 * self._reach + 1

    def push(self, activation: np.ndarray) -> list[float]:
        """Takes the next frames, `(frames,)`; gives the peaks that are complete, in fractional frames."""
        self._values = np.concatenate([self._values, activation])
        count = len(self._values) - 2 * self._reach
        if count <= 0:
            return []
        windows = np.lib.stride_tricks.sliding_window_view(self._values, 2 * self._reach + 1)
        middle = self._values[self._reach : self._reach + count]
        high = np.flatnonzero((middle >= self._threshold) & (middle >= windows.max(axis=1)))
        first = self._from + self._reach
        peaks = []
        for frame in (first + high).tolist():
            peaks += self._closed(frame)
            self._plateau.append(frame)
        peaks += self._closed(first + count)
        self._values, self._from = self._values[count:], self._from + count
        return peaks

    def finish(self) -> list[float]:
        """The peaks up to the end."""
        return self.push(np.full(self._reach, -np.inf)) + self._closed(None)

    def _closed(self, frame: int | None) -> list[float]:
        """The plateau before a frame, where the frame does not go on with it."""
        if not self._plateau or (frame is not None and frame - self._plateau[0] <= self._reach):
            return []
        peak = (self._plateau[0] + self._plateau[-1]) / 2
        self._plateau = []
        return [peak]
