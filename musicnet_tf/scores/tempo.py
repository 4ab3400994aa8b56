"""Quarter notes ↔ nominal seconds: the tempo map of a score."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from musicnet_tf.errors import ScoreError

DEFAULT_TEMPO = 120.0
"""Quarter notes a minute where a score tells none, as in MIDI."""

MIN_TEMPO, MAX_TEMPO = 5.0, 1000.0
"""Quarter notes a minute outside of which a tempo mark is taken for damage."""


class TempoMap:
    """Tempi that hold from their place onwards.

    Args:
        marks: (quarter notes from the beginning, quarter notes a minute) in any order. Of several at one
            place the last counts. Before the first, `DEFAULT_TEMPO` holds.
        source: the file, which errors name.

    Raises:
        ScoreError: on a tempo outside `MIN_TEMPO`–`MAX_TEMPO`, naming it and its place.
    """

    def __init__(self, marks: Sequence[tuple[float, float]], source: object) -> None:
        tempi = {0.0: DEFAULT_TEMPO} | dict(sorted(marks, key=lambda mark: mark[0]))
        self._beats = np.array(list(tempi))
        lengths = np.array([60.0 / tempo if tempo > 0 else np.inf for tempo in tempi.values()])
        for beat, tempo in tempi.items():
            if not MIN_TEMPO <= tempo <= MAX_TEMPO:
                index = int(np.searchsorted(self._beats, beat))
                second = float(np.sum(np.diff(self._beats[: index + 1]) * lengths[:index]))
                raise ScoreError(
                    f"{source}: a tempo of {tempo:g} quarter notes a minute at quarter note {beat:g} ({second:.1f} s)"
                    f" is outside {MIN_TEMPO:g}–{MAX_TEMPO:g}; correct it, or ignore all tempi by tempo: constant"
                )
        self._lengths = lengths
        self._seconds = np.concatenate([[0.0], np.cumsum(np.diff(self._beats) * lengths[:-1])])

    def seconds(self, beats: np.ndarray) -> np.ndarray:
        """Nominal seconds of places in quarter notes from the beginning."""
        beats = np.asarray(beats, np.float64)
        index = np.searchsorted(self._beats, beats, side="right") - 1
        return self._seconds[index] + (beats - self._beats[index]) * self._lengths[index]
