"""Recording + score → labels: synthesise, find what was played, warp, judge.

After section 3 of the MusicNet paper (Thickstun, Harchaoui, Kakade 2017), whose setting is one config.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import numpy as np

import musicnet_tf
from musicnet_tf import synthesis
from musicnet_tf.alignment import dtw, features, judgement, low_rate, snap, structure
from musicnet_tf.alignment.features import Frames
from musicnet_tf.alignment.hearing import Heard
from musicnet_tf.alignment.result import Alignment, Segment
from musicnet_tf.alignment.settings import Settings
from musicnet_tf.alignment.unfold import Played, unfold
from musicnet_tf.errors import AlignmentError, AudioError, ScoreError
from musicnet_tf.events import Notes, Score
from musicnet_tf.scores import with_columns

Stage = Literal["synthesis", "structure", "synthesis of what was played", "features", "warping"]
STAGES: tuple[Stage, ...] = get_args(Stage)
"""In order; the second synthesis is left out where the first was of what was played."""

Progress = Callable[[Stage], None]
"""Is told the stage that begins."""

PAD_SECONDS = 0.5
"""Silence that the synthesised score begins and ends with, for the recording's own silence to lie on."""

_MARGIN_SECONDS = 1.0
_SILENCE = 1e-4
_LEVEL_SECONDS = 0.1
_SILENT_SHARE = 0.002
_KEPT_SILENCE_SECONDS = 1.0
_SHORTEST_SECONDS = 0.01
_LEAST_ONSET = 0.25
_SNAP_REACH = 6.0
_STRETCH = (0.02, 50.0)
_SAME_TEMPO = 0.1
_SYNTHESIS_RATE = 44100


class Warp(NamedTuple):
    """Played seconds of the score ↔ seconds of the recording.

    Attributes:
        recording, score: seconds, both ascending, `(p,)`.
        costs: unweighted cost of each place, against that of frames at random, `(p,)`.
    """

    recording: np.ndarray
    score: np.ndarray
    costs: np.ndarray

    def to_recording(self, seconds: np.ndarray) -> np.ndarray:
        """When the recording first arrives at each place of the score."""
        place, first = np.unique(self.score, return_index=True)
        return np.interp(seconds, place, self.recording[first])


def align(
    audio: np.ndarray,
    sample_rate: int,
    score: Score,
    settings: Settings | None = None,
    *,
    progress: Progress | None = None,
) -> Alignment:
    """Lays a score onto a recording.

    Args:
        audio: float32 mono `(n,)` in [-1, 1].
        sample_rate: of `audio`.
        score: as read by `scores.read_score`.
        settings: how; by default the most accurate way.
        progress: is told each of `STAGES` as it begins.

    Raises:
        ScoreError: where the score has no notes.
        AudioError: where the recording is silent or empty, or the score cannot be synthesised.
        AlignmentError: where the two cannot be laid onto one another at all, or exact DTW needs too much memory.
    """
    settings = settings or Settings()
    tell = progress or (lambda stage: None)
    _check(audio, sample_rate, score)
    sounding = sounding_span(audio, sample_rate)
    stretch = _stretch(sounding, score)
    _check_memory(settings, sounding[1] - sounding[0], stretch * score.notes.end)
    soundfont = _soundfont(settings)

    tell("synthesis")
    synthesised = _synthesise(score.notes, stretch, soundfont)
    tell("structure")
    found = _structure(audio, sample_rate, sounding, synthesised, score, stretch)
    segments, music = _what_is_aligned(found, score, sounding, stretch, settings)

    played = unfold(score.notes, segments)
    if not len(played.notes):
        raise AlignmentError("no note of the score lies in what was played of it; is this the score of the recording?")
    length = sum(segment.stop - segment.start for segment in segments)
    tempo = (music[1] - music[0]) / length
    if len(segments) > 1 or segments[0].start > 0 or abs(np.log(tempo / stretch)) > _SAME_TEMPO:
        tell("synthesis of what was played")
        synthesised = _synthesise(played.notes, tempo, soundfont)
    else:
        tempo = stretch

    tell("features")
    begin = max(0.0, music[0] - _MARGIN_SECONDS)
    heard = audio[round(begin * sample_rate) : round((music[1] + _MARGIN_SECONDS) * sample_rate)]
    recording = features.extract(heard, sample_rate, settings.features)
    written = features.extract(synthesised, _SYNTHESIS_RATE, settings.features)
    tell("warping")
    warp = _warp(recording, written, settings, begin, tempo)
    notes = _lay(played, warp)
    note_confidence = judgement.of_notes(notes, warp)
    if recording.heard and settings.snap_seconds:
        notes, note_confidence = _snapped(notes, note_confidence, recording.heard, begin, settings.snap_seconds)
    return Alignment(
        notes=notes,
        note_confidence=note_confidence,
        path=_thinned(warp),
        segments=segments,
        confidence=judgement.of_pair(found, sounding[1] - sounding[0]),
        findings=judgement.findings(
            found, score, segments, stretch, audio, sample_rate, settings.find_jumps, sounding[1] - sounding[0]
        ),
        duration=len(audio) / sample_rate,
        details={
            "settings": settings.model_dump(mode="json"),
            "soundfont": soundfont.name,
            "soundfont_licence": synthesis.licence(soundfont),
            "path_cost": round(float(warp.costs.mean()), 5),
            "structure_cost": round(found.cost, 5),
            "random_cost": round(found.random_cost, 5),
            "library_version": musicnet_tf.__version__,
        },
    )


def match_cost(audio: np.ndarray, sample_rate: int, score: Score, settings: Settings | None = None) -> float:
    """How badly a score fits a recording, at low cost: near 0.3 where it is the one played, near 1 for another piece.

    The mean cost along the best path, against that of frames taken at random.
    """
    _check(audio, sample_rate, score)
    sounding = sounding_span(audio, sample_rate)
    stretch = _stretch(sounding, score)
    synthesised = _synthesise(score.notes, stretch, _soundfont(settings or Settings()))
    found = _structure(audio, sample_rate, sounding, synthesised, score, stretch)
    return judgement.contrast(found, sounding[1] - sounding[0])


def sounding_span(audio: np.ndarray, sample_rate: int) -> tuple[float, float]:
    """Seconds from and to, without what is silent at the ends but for `_KEPT_SILENCE_SECONDS` of it.

    Minutes of silence would have the score synthesised, and looked for, at a tempo that is far off. Silence is
    far below the loudest moment, lower than music goes: beginning and end of the music itself are found later.
    """
    size = max(1, round(_LEVEL_SECONDS * sample_rate))
    starts = np.arange(0, len(audio), size)
    power = np.add.reduceat(np.square(audio, dtype=np.float64), starts)
    loud = np.flatnonzero(power > _SILENT_SHARE**2 * power.max())
    begin = starts[loud[0]] / sample_rate - _KEPT_SILENCE_SECONDS
    end = (starts[loud[-1]] + size) / sample_rate + _KEPT_SILENCE_SECONDS
    return max(0.0, float(begin)), min(len(audio) / sample_rate, float(end))


def _stretch(sounding: tuple[float, float], score: Score) -> float:
    """Seconds of the recording for one of the score, roughly."""
    return float(np.clip((sounding[1] - sounding[0]) / score.notes.end, *_STRETCH))


def _check(audio: np.ndarray, sample_rate: int, score: Score) -> None:
    if not len(score.notes):
        raise ScoreError("the score has no notes; use a file that has some besides percussion")
    if not len(audio):
        raise AudioError("the recording is empty; there is nothing to lay a score onto")
    if not np.isfinite(audio).all():
        raise AudioError("the recording has samples that are no finite numbers; repair or re-export the file")
    if float(np.abs(audio).max()) < _SILENCE:
        raise AudioError("the recording is silent, or its channels cancel out; is it the right file?")
    duration = len(audio) / sample_rate
    if duration < 2 * PAD_SECONDS:
        raise AudioError(f"the recording is {duration:.2f} s long; alignment needs at least {2 * PAD_SECONDS:g} s")


def _check_memory(settings: Settings, recording: float, score: float) -> None:
    """Refuses exact DTW of so many seconds, before minutes are spent on what it would be given."""
    if settings.method == "exact":
        rate = features.clock(settings.features).frame_rate
        dtw.check_memory(round(recording * rate), round((PAD_SECONDS + score) * rate), settings.max_memory_gib)


def _soundfont(settings: Settings) -> Path:
    return Path(settings.soundfont) if settings.soundfont else synthesis.default_soundfont()


def _synthesise(notes: Notes, stretch: float, soundfont: Path) -> np.ndarray:
    """The notes, `stretch` times as slow, after `PAD_SECONDS` of silence, at `_SYNTHESIS_RATE`."""
    onset, offset = (PAD_SECONDS + stretch * column for column in (notes.onset, notes.offset))
    slowed = with_columns(notes, onset=onset, offset=np.maximum(offset, onset + _SHORTEST_SECONDS))
    played = synthesis.render(slowed, soundfont, _SYNTHESIS_RATE, timeout=max(600.0, slowed.end))
    return played / max(1.0, 1.1 * float(np.abs(played).max(initial=0.0)))


def _structure(
    audio: np.ndarray,
    sample_rate: int,
    sounding: tuple[float, float],
    synthesised: np.ndarray,
    score: Score,
    stretch: float,
) -> structure.Structure:
    """What was played, in seconds of the score times `stretch`."""
    pad = round(PAD_SECONDS * _SYNTHESIS_RATE)
    first, after = (round(place * sample_rate) for place in sounding)
    found = structure.find_segments(
        low_rate.low_rate_features(audio[first:after], sample_rate),
        low_rate.low_rate_features(synthesised[pad:], _SYNTHESIS_RATE),
        low_rate.FRAME_RATE,
        barlines=score.measures * stretch,
        jumps=score.jumps * stretch,
    )
    begin = first / sample_rate
    return dataclasses.replace(
        found,
        jumps=tuple(jump._replace(time=jump.time + begin) for jump in found.jumps),
        music=(found.music[0] + begin, found.music[1] + begin),
        path=found.path + np.array([begin, 0.0]),
    )


def _what_is_aligned(
    found: structure.Structure, score: Score, sounding: tuple[float, float], stretch: float, settings: Settings
) -> tuple[tuple[Segment, ...], tuple[float, float]]:
    """Segments in the score's own seconds, and the span of the recording that they are laid onto."""
    wrong = judgement.contrast(found, sounding[1] - sounding[0]) >= judgement.WRONG_PIECE
    if wrong or not settings.find_jumps:
        return (Segment(0.0, score.notes.end),), sounding  # of a wrong piece, nothing that was found can be relied on
    segments = [Segment(s.start / stretch, s.stop / stretch) for s in found.segments]
    segments[0] = Segment(segments[0].start if segments[0].start > 0 else 0.0, segments[0].stop)
    last = segments[-1]
    segments[-1] = Segment(last.start, min(last.stop, score.notes.end))
    kept = tuple(segment for segment in segments if segment.stop > segment.start)
    return kept, (found.music[0], min(found.music[1], sounding[1]))


def _warp(recording: Frames, score: Frames, settings: Settings, begin: float, tempo: float) -> Warp:
    costs = dtw.Costs(
        recording.tonal,
        score.tonal,
        recording.onsets,
        score.onsets,
        norm=settings.norm,
        onset_weight=settings.features.onset_weight,
        step_weights=settings.step_weights,
        step_penalty=settings.step_penalty,
    )
    if settings.method == "exact":
        path, along = dtw.exact(costs, settings.max_memory_gib)
    else:
        path, along = dtw.multiscale(costs)
    heard = recording.clock.frame_to_time(path[:, 0]) + begin
    written = (score.clock.frame_to_time(path[:, 1]) - PAD_SECONDS) / tempo
    return Warp(heard, written, along / max(dtw.random_cost(costs), 1e-9))


def _lay(played: Played, warp: Warp) -> Notes:
    """The notes where the recording plays them. What would begin before the recording begins with it."""
    onset = np.maximum(warp.to_recording(played.notes.onset), 0.0)
    offset = np.maximum(warp.to_recording(played.notes.offset), onset + _SHORTEST_SECONDS)
    return with_columns(played.notes, onset=onset, offset=offset)


def _snapped(
    notes: Notes, confidence: np.ndarray, heard: Heard, begin: float, width: float
) -> tuple[Notes, np.ndarray]:
    """The notes at onsets of their own pitch that the model hears near where they are, where it hears any.

    Half of a note's confidence is then how strong that onset is, and how near to where the warp puts the note.
    """
    peaks = snap.heard_peaks(heard, _LEAST_ONSET)
    found = snap.snap(notes.onset - begin, notes.pitch, peaks, _SNAP_REACH * width, width)
    taken = np.isfinite(found.onset)
    onset = np.maximum(np.where(taken, found.onset + begin, notes.onset), 0.0)
    bell = np.exp(-0.5 * ((onset - notes.onset) / width) ** 2)
    sorted_anew = np.lexsort((notes.instrument, notes.pitch, onset))
    moved = with_columns(notes, onset=onset, offset=snap.ends(notes, onset, notes.offset))
    return moved, (0.5 * (confidence + bell * found.strength))[sorted_anew]


def _thinned(warp: Warp, seconds: float = 0.02) -> np.ndarray:
    """The path `(p, 2)`, its places at least `seconds` apart in the recording, both ends kept."""
    slot = np.floor(warp.recording / seconds).astype(np.int64)
    kept = np.flatnonzero(np.diff(slot, prepend=-1))
    kept = np.unique(np.append(kept, len(slot) - 1))
    return np.stack([warp.recording[kept], np.maximum(warp.score[kept], 0.0)], axis=1)
