"""How far to trust an alignment, and what a person should know of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from musicnet_tf import audio as sound
from musicnet_tf.alignment import features
from musicnet_tf.alignment.result import Finding, Segment
from musicnet_tf.alignment.settings import Features
from musicnet_tf.alignment.structure import Jump, Structure
from musicnet_tf.events import Notes, Score
from musicnet_tf.plots import time_label

if TYPE_CHECKING:
    from musicnet_tf.alignment.aligner import Warp

WRONG_PIECE = 0.5
"""Contrast from which on a score is taken for another piece. On development pieces of ASAP right pairs had
0.25 to 0.34, wrong ones, mostly by the same composer, 0.66 to 0.91."""
LOW_CONFIDENCE = 0.4
_BEST = 0.2
_EDGE_SECONDS = 2.0
_CUT_SECONDS = 1.0
_AROUND_SECONDS = 0.25
_SILENT = 0.02
_UNMATCHED_SHARE = 0.25
_LEAST_SHARE = 0.5

# What a last chord that dies away is told by. On the ends of development pieces its strongest rise in 2–10 s was
# at most 0.1 of the usual, that of music or clapping at least 0.56; noise that sets in has 0.1 to 0.5, but no fall.
_ONSET = 0.25
_RISE = 1.5
_FALL = 0.7
_LEVEL_SECONDS = 0.5
_ATTACK_FRAMES = 4
_BEFORE_SECONDS = 20.0


def contrast(found: Structure, duration: float) -> float:
    """Mean cost of the recording against that of frames at random: 0 is equal, 1 is unrelated.

    Args:
        found: what was played.
        duration: seconds of the recording; of what sounds outside the music, every second counts as unrelated
            beyond a quarter of the whole.
    """
    if not np.isfinite(found.cost):
        return 1.0
    matched = min(1.0, (found.music[1] - found.music[0]) / duration + _UNMATCHED_SHARE)
    return float(matched * found.cost / max(found.random_cost, 1e-9) + 1.0 - matched)


def of_notes(notes: Notes, warp: Warp) -> np.ndarray:
    """0–1 a note: how far below the cost of frames at random the path within 0.25 s of it is."""
    if not len(notes):
        return np.zeros(0)
    sums = np.concatenate([[0.0], np.cumsum(warp.costs)])
    low = np.searchsorted(warp.recording, notes.onset - _AROUND_SECONDS, "left")
    high = np.searchsorted(warp.recording, notes.onset + _AROUND_SECONDS, "right")
    low = np.minimum(low, len(warp.costs) - 1)
    high = np.maximum(high, low + 1)
    local = (sums[high] - sums[low]) / (high - low)
    return np.clip(1.0 - local, 0.0, 1.0)


def of_pair(found: Structure, duration: float) -> float:
    """0–1: falls from 1, where the path is cheap against frames at random, to 0, where it is not."""
    return float(np.clip((WRONG_PIECE - contrast(found, duration)) / (WRONG_PIECE - _BEST), 0.0, 1.0))


def findings(
    found: Structure,
    score: Score,
    segments: tuple[Segment, ...],
    stretch: float,
    audio: np.ndarray,
    sample_rate: int,
    follows_jumps: bool,
    sounding: float | None = None,
) -> tuple[Finding, ...]:
    """What a person should know, most serious first.

    Of another piece nothing else is told: a path through it means nothing, so neither do its ends and jumps.

    Args:
        found: in seconds of the score times `stretch`.
        score: as written.
        segments: that were aligned, in seconds of the score.
        stretch: see `found`.
        audio, sample_rate: the recording.
        follows_jumps: whether labels follow the jumps; if not, a jump speaks against using them.
        sounding: seconds of the recording without long silence at its ends; by default all of it.
    """
    told = _of_match(found, sounding or len(audio) / sample_rate)
    if any(finding.kind == "wrong_piece" for finding in told):
        return tuple(told)
    told += _of_ends(found, score, segments, audio, sample_rate, stretch)
    told += [_of_jump(jump, found.music, score, stretch, follows_jumps) for jump in found.jumps]
    if not any(finding.rejects for finding in told):
        told += _of_share(score, segments)
    return tuple(sorted(told, key=lambda finding: not finding.rejects))


def _of_match(found: Structure, duration: float) -> list[Finding]:
    value = contrast(found, duration)
    if value >= WRONG_PIECE:
        why = f"recording and score do not match (path cost {value:.2f} of random): another piece, or another movement"
        return [Finding("wrong_piece", why, rejects=True)]
    confidence = of_pair(found, duration)
    if confidence < LOW_CONFIDENCE:
        return [Finding("low_confidence", f"recording and score match poorly (confidence {confidence:.2f})", False)]
    return []


def _of_share(score: Score, segments: tuple[Segment, ...]) -> list[Finding]:
    """Whether so little of the score was found that a match of noise or silence is likelier than music."""
    onset = score.notes.onset
    played = np.any([(onset >= s.start - 1e-9) & (onset <= s.stop + 1e-9) for s in segments], axis=0)
    share = float(np.mean(played))
    if share >= _LEAST_SHARE:
        return []
    return [Finding("passage_left_out", f"only {share:.0%} of the notes of the score are played", rejects=True)]


def _of_ends(
    found: Structure,
    score: Score,
    segments: tuple[Segment, ...],
    audio: np.ndarray,
    sample_rate: int,
    stretch: float,
) -> list[Finding]:
    duration = len(audio) / sample_rate
    told = []
    for kind, start, stop, where in (
        ("leading_silence", 0.0, found.music[0], "before"),
        ("trailing_silence", min(found.music[1], duration), duration, "after"),
    ):
        if stop - start < _EDGE_SECONDS:
            continue
        span = f"{stop - start:.1f} s {where} the music ({time_label(start)}–{time_label(stop)})"
        if _level(audio, sample_rate, start, stop) < _SILENT * _level(audio, sample_rate, *found.music):
            told.append(Finding(kind, f"{span} are silent", False, start, stop))  # type: ignore[arg-type]
        elif where == "before" or not _dies_away(audio, sample_rate, found.music, stop):
            rejects = bool(stop - start > _UNMATCHED_SHARE * duration)  # of NumPy, JSON takes no truth value
            what = f"{span} sound, but are not in the score: tuning, applause or another movement"
            told.append(Finding("passage_unmatched", what, rejects, start, stop))
    for start, stop, what in (
        (0.0, found.segments[0].start / stretch, "beginning"),
        (found.segments[-1].stop / stretch, score.notes.end, "end"),
    ):
        if (stop - start) * stretch >= _EDGE_SECONDS:
            rejects = bool(stop - start > 0.5 * score.notes.end)
            text = f"the {what} of the score is not played ({_span(score, start, stop)})"
            told.append(Finding("passage_left_out", text, rejects))
    return told


def _dies_away(audio: np.ndarray, sample_rate: int, music: tuple[float, float], stop: float) -> bool:
    """Whether from the end of the music on nothing begins and the level falls: the last chord, longer than written.

    Nothing begins where no sum of rises over semitone bands comes near those of the notes before.
    """
    begin, end = max(music[0], music[1] - _BEFORE_SECONDS), music[1]
    part = audio[round(begin * sample_rate) : round(stop * sample_rate)]
    how = Features()
    part = sound.resample(part, sample_rate, how.sample_rate, "the recording")
    onsets = features.rises(features.levels(part, how, how.window_length), _ATTACK_FRAMES).sum(axis=1)
    border = round((end - begin) * how.sample_rate / how.hop_length)
    second = how.sample_rate // how.hop_length
    past_end = how.window_length // how.hop_length  # of these frames windows reach past it: a cut, no onset
    played, after = onsets[:border], onsets[border:-past_end]
    if len(played) < second or not len(after):
        return False
    strongest = played[len(played) % second :].reshape(-1, second).max(axis=1)
    if after.max() > _ONSET * np.quantile(strongest, 0.75):
        return False
    edges = np.arange(end, stop - _LEVEL_SECONDS + 1e-6, _LEVEL_SECONDS)
    levels = np.array([_level(audio, sample_rate, edge, edge + _LEVEL_SECONDS) for edge in edges])
    levels = np.maximum(levels, _SILENT * _level(audio, sample_rate, *music))
    return bool(levels[-1] <= _FALL * levels[0] and (levels <= _RISE * np.minimum.accumulate(levels)).all())


def _of_jump(jump: Jump, music: tuple[float, float], score: Score, stretch: float, followed: bool) -> Finding:
    first, last = sorted((jump.start / stretch, jump.stop / stretch))
    what = {
        "repeat_added": "the performer repeats",
        "repeat_left_out": "the performer leaves out the repeat of",
        "passage_left_out": "the performer leaves out",
    }[jump.kind]
    text = f"{what} {_span(score, first, last)}, at {time_label(jump.time)} of the recording"
    if jump.kind == "passage_left_out" and music[1] - jump.time < _CUT_SECONDS:
        text = f"the recording ends, at {time_label(jump.time)}, before {_span(score, first, last)} are played"
    if jump.kind == "passage_left_out" and jump.time - music[0] < _CUT_SECONDS:
        text = f"the recording begins, at {time_label(jump.time)}, after {_span(score, first, last)}"
    return Finding(jump.kind, text, not followed, jump.time, jump.time)


def _span(score: Score, start: float, stop: float) -> str:
    """`measures 5–12`, or seconds where the score has no measures."""
    if len(score.measures) < 2:
        return f"{time_label(start)}–{time_label(stop)} of the score"
    first = int(np.searchsorted(score.measures, start + 1e-3, "right"))
    last = max(first, int(np.searchsorted(score.measures, stop - 1e-3, "left")))
    return f"measures {max(first, 1)}–{last}"


def _level(audio: np.ndarray, sample_rate: int, start: float, stop: float) -> float:
    part = audio[round(start * sample_rate) : round(stop * sample_rate)]
    return float(np.sqrt(np.mean(np.square(part, dtype=np.float64)))) if len(part) else 0.0
