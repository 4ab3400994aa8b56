"""Where an activation is greatest in time, to a fraction of a frame."""

from __future__ import annotations

import numpy as np

LOOKAHEAD = 4
"""Frames of equal activation after which a plateau counts as a peak without having been seen to fall."""


class Peaks:
    """The peaks in time of a piece of activations, by frame.

    Attributes:
        frame: at which each begins, counted from the start of the recording, `(peaks,)`.
        position: its apex, in fractional frames.
        pitch: its class.
    """

    def __init__(self, values: np.ndarray, threshold: float, first_frame: int) -> None:
        frame, self.pitch, shift = find_peaks(values, threshold)
        self.frame = first_frame + frame
        self.position = self.frame + shift  # of whole numbers first: wherever a piece begins, bits are the same
        self._bounds = np.searchsorted(frame, np.arange(len(values) - LOOKAHEAD))

    def at(self, frame: int) -> tuple[np.ndarray, np.ndarray]:
        """Classes and positions of the peaks that begin at a frame of the piece."""
        here = slice(self._bounds[frame], self._bounds[frame + 1])
        return self.pitch[here], self.position[here]


def find_peaks(values: np.ndarray, threshold: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Local maxima in time, to a fraction of a frame.

    A peak rises from the frame before it, reaches `threshold` and falls afterwards; equal neighbours
    make one peak. Training targets are triangles `max(0, 1 - |t - onset| / w)`. Three samples `a, b, c`
    round the apex of one, `b` the greatest, lie on two lines of equal slope, so that the apex is
    `(c - a) / (2 (b - min(a, c)))` frames from `b`, exactly, whatever `w >= 1.5` and the height are.

    Args:
        values: `(1 + frames + 4, classes)`: one frame before and four after those asked for; negative
            where there is none.
        threshold: least activation of a peak.

    Returns:
        Frame at which each peak begins, int64; its class, int64; how many frames its apex lies after that
        frame, float64. All `(peaks,)`, sorted by frame.
    """
    count = len(values) - 1 - LOOKAHEAD
    here = values[1 : 1 + count]
    length = np.ones(here.shape, np.int64)  # frames of equal activation
    level = np.ones(here.shape, bool)
    fell = np.zeros(here.shape, bool)
    for ahead in range(1, LOOKAHEAD + 1):
        later = values[1 + ahead : 1 + ahead + count]
        fell |= level & (later < here)
        level &= later == here
        length += level & (ahead < LOOKAHEAD)
    frame, pitch = np.nonzero((here >= threshold) & (here > values[:count]) & (fell | level))
    length = length[frame, pitch]
    top = here[frame, pitch].astype(np.float64)
    left = values[frame, pitch].astype(np.float64)
    right = values[frame + 1 + length, pitch].astype(np.float64)
    left, right = np.where(left < 0, right, left), np.where(right < 0, left, right)
    rise = top - np.minimum(left, right)
    shift = np.where((left < 0) | (rise <= 0), 0.0, (right - left) / np.maximum(2 * rise, 1e-12))
    return frame, pitch, (length - 1) / 2 + shift
