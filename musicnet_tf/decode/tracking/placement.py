"""A beat of the model → the peak of the activation near it, to a fraction of a frame."""

from __future__ import annotations

import numpy as np

from musicnet_tf.decode.tracking.viterbi import Segment


class Placement:
    """Activations of a recording as far as they are needed, and where in them beats are.

    A state space knows a beat to its width alone. Its time is that of the greatest activation in it, or of the one
    to which the activation rises from there. Where there is none to speak of, the beat lies in its width as the one
    before it lay.

    Args:
        audible: activation from which a peak counts.
        step: frames from one activation that the model gave to the next; those between are made up.
    """

    def __init__(self, audible: float, step: int = 1) -> None:
        self._audible = audible
        self._step = step
        self._activation = np.zeros(0)
        self._from = 0
        self._lies: float | None = None

    def push(self, activation: np.ndarray) -> None:
        """Takes the next frames, `(frames,)`."""
        self._activation = np.concatenate([self._activation, activation])

    def forget(self, frame: int) -> None:
        """No beat that is placed from now on begins before this frame."""
        count = min(max(0, frame - self._from), len(self._activation))
        self._activation = self._activation[count:]
        self._from += count

    def place(self, beat: Segment, reach: int | None = None) -> tuple[float, bool]:
        """Where a beat is, in fractional frames, and whether it is heard there.

        Args:
            beat: of the frames that came.
            reach: how far from the beat's first frame, to either side, its peak may be, and no further; by default as
                its width tells, and as the activation rises from there.
        """
        low, high = (0, beat.width) if reach is None else (-reach, reach + 1)
        low, high = (min(max(0, beat.start + i - self._from), len(self._activation)) for i in (low, high))
        if low < high:
            peak = low + int(np.argmax(self._activation[low:high]))
            if self._activation[peak] >= self._audible:
                if reach is None:
                    peak = self._risen(peak, low - beat.width, high + beat.width)
                found = self._from + peak + self._apex(peak)
                self._lies = found - beat.start
                return found, True
        return beat.start + ((beat.width - 1) / 2 if self._lies is None else self._lies), False

    def _risen(self, peak: int, low: int, high: int) -> int:
        """The top of the hill on whose side the greatest activation of a width may be."""
        values = self._activation
        for step in (1, -1):
            while max(0, low) <= peak + step < min(high, len(values)) and values[peak + step] > values[peak]:
                peak += step
        return peak

    def _apex(self, peak: int) -> float:
        """Frames from a peak to the apex of a triangle that has its height; see `decode.peaks.find_peaks`."""
        before, after = peak - self._step, peak + self._step
        if before < 0 or after >= len(self._activation):
            return 0.0
        left, top, right = self._activation[[before, peak, after]]
        rise = top - min(left, right)
        if rise <= 0 or max(left, right) > top:
            return 0.0
        return float(self._step * (right - left) / (2 * rise))
