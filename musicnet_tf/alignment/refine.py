"""Labels that lie near → labels that lie on the onsets a transcription model hears.

The labels' own piano roll is warped onto the model's posteriorgram, in a tube around where they are (what the model
hears in the synthesised labels serves no better in the end, and takes a synthesiser); then each note
takes a peak of its own pitch's onset activation, one peak no more than one note (after NoteEM: Maman and Bermano,
Unaligned supervision for automatic music transcription in the wild, ICML 2022). Notes for which there is none move
with their neighbours, and ends move as the music around them does.

A model puts onsets where its training labels did. The shipped one was trained with labels moved onto the sound, so
that labels which lie off it by a constant, as MusicNet's do by 0.03 s, are moved by that constant too.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pydantic
import scipy.ndimage

from musicnet_tf.alignment import dtw, features
from musicnet_tf.alignment.aligner import Warp
from musicnet_tf.alignment.hearing import Heard
from musicnet_tf.alignment.snap import SAME_ONSET, ends, heard_peaks, snap
from musicnet_tf.errors import ScoreError
from musicnet_tf.events import Notes
from musicnet_tf.scores import with_columns

_ONSET_WIDTH = 0.05
_MEDIAN_NOTES = 17
_OUTLIER_SECONDS = 0.15


class RefineSettings(pydantic.BaseModel):
    """How labels are refined.

    Attributes:
        reach: seconds by which labels may be off altogether: half the width of the tube.
        onset_weight: of onsets against what sounds, in the cost of the warp.
        step_penalty: of the warp, for each step along one side alone.
        least_peak: least activation of an onset that a note may take.
        snap_reach: seconds around a warped note within which its onset is looked for.
        snap_widths: standard deviations in seconds of the bell that weighs peaks by how near they lie, one a
            pass; a later pass starts from where the one before moved the music.
    """

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    reach: float = pydantic.Field(1.5, gt=0, le=30)
    onset_weight: float = pydantic.Field(2.0, ge=0)
    step_penalty: float = pydantic.Field(2.0, ge=0)
    least_peak: float = pydantic.Field(0.25, gt=0, le=1)
    snap_reach: float = pydantic.Field(0.4, gt=0, le=5)
    snap_widths: tuple[float, ...] = pydantic.Field((0.12, 0.08), min_length=1)


@dataclasses.dataclass(frozen=True)
class Refined:
    """Labels before and after, row for row in the order of `before`.

    Attributes:
        before: the labels as given.
        onset, offset: seconds where they were moved to, float64 `(n,)`.
        snapped: whether a note took an onset of its own, rather than moving with its neighbours, bool `(n,)`.
        confidence: activation of the onset at which a note now begins, 0–1, float64 `(n,)`; 0 for
            pitches that the model does not know.
    """

    before: Notes
    onset: np.ndarray
    offset: np.ndarray
    snapped: np.ndarray
    confidence: np.ndarray

    @property
    def moved(self) -> np.ndarray:
        """Seconds by which each onset moved, positive where it is later now."""
        return self.onset - self.before.onset

    @property
    def notes(self) -> Notes:
        """The refined labels, sorted anew."""
        return with_columns(self.before, onset=self.onset, offset=self.offset)


def refine(notes: Notes, heard: Heard, settings: RefineSettings | None = None) -> Refined:
    """Moves labels onto what a model hears.

    Args:
        notes: labels that lie within `settings.reach` of the truth, most of them far nearer.
        heard: by `hearing.hear`, of the whole recording.
        settings: see there.

    Raises:
        ScoreError: where there are no labels.
    """
    settings = settings or RefineSettings()
    if not len(notes):
        raise ScoreError("no labels to refine: give a label file with at least one note")
    peaks = heard_peaks(heard, settings.least_peak)
    warp = _warp(notes, heard, settings)
    onset, offset = _warped(notes.onset, warp), _warped(notes.offset, warp)
    for width in settings.snap_widths:
        snapped = snap(onset, notes.pitch, peaks, settings.snap_reach, width)
        times, moves = _movement(onset, snapped.onset)
        onset, offset = (column + np.interp(column, times, moves) for column in (onset, offset))
    taken = np.isfinite(snapped.onset)
    onset = np.maximum(np.where(taken, snapped.onset, onset), 0.0)
    confidence = np.where(taken, snapped.strength, _activation(heard, onset, notes.pitch))
    return Refined(notes, onset, ends(notes, onset, offset), taken, confidence)


def _warp(notes: Notes, heard: Heard, settings: RefineSettings) -> Warp:
    """The labels' piano roll laid onto the posteriorgram."""
    frame, onset = _rolls(notes, heard)
    costs = dtw.Costs(
        features.unit(heard.heads["frame"], usual=1.0),
        features.unit(frame, usual=1.0),
        np.ascontiguousarray(heard.heads["onset"]),
        onset,
        onset_weight=settings.onset_weight,
        step_penalty=settings.step_penalty,
    )
    every = np.arange(heard.num_frames)
    radius = max(1, round(settings.reach * heard.clock.frame_rate))
    tube = dtw.Tube(np.maximum(every - radius, 0), np.minimum(every + radius + 1, heard.num_frames))
    path, along = dtw.within(costs, tube)
    heard_at, labelled_at = (heard.clock.frame_to_time(column) for column in path.T)
    return Warp(heard_at, labelled_at, along)


def _rolls(notes: Notes, heard: Heard) -> tuple[np.ndarray, np.ndarray]:
    """What a model that heard just these notes would give: float32 `(frames, pitches)` of frames and onsets."""
    import tensorflow as tf

    from musicnet_tf import targets
    from musicnet_tf.models import HeadSpec

    rate = heard.clock.sample_rate
    onset, offset = (tf.constant(np.round(t * rate).astype(np.int64)) for t in (notes.onset, notes.offset))
    tensors = targets.NoteTensors(onset, offset, tf.constant(notes.pitch), tf.constant(notes.velocity))
    head = HeadSpec(heard.heads["frame"].shape[1], heard.first_pitch)
    grid = (heard.clock, heard.num_frames, head)
    frame = targets.sounding(tensors, *grid)
    return frame.numpy(), targets.nearness(tensors.onset, tensors, *grid, _ONSET_WIDTH).numpy()


def _warped(seconds: np.ndarray, warp: Warp) -> np.ndarray:
    """Where the warp puts instants; those outside the recording move as its nearest end does."""
    inside = np.clip(seconds, warp.score[0], warp.score[-1])
    return seconds + warp.to_recording(inside) - inside


def _movement(onset: np.ndarray, snapped: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How the music moves, to be interpolated: seconds, ascending, and the seconds that are added there.

    At each onset the median over the notes that begin there. Notes that moved otherwise than those around them were
    labelled wrongly one by one, and are left out.
    """
    rows = np.flatnonzero(np.isfinite(snapped))
    rows = rows[np.argsort(onset[rows], kind="stable")]
    moves = snapped[rows] - onset[rows]
    usual = scipy.ndimage.median_filter(moves, _MEDIAN_NOTES, mode="nearest") if len(rows) else moves
    alike = np.abs(moves - usual) < _OUTLIER_SECONDS
    if not alike.any():
        return np.zeros(1), np.zeros(1)
    times, moves = onset[rows][alike], moves[alike]
    bounds = np.flatnonzero(np.diff(times) > SAME_ONSET / 2) + 1
    chords = zip(np.split(times, bounds), np.split(moves, bounds), strict=True)
    centres = np.array([(chord.mean(), np.median(move)) for chord, move in chords])
    return centres[:, 0], centres[:, 1]


def _activation(heard: Heard, onset: np.ndarray, pitch: np.ndarray) -> np.ndarray:
    """The highest activation of each pitch's onset within a frame of an instant."""
    activations = scipy.ndimage.maximum_filter1d(heard.heads["onset"], 3, axis=0)
    frame = np.clip(np.rint(heard.clock.time_to_frame(onset)).astype(np.int64), 0, heard.num_frames - 1)
    column = pitch - heard.first_pitch
    known = (column >= 0) & (column < activations.shape[1])
    return np.where(known, activations[frame, np.where(known, column, 0)], 0.0)
