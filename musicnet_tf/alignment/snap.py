"""Notes → the onsets of their own pitch that a transcription model hears near them.

After Maman and Bermano, Unaligned supervision for automatic music transcription in the wild, ICML 2022.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from musicnet_tf.alignment.hearing import Heard
from musicnet_tf.alignment.label_evidence import Peaks
from musicnet_tf.decode.peaks import find_peaks
from musicnet_tf.events import Notes

SAME_ONSET = 0.02
"""Seconds within which notes begin together."""

_LOOKAHEAD = 4  # frames that `find_peaks` wants after the last
_SHORTEST_SECONDS = 0.01
_LEAST_LENGTH = 0.5


class Snapped(NamedTuple):
    """Onsets that notes took: seconds, NaN where there is none, and the activation of the peak, both `(n,)`."""

    onset: np.ndarray
    strength: np.ndarray


def heard_peaks(heard: Heard, least: float) -> Peaks:
    """Every onset that a model hears, to a fraction of a frame, by pitch and then by time.

    Args:
        heard: by `hearing.hear`.
        least: activation of a peak; see `decode.peaks.find_peaks`, whose parabola's place the exact apex of the
            training targets' triangle takes.
    """
    activations = heard.heads["onset"]
    padded = np.pad(activations, ((1, _LOOKAHEAD), (0, 0)), constant_values=-1.0)
    frame, column, shift = find_peaks(padded, least)
    time = heard.clock.frame_to_time(frame + shift)
    order = np.lexsort((time, column))
    return Peaks(time[order], column[order] + heard.first_pitch, activations[frame, column][order])


def snap(onset: np.ndarray, pitch: np.ndarray, peaks: Peaks, reach: float, width: float) -> Snapped:
    """Gives notes peaks of their own pitch, in order, so that the sum of weighted strengths is the greatest.

    A peak's strength counts as much as a bell of standard deviation `width` around the note leaves of it. A peak
    is taken by one note alone, and notes of a pitch stay in order; only notes of one pitch that begin together
    (a unison of two instruments) share a peak.

    Args:
        onset: seconds, float64 `(n,)`, in any order.
        pitch: MIDI numbers `(n,)`.
        peaks: where notes may begin.
        reach: seconds beyond which no peak is taken.
        width: seconds.
    """
    snapped = Snapped(np.full(len(onset), np.nan), np.zeros(len(onset)))
    for value in np.unique(pitch).tolist():
        there, rows = peaks.of(value), np.flatnonzero(pitch == value)
        rows = rows[np.argsort(onset[rows], kind="stable")]
        apart = np.diff(onset[rows]) > 2 * reach  # no peak is in reach of notes on both sides
        for together in np.split(rows, np.flatnonzero(apart) + 1):
            _assign(onset, together, there, reach, width, snapped)
    return snapped


def _assign(onset: np.ndarray, rows: np.ndarray, peaks: Peaks, reach: float, width: float, snapped: Snapped) -> None:
    """Fills in the peaks that notes of one pitch, sorted by onset, take."""
    first, after = np.searchsorted(peaks.time, [onset[rows[0]] - reach, onset[rows[-1]] + reach])
    time, strength = peaks.time[first:after], peaks.strength[first:after]
    group = np.cumsum(np.diff(onset[rows], prepend=onset[rows[0]]) > SAME_ONSET)
    place = onset[rows[np.searchsorted(group, np.arange(group[-1] + 1))]]
    distance = time - place[:, np.newaxis]
    gain = np.where(np.abs(distance) <= reach, strength * np.exp(-0.5 * (distance / width) ** 2), 0.0)
    taken = _in_order(gain)
    has = taken[group] >= 0
    snapped.onset[rows[has]] = time[taken[group][has]]
    snapped.strength[rows[has]] = strength[taken[group][has]]


def _in_order(gain: np.ndarray) -> np.ndarray:
    """For each row the column that it takes, -1 for none: columns rise with rows, and gains sum to the most."""
    rows, columns = gain.shape
    best = np.zeros((rows + 1, columns + 1))  # of the first rows and columns
    for row in range(rows):
        taking = np.maximum(best[row, 1:], best[row, :-1] + gain[row])
        best[row + 1, 1:] = np.maximum.accumulate(taking)
    taken = np.full(rows, -1)
    row, column = rows, columns
    while row and column:
        if best[row, column] == best[row, column - 1]:
            column -= 1
        elif best[row, column] == best[row - 1, column]:
            row -= 1
        else:
            row, column = row - 1, column - 1
            taken[row] = column
    return taken


def ends(notes: Notes, onset: np.ndarray, offset: np.ndarray) -> np.ndarray:
    """Offsets that leave each note half its length at least, and that go into no next note which they did not."""
    length = notes.offset - notes.onset
    offset = np.maximum(offset, onset + np.maximum(_LEAST_LENGTH * length, _SHORTEST_SECONDS))
    rows = np.lexsort((notes.onset, notes.instrument, notes.pitch))
    here, after = rows[:-1], rows[1:]
    same = (notes.pitch[here] == notes.pitch[after]) & (notes.instrument[here] == notes.instrument[after])
    same &= (notes.offset[here] <= notes.onset[after]) & (onset[after] >= onset[here] + _SHORTEST_SECONDS)
    offset[here[same]] = np.minimum(offset[here[same]], onset[after[same]])
    return offset
