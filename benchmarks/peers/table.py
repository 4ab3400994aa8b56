"""Scores and times of transcribers beside one another, as rows, Markdown and CSV. Figures only: no notes, no sound."""

from __future__ import annotations

import csv
import dataclasses
import io
import math
from collections.abc import Mapping, Sequence

import numpy as np

from benchmarks.peers.outcome import COSTS, Outcome, grid
from musicnet_tf.events import Notes
from musicnet_tf.metrics import frames
from musicnet_tf.metrics import notes as note_metrics

SCORES = ("onset", "onset_offset", "frame")


@dataclasses.dataclass(frozen=True)
class Row:
    """A system on a piece: F1 of notes by onset (50 ms), by onset and offset, and of 10 ms frames; and seconds."""

    system: str
    corpus: str
    piece: str
    onset: float
    onset_offset: float
    frame: float
    notes: int
    seconds: float
    read: float
    inference: float
    cpu_seconds: float
    decoding: float


@dataclasses.dataclass(frozen=True)
class Result(Outcome[Row]):
    """A transcriber on all pieces, and how many `parameters` it has."""

    parameters: int

    @property
    def real_time_factor(self) -> float:
        """Wall-clock seconds of inference by seconds of audio, over all pieces."""
        return sum(row.inference for row in self.rows) / sum(row.seconds for row in self.rows)

    def means(self) -> dict[str, dict[str, float]]:
        """Corpus → mean over its pieces of each of `SCORES`, in the order of the rows."""
        corpora = dict.fromkeys(row.corpus for row in self.rows)
        return {
            corpus: {
                score: float(np.mean([getattr(r, score) for r in self.rows if r.corpus == corpus])) for score in SCORES
            }
            for corpus in corpora
        }

    @property
    def accuracy(self) -> float:
        """Mean over corpora of the mean onset F1: one number to find systems that are alike by."""
        return float(np.mean([means["onset"] for means in self.means().values()]))


def score(reference: Notes, estimate: Notes) -> dict[str, float]:
    """The three F1 of an estimate, by name in `SCORES`."""
    found = note_metrics.score(reference, estimate, ("onset", "onset_offset"))
    frame = frames.count(*frames.rolls(reference, estimate)).scores()["f1"]
    return {"onset": found["onset/f1"], "onset_offset": found["onset_offset/f1"], "frame": frame}


def nearest_in_size(parameters: int, peers: Sequence[Result]) -> Result:
    """The peer whose parameter count is the nearest by ratio; of two as near, the bigger."""
    return min(peers, key=lambda peer: (abs(math.log(peer.parameters / parameters)), -peer.parameters))


def nearest_in_accuracy(accuracy: float, peers: Sequence[Result]) -> Result:
    """The peer whose mean onset F1 is the nearest."""
    return min(peers, key=lambda peer: abs(peer.accuracy - accuracy))


def markdown(results: Sequence[Result], failed: Mapping[str, str], notes: Sequence[str] = ()) -> str:
    """The whole report.

    Args:
        results: at least one, all on the same pieces; ours may come anywhere.
        failed: system → why it is not among them.
        notes: lines below the tables.
    """
    parts = [_summary(results), _beside(results), _pieces(results)]
    parts.append("\n".join([f"- left out: {reason}" for reason in failed.values()] + [f"- {note}" for note in notes]))
    return "\n\n".join(part for part in parts if part) + "\n"


def as_csv(results: Sequence[Result]) -> str:
    """A line for each system and piece."""
    text = io.StringIO()
    names = [field.name for field in dataclasses.fields(Row)]
    writer = csv.DictWriter(text, [*names, "parameters", "ours"], lineterminator="\n")
    writer.writeheader()
    for result in results:
        for row in result.rows:
            writer.writerow({**dataclasses.asdict(row), "parameters": result.parameters, "ours": int(result.ours)})
    return text.getvalue()


def _summary(results: Sequence[Result]) -> str:
    """A line a system, by size: means over the pieces of each corpus, and what it costs."""
    ours = next((result for result in results if result.ours), None)
    corpora = list(results[0].means())
    head = ["system", "parameters", *corpora, "real-time factor", "of ours", *COSTS]
    rows = []
    for result in sorted(results, key=lambda result: result.parameters):
        ratio = f"{result.real_time_factor / ours.real_time_factor:.2f}" if ours else "–"
        rows.append(
            [
                result.title,
                f"{result.parameters:,}",
                *(_three(result.means()[corpus]) for corpus in corpora),
                f"{result.real_time_factor:.4f}",
                ratio,
                *result.costs,
            ]
        )
    return grid(head, rows)


def _beside(results: Sequence[Result]) -> str:
    """Ours less the peer of nearest size, corpus by corpus, and our time by theirs."""
    peers = [result for result in results if not result.ours]
    corpora = list(results[0].means())
    head = ["ours", "nearest in parameters", *(f"{corpus}: ours − theirs" for corpus in corpora), "time, of theirs"]
    head += ["nearest in onset F1", "time, of theirs"]
    rows = []
    for result in results:
        if not result.ours or not peers:
            continue
        peer, rival = nearest_in_size(result.parameters, peers), nearest_in_accuracy(result.accuracy, peers)
        differences = [
            {score: result.means()[corpus][score] - peer.means()[corpus][score] for score in SCORES}
            for corpus in corpora
        ]
        rows.append(
            [
                f"{result.title} ({result.parameters:,})",
                f"{peer.name} ({peer.parameters:,})",
                *(_three(difference, "+.3f") for difference in differences),
                f"{result.real_time_factor / peer.real_time_factor:.2f}",
                f"{rival.name} ({rival.accuracy:.3f}; ours {result.accuracy:.3f})",
                f"{result.real_time_factor / rival.real_time_factor:.2f}",
            ]
        )
    return grid(head, rows) if rows else ""


def _pieces(results: Sequence[Result]) -> str:
    """A line a piece."""
    rows = []
    for first in results[0].rows:
        scores = [_three(dataclasses.asdict(result.row_like(first))) for result in results]
        rows.append([first.corpus, first.piece, f"{first.seconds:.0f} s", *scores])
    return grid(["corpus", "piece", "length", *(result.name for result in results)], rows)


def _three(scores: Mapping[str, float], form: str = ".3f") -> str:
    return " / ".join(format(scores[name], form) for name in SCORES)
