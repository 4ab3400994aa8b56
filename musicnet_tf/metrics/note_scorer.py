"""How notes are scored: decoded notes, their frames, the posteriorgram itself, and the MusicNet paper's protocol."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from musicnet_tf import scores, thresholds, windowing
from musicnet_tf.decode.notes import decode
from musicnet_tf.events import Notes
from musicnet_tf.metrics import Heard, Scorer, frames, under
from musicnet_tf.metrics import notes as note_metrics
from musicnet_tf.metrics.protocol import Protocol, Threshold
from musicnet_tf.metrics.protocol import score as score_protocol
from musicnet_tf.metrics.protocol import subsets as protocol_subsets
from musicnet_tf.models import ModelSpec
from musicnet_tf.registry import SCORERS
from musicnet_tf.thresholds import Thresholds

if TYPE_CHECKING:
    from musicnet_tf.manifest import Manifest
    from musicnet_tf.thresholds import Chosen


@SCORERS.register("notes")
class NoteScorer(Scorer):
    """Scores of a piece, and of all pooled.

    - `onset/…`, `onset_offset/…`, `onset_offset_velocity/…`: decoded notes, by `metrics.notes`.
    - `frame/…`, `multipitch/…`: decoded notes on a 10 ms grid, by `metrics.frames`.
    - `posteriorgram/…`: head `frame` above `thresholds.posteriorgram`, on the model's own clock.
    - `protocol/…`: the MusicNet paper's, by `metrics.protocol`. Not for recordings of less than a second.
    """

    annotation: ClassVar[str] = "notes"
    columns: ClassVar[Mapping[str, str]] = {
        "onset/precision": "onset P",
        "onset/recall": "onset R",
        "onset/f1": "onset F1",
        "onset_offset/f1": "+offset F1",
        "onset_offset_velocity/f1": "+velocity F1",
        "frame/precision": "frame P",
        "frame/recall": "frame R",
        "frame/f1": "frame F1",
        "multipitch/accuracy": "mp acc",
        "posteriorgram/f1": "post F1",
        "posteriorgram/average_precision": "post AP",
        "protocol/all/average_precision": "paper AP",
    }
    drawn: ClassVar[Mapping[str, str]] = {"onset/f1": "note onset F1", "frame/f1": "frame F1"}
    curves_title: ClassVar[str] = "MusicNet protocol"
    options: ClassVar[tuple[str, ...]] = ("protocol", "c")
    estimates: ClassVar[tuple[str, ...]] = (".mid", ".midi", ".csv", ".tsv", ".txt")
    references: ClassVar[tuple[str, ...]] = (".csv", ".tsv", ".txt", ".mid", ".midi")
    parameters: ClassVar[type[Chosen]] = Thresholds

    def __init__(
        self,
        spec: ModelSpec | None = None,
        thresholds: Thresholds | None = None,
        protocol: Protocol | None = None,
        c: Threshold | None = None,
    ) -> None:
        super().__init__()
        self._spec = spec
        self._thresholds = thresholds or Thresholds()
        self._protocol = protocol or Protocol()
        self._c = c or Threshold(self._thresholds.posteriorgram, "thresholds.posteriorgram")
        self._pool = _Pool()

    @classmethod
    def of(cls, manifest: Manifest, chosen: Chosen | None = None, **options: Any) -> NoteScorer:
        """With the paper's `protocol`, which tells where its points lie, and its threshold `c`, by default that of
        `posteriorgram/…`."""
        own = Thresholds.of(manifest)  # also where others are given: it refuses a model of no notes
        return cls(manifest.geometry, chosen or own, **options)  # type: ignore[arg-type]

    @classmethod
    def read(cls, path: Path) -> Notes:
        return scores.read(path)

    def settings(self) -> dict[str, Any]:
        return {
            "thresholds": self._thresholds.model_dump(mode="json"),
            "protocol": {**dataclasses.asdict(self._protocol), "threshold": dataclasses.asdict(self._c)},
        }

    def score(self, heard: Heard) -> dict[str, float]:
        assert self._spec is not None
        return self._score_heard(heard, self._spec) | self._score_protocol(heard, self._spec)

    def score_events(self, id: str, reference: Notes, estimate: Notes) -> dict[str, float]:
        row = note_metrics.score(reference, estimate)
        for criterion in note_metrics.CRITERIA:
            if f"{criterion}/recall" in row:
                correct = round(row[f"{criterion}/recall"] * len(reference))
                self._pool.count(criterion, frames.Counts(correct, len(estimate), len(reference)))
        rolls = frames.rolls(reference, estimate)
        counts = frames.count(*rolls)
        self._pool.count("frame", counts)
        return {**row, **under("frame", counts.scores()), **under("multipitch", frames.multipitch_rolls(*rolls))}

    def search(self, heard: Sequence[Sequence[Heard]]) -> Thresholds:
        assert self._spec is not None
        return thresholds.search_thresholds(heard, self._spec, self._thresholds.decoder)

    def pooled(self) -> dict[str, float]:
        return self._pool.scores(self._c.value)

    def curves(self) -> dict[str, dict[str, list[float]]]:
        return self._pool.curves()

    def _score_heard(self, heard: Heard, spec: ModelSpec) -> dict[str, float]:
        first_pitch, clock = spec.heads["frame"].first_pitch, windowing.recording_clock(spec)
        decoded = decode(heard.heads, clock, self._thresholds.decoder, first_pitch)
        row = self.score_events(heard.id, heard.events, decoded)

        posteriorgram = frames.widen(heard.heads["frame"], first_pitch)
        roll = frames.piano_roll(heard.events, clock, len(posteriorgram))
        threshold = self._thresholds.posteriorgram
        self._pool.count("posteriorgram", frames.count(roll, posteriorgram > threshold))
        return row | under("posteriorgram", frames.score(roll, posteriorgram, threshold))

    def _score_protocol(self, heard: Heard, spec: ModelSpec) -> dict[str, float]:
        labels, predictions = protocol_points(heard, spec, self._protocol)
        if not len(labels):
            return {}
        self._pool.points(labels, predictions)
        return under("protocol", score_protocol(labels, predictions, self._c.value))


def protocol_points(heard: Heard, spec: ModelSpec, protocol: Protocol) -> tuple[np.ndarray, np.ndarray]:
    """Labels and predictions `(points, 128)`; none of a recording that ends before the first point."""
    num_points = protocol.num_points(heard.duration)
    if not num_points:
        return np.zeros((0, frames.NUM_PITCHES), bool), np.zeros((0, frames.NUM_PITCHES), np.float32)
    posteriorgram, first_pitch = heard.heads["frame"], spec.heads["frame"].first_pitch
    clock = windowing.recording_clock(spec)
    predictions = protocol.predictions(posteriorgram, clock, num_points, first_pitch)
    return protocol.labels(heard.events, num_points), predictions


class _Pool:
    """What is summed over pieces: counts, and the protocol's points."""

    def __init__(self) -> None:
        self._counts: dict[str, frames.Counts] = {}
        self._labels: list[np.ndarray] = []
        self._predictions: list[np.ndarray] = []

    def count(self, name: str, counts: frames.Counts) -> None:
        self._counts[name] = self._counts.get(name, frames.Counts()) + counts

    def points(self, labels: np.ndarray, predictions: np.ndarray) -> None:
        self._labels.append(labels)
        self._predictions.append(predictions)

    def scores(self, threshold: float) -> dict[str, float]:
        pooled = {
            f"{name}/{key}": value for name, counts in self._counts.items() for key, value in counts.scores().items()
        }
        if self._labels:
            pooled |= under("protocol", score_protocol(*self._points(), threshold))
        return pooled

    def curves(self) -> dict[str, dict[str, list[float]]]:
        """Figure 4 of the paper."""
        if not self._labels:
            return {}
        labels, predictions = self._points()
        drawn = {}
        for name, subset in protocol_subsets(labels).items():
            if labels[subset].any():
                curve = frames.precision_recall_curve(labels[subset], predictions[subset])
                drawn[name] = {key: np.round(values, 6).tolist() for key, values in curve.items()}
        return drawn

    def _points(self) -> tuple[np.ndarray, np.ndarray]:
        return np.concatenate(self._labels), np.concatenate(self._predictions)
