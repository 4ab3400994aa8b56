"""Which note of a performance is which note of the score, given beats of both."""

from __future__ import annotations

import librosa
import numpy as np
import scipy.ndimage

WIDE = (0.7, 0.75)
"""First pass: a note may lie this many seconds from where the beats expect it, or this share of the local beat,
whichever is less."""

NARROW = (0.3, 0.75)
"""Second pass, about what the notes matched first expect."""

_NEIGHBOURS = 5
_CHORD = 1e-3
_TOGETHER = 0.05
_PART = 0.7


def match(
    score_onset: np.ndarray,
    score_pitch: np.ndarray,
    onset: np.ndarray,
    pitch: np.ndarray,
    score_beats: np.ndarray,
    beats: np.ndarray,
) -> np.ndarray:
    """For each note of the score the index of the note that plays it, or -1.

    The beats give the second at which each note is expected. Notes of one pitch are then matched one to one and in
    order, so that the sum of their distances is least and no distance exceeds the tolerance; what cannot be matched
    so stays unmatched. A second pass, with less tolerance, expects each note where its matched neighbours were
    played. Notes that the score doubles, in two voices, are played by the same key.

    Args:
        score_onset, score_pitch: seconds and MIDI numbers `(n,)`.
        onset, pitch: of the performance `(m,)`, in seconds.
        score_beats, beats: seconds of the same beats in score and performance `(b,)`, `b >= 2`.
    """
    score_beats, beats = _increasing(score_beats, beats)
    expected = interpolate(score_onset, score_beats, beats)
    period = np.interp(score_onset, (score_beats[1:] + score_beats[:-1]) / 2, np.diff(beats))
    found = _match_pitches(expected, score_pitch, onset, pitch, np.minimum(WIDE[0], WIDE[1] * period))
    expected = _refined(score_onset, expected, np.where(found >= 0, onset[found], np.nan))
    return _match_pitches(expected, score_pitch, onset, pitch, np.minimum(NARROW[0], NARROW[1] * period))


def interpolate(seconds: np.ndarray, source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Piecewise linear, going on beyond both ends at the tempo of the nearest eight beats."""
    k = min(8, len(source) - 1)
    first = (target[k] - target[0]) / (source[k] - source[0])
    last = (target[-1] - target[-1 - k]) / (source[-1] - source[-1 - k])
    inside = np.interp(seconds, source, target)
    before, after = np.minimum(seconds - source[0], 0), np.maximum(seconds - source[-1], 0)
    return inside + before * first + after * last


def anchors(
    score_onset: np.ndarray, score_pitch: np.ndarray, onset: np.ndarray, pitch: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Seconds of chords of the score, and when they were played, for `match` where there are no beats.

    Chords of the performance are notes that begin within 50 ms. They are aligned with those of the score by DTW on
    the pitches that they share. A performance of fewer than 70% as many chords is taken for a part of the score.
    """
    score_times, score_chords = _chords(score_onset, score_pitch, _CHORD)
    times, chords = _chords(onset, pitch, _TOGETHER)
    shared = chords @ score_chords.T
    union = chords.sum(1)[:, None] + score_chords.sum(1)[None] - shared
    part = len(times) < _PART * len(score_times)
    _, path = librosa.sequence.dtw(C=1 - shared / union, subseq=part)
    path = path[::-1]
    path = path[shared[path[:, 0], path[:, 1]] >= union[path[:, 0], path[:, 1]] / 2]
    _, first = np.unique(path[:, 1], return_index=True)
    return score_times[path[first, 1]], times[path[first, 0]]


def _chords(onset: np.ndarray, pitch: np.ndarray, together: float) -> tuple[np.ndarray, np.ndarray]:
    """Seconds of chords, and whether each pitch is in them, float `(c, 128)`."""
    order = np.argsort(onset, kind="stable")
    times: list[float] = []
    index = np.zeros(len(onset), np.int64)
    for i in order:
        if not times or onset[i] - times[-1] > together:
            times.append(float(onset[i]))
        index[i] = len(times) - 1
    chords = np.zeros((len(times), 128))
    chords[index, pitch] = 1
    return np.array(times), chords


def _increasing(score_beats: np.ndarray, beats: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Without beats that do not come after all before them, on either side."""
    for _ in range(2):
        keep = np.concatenate([[True], np.diff(np.maximum.accumulate(score_beats)) > _CHORD])
        score_beats, beats = score_beats[keep], beats[keep]
        score_beats, beats = beats, score_beats
    return score_beats, beats


def _refined(score_onset: np.ndarray, expected: np.ndarray, played: np.ndarray) -> np.ndarray:
    """Where each note is expected, by how early or late the matched chords about it came."""
    known = np.isfinite(played)
    if not known.any():
        return expected
    chords, index = np.unique(np.round(score_onset / _CHORD), return_inverse=True)
    late = np.full(len(chords), np.nan)
    for chord in np.unique(index[known]):
        late[chord] = np.median((played - expected)[known & (index == chord)])
    filled = np.interp(chords, chords[np.isfinite(late)], late[np.isfinite(late)])
    return expected + scipy.ndimage.median_filter(filled, _NEIGHBOURS, mode="nearest")[index]


def _match_pitches(
    expected: np.ndarray, score_pitch: np.ndarray, onset: np.ndarray, pitch: np.ndarray, tolerance: np.ndarray
) -> np.ndarray:
    found = np.full(len(expected), -1, np.int64)
    for value in np.unique(score_pitch):
        wanted = np.flatnonzero(score_pitch == value)
        _, first, doubled = np.unique(np.round(expected[wanted] / _CHORD), return_index=True, return_inverse=True)
        there = np.flatnonzero(pitch == value)
        there = there[np.argsort(onset[there], kind="stable")]
        chosen = monotone(expected[wanted[first]], onset[there], tolerance[wanted[first]])
        found[wanted] = np.where(chosen >= 0, there[chosen] if len(there) else -1, -1)[doubled]
    return found


def monotone(expected: np.ndarray, played: np.ndarray, tolerance: np.ndarray) -> np.ndarray:
    """One-to-one matches in order with the least sum of distances, where leaving one out costs its tolerance.

    Args:
        expected, played: ascending seconds `(n,)` and `(m,)`.
        tolerance: seconds `(n,)`.

    Returns:
        For each expected time the index in `played`, or -1.
    """
    found = np.full(len(expected), -1, np.int64)
    low = np.searchsorted(played, expected - tolerance)
    high = np.searchsorted(played, expected + tolerance, side="right")
    start = 0
    reach = 0
    for i in range(len(expected) + 1):  # notes whose reaches do not meet are solved apart
        if i == len(expected) or (i > start and low[i] >= reach):
            found[start:i] = _solve(
                expected[start:i], played, tolerance[start:i], int(low[start:i].min(initial=0)), reach
            )
            start = i
        if i < len(expected):
            reach = max(reach, int(high[i]))
    return found


def _solve(expected: np.ndarray, played: np.ndarray, tolerance: np.ndarray, low: int, high: int) -> np.ndarray:
    """`monotone` of a group against `played[low:high]`, by dynamic programming over both."""
    n, m = len(expected), max(0, high - low)
    found = np.full(n, -1, np.int64)
    if not m:
        return found
    cost = np.abs(expected[:, None] - played[None, low:high])
    cost[cost > tolerance[:, None]] = np.inf
    best = np.zeros((n + 1, m + 1))
    for i in range(n):
        skipped, matched = best[i] + tolerance[i], best[i, :-1] + cost[i]
        best[i + 1] = np.minimum.accumulate(np.minimum(skipped, np.concatenate([[np.inf], matched])))
    i, j = n, m
    while i and j:
        if best[i, j] == best[i, j - 1]:
            j -= 1
        elif best[i, j] == best[i - 1, j] + tolerance[i - 1]:
            i -= 1
        else:
            i, j = i - 1, j - 1
            found[i] = low + j
    return found
