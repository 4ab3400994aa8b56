"""Scores and times of beat trackers beside one another, as rows, Markdown and what goes into JSON."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.peers.outcome import COSTS, Outcome, grid
from musicnet_tf.events import UNKNOWN, Beats
from musicnet_tf.metrics import beats as beat_metrics

SCORES = {"f1": "F", "cemgil": "Cemgil", "cmlt": "CMLt", "amlt": "AMLt", "downbeat_f1": "downbeat F"}
"""Field of `Row` → what tables call it."""

_METRICS = {"f1": "beat/f1", "cemgil": "beat/cemgil", "cmlt": "beat/cmlt", "amlt": "beat/amlt"}


@dataclasses.dataclass(frozen=True)
class Row:
    """A system on a piece: scores of `musicnet_tf.metrics.beats`, and seconds.

    `downbeat_f1` is None where the piece or the system tells no downbeats.
    """

    system: str
    corpus: str
    piece: str
    f1: float
    cemgil: float
    cmlt: float
    amlt: float
    downbeat_f1: float | None
    beats: int
    estimated: int
    seconds: float
    read: float
    inference: float
    cpu_seconds: float
    decoding: float


@dataclasses.dataclass(frozen=True)
class Result(Outcome[Row]):
    """A beat tracker on all pieces."""

    @property
    def real_time_factor(self) -> float:
        """Wall-clock seconds from samples to beats by seconds of audio, over all pieces."""
        return sum(row.inference + row.decoding for row in self.rows) / sum(row.seconds for row in self.rows)

    def means(self, corpus: str) -> dict[str, float | None]:
        """Mean of each of `SCORES` over the pieces of a corpus that have it; None where none has."""
        rows = [row for row in self.rows if row.corpus == corpus]
        return {score: _mean([getattr(row, score) for row in rows]) for score in SCORES}


def score(reference: Beats, estimate: Beats, numbered: bool) -> dict[str, float | None]:
    """The scores of an estimate, by name in `SCORES`.

    Args:
        reference: the beats that are there; at least one after `beat_metrics.TRIM_SECONDS`.
        estimate: those that were found.
        numbered: whether the system tells downbeats.
    """
    found = beat_metrics.score(reference, estimate)
    scores: dict[str, float | None] = {ours: found[theirs] for ours, theirs in _METRICS.items()}
    return {**scores, "downbeat_f1": found.get("downbeat/f1") if numbered else None}


def tells_downbeats(estimates: Sequence[Beats]) -> bool:
    """Whether a system tells the place in the bar of any beat."""
    return any((estimate.position != UNKNOWN).any() for estimate in estimates)


def markdown(results: Sequence[Result], failed: Mapping[str, str], notes: Sequence[str] = ()) -> str:
    """The whole report.

    Args:
        results: at least one, all on the same pieces.
        failed: system → why it is not among them.
        notes: lines below the tables.
    """
    corpora = list(dict.fromkeys(row.corpus for row in results[0].rows))
    parts = [_corpus(corpus, results) for corpus in corpora]
    parts += [_times(results), _pieces(results)]
    trim = f"beats of the first {beat_metrics.TRIM_SECONDS:g} s do not count, as in mir_eval; means are of pieces"
    left_out = [f"- left out: {reason}" for reason in failed.values()]
    parts.append("\n".join([*left_out, *(f"- {note}" for note in (trim, *notes))]))
    return "\n\n".join(parts) + "\n"


def as_document(results: Sequence[Result], failed: Mapping[str, str]) -> dict[str, Any]:
    """All figures: the means by system and corpus, times, and a row a piece."""
    systems = {}
    for result in results:
        told = {field: getattr(result, field) for field in ("ours", "told", "start_up", "load")}
        told |= {"real_time_factor": result.real_time_factor, "cpu_factor": result.cpu_factor}
        told["means"] = {corpus: result.means(corpus) for corpus in dict.fromkeys(row.corpus for row in result.rows)}
        systems[result.name] = {**told, "pieces": [dataclasses.asdict(row) for row in result.rows]}
    return {"trim_seconds": beat_metrics.TRIM_SECONDS, "systems": systems, "failed": dict(failed)}


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _corpus(corpus: str, results: Sequence[Result]) -> str:
    """A line a system, the best F first."""
    count = sum(row.corpus == corpus for row in results[0].rows)
    rows = []
    for result in sorted(results, key=lambda result: -(result.means(corpus)["f1"] or 0.0)):
        means = result.means(corpus)
        rows.append([result.title, *(_told(means[score]) for score in SCORES)])
    return grid([f"{corpus}, {count} pieces", *SCORES.values()], rows)


def _times(results: Sequence[Result]) -> str:
    rows = [
        [result.title, f"{result.real_time_factor:.4f}", *result.costs]
        for result in sorted(results, key=lambda result: result.cpu_factor)
    ]
    return grid(["times", "real-time factor", *COSTS], rows)


def _pieces(results: Sequence[Result]) -> str:
    """A line a piece: F, AMLt and, where both sides tell downbeats, their F."""
    rows = []
    for first in results[0].rows:
        cells = []
        for result in results:
            row = result.row_like(first)
            cells.append(" / ".join(_told(v) for v in (row.f1, row.amlt, row.downbeat_f1) if v is not None))
        rows.append([first.corpus, first.piece, f"{first.seconds:.0f} s", str(first.beats), *cells])
    return grid(["corpus", "piece", "length", "beats", *(result.name for result in results)], rows)


def _told(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
