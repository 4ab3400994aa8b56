"""Do labels lie where their notes begin? A calibrated answer a label, and the share that does not.

Around each label, windows of the tolerance's width are looked at for onsets of its pitch (`label_evidence`). What
windows show where no label is near tells how much evidence chance gives (apart for windows in which nothing, other
pitches or harmonically related pitches are labelled). What they show at the labels is a mixture:

- with probability 1 - e a label is right, and its own window shows what true onsets show;
- with probability e it is displaced: its own window shows what chance does, and one of those around it, each as
  likely as the others, a true onset.

The share e and what true onsets show are found by maximum likelihood (expectation-maximisation). A masked onset shows
nothing anywhere and says little for either side: it is left undecided, and does not count as an error by itself.
"""

from __future__ import annotations

import dataclasses
from typing import Literal, NamedTuple

import numpy as np
import pydantic

from musicnet_tf.alignment.label_evidence import HIGHEST, LOWEST, Peaks
from musicnet_tf.errors import ScoreError
from musicnet_tf.events import Notes

Verdict = Literal["aligned", "misaligned", "undecided"]
VERDICTS: tuple[Verdict, ...] = ("aligned", "misaligned", "undecided")

_NULL_QUANTILES = (0.5, 0.7, 0.8, 0.87, 0.92, 0.95, 0.97, 0.983, 0.99, 0.995)
_TYPICAL = np.array([0.036, 0.017, 0.017, 0.020, 0.027, 0.035, 0.051, 0.064, 0.071, 0.096, 0.566])
"""Share of true onsets between those quantiles: mean over 12 MAPS pieces and two Bach10 chorales."""
_TYPICAL_LABELS, _TYPICAL_SHARE = 5.0, 0.15
"""What this knowledge counts: so many labels and this share of those at hand. Without it, labels of another piece,
which show chance alone, would pass for labels of masked notes."""
_CONTEXT_WEIGHT = 50.0  # windows
_RELATED = (5, 7, 12, 19, 24, 28, 31)  # semitones between pitches whose harmonics meet
_MAX_EXPLAINED = 0.5
_DECISIVE_FOR, _DECISIVE_AGAINST = 3.0, 0.1
_MODE_BIN = 0.01
_STARTS = (0.05, 0.7)
_ITERATIONS, _CONVERGED = 300, 1e-6


class CheckSettings(pydantic.BaseModel):
    """How labels are judged.

    Attributes:
        tolerance: seconds by which an onset may lie off its label.
        reach: seconds around a label in which its note is looked for.
        chance_reach: seconds around a label from which the evidence that chance gives is learnt.
        offset_reach: seconds of systematic offset that are looked for.
        remove_offset: judge the labels after moving them all by the systematic offset.
    """

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    tolerance: float = pydantic.Field(0.05, ge=0.02, le=0.3)
    reach: float = pydantic.Field(0.6, gt=0, le=5)
    chance_reach: float = pydantic.Field(2.0, gt=0, le=20)
    offset_reach: float = pydantic.Field(0.4, ge=0.05, le=2)
    remove_offset: bool = True

    @pydantic.model_validator(mode="after")
    def _nested(self) -> CheckSettings:
        if not 2 * self.tolerance <= self.reach <= self.chance_reach:
            raise ValueError("twice the tolerance must be at most the reach, and that at most the chance_reach")
        return self


@dataclasses.dataclass(frozen=True)
class Judged:
    """What was found of the labels of one recording, in the order of `notes`.

    Attributes:
        notes: the labels.
        offset: seconds by which all labels were moved before they were judged, positive where the sound comes
            later than they say; what follows is relative to it. 0.0 without `remove_offset`.
        share: estimated share of misaligned labels.
        probability: that a label is misaligned, float64 `(n,)`. Their mean over any part of the labels estimates
            the share in that part. NaN where nothing can be told: pitches off the piano, and notes repeated
            so fast that some onset is always near.
        verdict: indices into `VERDICTS`, where the label's own evidence is decisive, int8 `(n,)`.
        displacement: seconds from the label, moved by `offset`, to the likeliest onset, float64 `(n,)`; NaN
            where undecided.
    """

    notes: Notes
    offset: float
    share: float
    probability: np.ndarray
    verdict: np.ndarray
    displacement: np.ndarray


def judge(peaks: Peaks, notes: Notes, duration: float, settings: CheckSettings | None = None) -> Judged:
    """Judges every label of a recording.

    Args:
        peaks: of the whole recording, by `label_evidence.onset_peaks`.
        notes: its labels.
        duration: of the recording in seconds; a label that begins after it is misaligned.
        settings: see there.

    Raises:
        ScoreError: where there are no labels.
    """
    settings = settings or CheckSettings()
    if not len(notes):
        raise ScoreError("no labels to check: give a label file with at least one note")
    heard = systematic_offset(peaks, notes, settings.offset_reach)
    offset = heard if settings.remove_offset else 0.0
    windows = _look(peaks, notes, offset, heard, duration, settings)
    known = windows.decidable
    outside = notes.onset + offset > duration + settings.tolerance
    probability = np.where(outside, 1.0, np.nan)
    fit = _fit(windows, known & ~outside)
    probability[known & ~outside] = fit.probability
    verdict = np.full(len(notes), VERDICTS.index("undecided"), np.int8)
    verdict[outside] = VERDICTS.index("misaligned")
    displacement = np.full(len(notes), np.nan)
    _decide(windows, fit, known & ~outside, verdict, displacement)
    share = float(np.nanmean(probability)) if np.isfinite(probability).any() else float("nan")
    return Judged(notes, offset, share, probability, verdict, displacement)


def systematic_offset(peaks: Peaks, notes: Notes, reach: float) -> float:
    """Seconds by which onsets come later than their labels altogether: the mode, then the median around it.

    Of each label the strongest peak within `reach` counts, and of these the stronger half. Where there are none,
    0.0.
    """
    lag, strength = [], []
    for pitch in np.unique(notes.pitch).tolist():
        there, onset = peaks.of(pitch), notes.onset[notes.pitch == pitch]
        first, after = (np.searchsorted(there.time, onset + side) for side in (-reach, reach))
        for low, high, time in zip(first.tolist(), after.tolist(), onset.tolist(), strict=True):
            if high > low:
                best = low + int(np.argmax(there.strength[low:high]))
                lag.append(there.time[best] - time)
                strength.append(there.strength[best])
    if not lag:
        return 0.0
    lags = np.array(lag)[np.array(strength) >= np.median(strength)]
    counts, edges = np.histogram(lags, np.arange(-reach, reach + _MODE_BIN, _MODE_BIN))
    smooth = np.convolve(counts, np.hanning(9)[1:-1], "same")
    offset = float(edges[int(np.argmax(smooth))] + _MODE_BIN / 2)
    for _ in range(3):
        near = lags[np.abs(lags - offset) < 0.05]
        offset = float(np.median(near)) if len(near) else offset
    return offset


class _Windows(NamedTuple):
    """What lies around each label. Columns are windows from `-reach` to `reach`, the label's own in the middle."""

    bin: np.ndarray  # (n, m) of the strongest peak, by the quantiles of chance
    context: np.ndarray  # (n, m) what else is labelled there: 0 nothing, 1 other pitches, 2 related ones
    explained: np.ndarray  # (n, m) whether another label of the same pitch is there, or the sound ends
    lag: np.ndarray  # (n, m) seconds from the label to that peak
    chance: np.ndarray  # (3, bins) what chance gives in each context
    decidable: np.ndarray  # (n,)


def _look(
    peaks: Peaks, notes: Notes, offset: float, heard: float, duration: float, settings: CheckSettings
) -> _Windows:
    width = 2 * settings.tolerance
    reach, far = (round(seconds / width) for seconds in (settings.reach, settings.chance_reach))
    steps = np.arange(-far, far + 1)
    centre = notes.onset[:, np.newaxis] + steps * width
    strength, lag = _strongest(peaks, notes.pitch, centre + offset, settings.tolerance)
    lag += steps * width
    explained = _same_pitch(notes, centre, settings.tolerance + 0.05)
    explained |= (centre + offset < 0) | (centre + offset > duration)
    context = _context(notes, centre, settings.tolerance)
    near_heard = np.abs(steps * width + offset - heard) < 1.5 * width  # onsets of most labels, if they are all off
    by_chance = (np.abs(steps) >= 2) & ~near_heard & ~explained
    seen = strength[by_chance] if by_chance.any() else np.zeros(1)
    bins = np.searchsorted(np.quantile(seen, _NULL_QUANTILES), strength)
    chance = _chance(bins[by_chance], context[by_chance])
    near = slice(far - reach, far + reach + 1)
    on_piano = (notes.pitch >= LOWEST) & (notes.pitch <= HIGHEST)
    decidable = on_piano & (explained[:, near].mean(axis=1) < _MAX_EXPLAINED)
    return _Windows(bins[:, near], context[:, near], explained[:, near], lag[:, near], chance, decidable)


def _strongest(peaks: Peaks, pitch: np.ndarray, centre: np.ndarray, half: float) -> tuple[np.ndarray, np.ndarray]:
    """Strength of the strongest peak of the pitch within `half` of each centre, and its lag; 0 where none is."""
    strength, lag = np.zeros(centre.shape), np.zeros(centre.shape)
    for value in np.unique(pitch).tolist():
        there, rows = peaks.of(value), pitch == value
        first = np.searchsorted(there.time, centre[rows] - half)
        after = np.searchsorted(there.time, centre[rows] + half)
        best = np.zeros(first.shape, np.int64)
        top = np.zeros(first.shape)
        for step in range(int((after - first).max(initial=0))):
            index = np.minimum(first + step, len(there.time) - 1)
            better = (first + step < after) & (there.strength[index] > top)
            top, best = np.where(better, there.strength[index], top), np.where(better, index, best)
        strength[rows] = top
        if len(there.time):
            lag[rows] = np.where(top > 0, there.time[best] - centre[rows], 0.0)
    return strength, lag


def _count(sorted_times: np.ndarray, centre: np.ndarray, half: float) -> np.ndarray:
    return np.searchsorted(sorted_times, centre + half, "right") - np.searchsorted(sorted_times, centre - half)


def _same_pitch(notes: Notes, centre: np.ndarray, half: float) -> np.ndarray:
    """Whether a label of the same pitch other than one's own lies near."""
    others = np.zeros(centre.shape, bool)
    for pitch in np.unique(notes.pitch):
        rows = notes.pitch == pitch
        own = np.abs(centre[rows] - notes.onset[rows][:, np.newaxis]) <= half
        others[rows] = _count(notes.onset[rows], centre[rows], half) > own
    return others


def _context(notes: Notes, centre: np.ndarray, half: float) -> np.ndarray:
    own = np.abs(centre - notes.onset[:, np.newaxis]) <= half
    context = (_count(notes.onset, centre, half) > own).astype(np.int8)
    by_pitch = {pitch: notes.onset[notes.pitch == pitch] for pitch in np.unique(notes.pitch).tolist()}
    for pitch in by_pitch:
        rows = notes.pitch == pitch
        related = [by_pitch[p] for step in _RELATED for p in (pitch - step, pitch + step) if p in by_pitch]
        if related:
            there = _count(np.sort(np.concatenate(related)), centre[rows], half) > 0
            context[rows] = np.where(there, 2, context[rows])
    return context


def _chance(bins: np.ndarray, context: np.ndarray) -> np.ndarray:
    """Share of each bin in each context: the geometric mean of the context's own and of all.

    The context's own alone undervalues true onsets where chords are repeated; all together overvalue chance peaks.
    """
    size = len(_NULL_QUANTILES) + 1
    overall = np.bincount(bins, minlength=size) + 1e-3
    overall = overall / overall.sum()
    own = np.stack([np.bincount(bins[context == k], minlength=size) + _CONTEXT_WEIGHT * overall for k in range(3)])
    mean = np.sqrt(own / own.sum(axis=1, keepdims=True) * overall)
    return mean / mean.sum(axis=1, keepdims=True)


class _Fit(NamedTuple):
    probability: np.ndarray  # (k,) of displacement, of the labels that were fitted
    ratio: np.ndarray  # (contexts, bins) likelihood of a true onset against chance
    likelihood: float  # logarithm, with the prior of what true onsets show


def _fit(windows: _Windows, chosen: np.ndarray) -> _Fit:
    """The likelier of what expectation-maximisation climbs to from few and from many misaligned labels."""
    return max((_climb(windows, chosen, share) for share in _STARTS), key=lambda fit: fit.likelihood)


def _climb(windows: _Windows, chosen: np.ndarray, share: float) -> _Fit:
    bins, context, explained = (column[chosen] for column in (windows.bin, windows.context, windows.explained))
    middle, size = bins.shape[1] // 2, windows.chance.shape[1]
    around = np.delete(np.arange(bins.shape[1]), middle)
    counts = len(bins) * _TYPICAL  # and not what the labels show: most of them may be wrong
    prior = (_TYPICAL_LABELS + _TYPICAL_SHARE * len(bins)) * _TYPICAL
    for _ in range(_ITERATIONS):
        onset = (counts + prior) / (counts + prior).sum()
        ratio = np.maximum(onset / windows.chance, 1e-3)
        here = ratio[context[:, middle], bins[:, middle]]
        elsewhere = np.where(explained, 1.0, ratio[context, bins])[:, around] / len(around)
        total = (1 - share) * here + share * elsewhere.sum(axis=1)
        probability = share * elsewhere.sum(axis=1) / total
        moved = np.where(explained[:, around], 0.0, share * elsewhere / total[:, np.newaxis])
        counts = np.bincount(bins[:, middle], 1 - probability, size)
        counts += np.bincount(bins[:, around].ravel(), moved.ravel(), size)
        before, share = share, float(probability.mean()) if len(probability) else 0.0
        if abs(share - before) < _CONVERGED:
            break
    return _Fit(probability, ratio, float(np.log(total).sum() + prior @ np.log(onset)))


def _decide(windows: _Windows, fit: _Fit, chosen: np.ndarray, verdict: np.ndarray, displacement: np.ndarray) -> None:
    """Fills in the verdicts that the evidence of the label alone and its probability agree on."""
    rows = np.flatnonzero(chosen)
    bins, context, explained = (column[rows] for column in (windows.bin, windows.context, windows.explained))
    middle = bins.shape[1] // 2
    ratio = np.where(explained, 1.0, fit.ratio[context, bins])
    here = fit.ratio[context[:, middle], bins[:, middle]]
    ratio[:, middle] = 0.0
    elsewhere = ratio.sum(axis=1) / (ratio.shape[1] - 1)
    best = ratio.argmax(axis=1)
    likely = fit.probability > 0.5  # in view of the share: where nearly all are right, chance explains the odd one
    aligned = (here >= _DECISIVE_FOR * elsewhere) & ~likely
    misaligned = (here <= _DECISIVE_AGAINST * elsewhere) & likely
    verdict[rows[aligned]] = VERDICTS.index("aligned")
    verdict[rows[misaligned]] = VERDICTS.index("misaligned")
    displacement[rows[aligned]] = windows.lag[rows[aligned], middle]
    displacement[rows[misaligned]] = windows.lag[rows, best][misaligned]
