"""The tables of a reproduction: ours beside the paper's, and whether the paper's order came out."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import scipy.stats

from musicnet_tf import plots
from musicnet_tf.reproduction.analysis import Analysis
from musicnet_tf.reproduction.document import DASH, Table
from musicnet_tf.reproduction.result import Result, Scores
from musicnet_tf.reproduction.settings import Published, Row, Study

SCORES = {"precision": "P", "recall": "R", "average_precision": "AP"}
"""What the paper gives of each model, and the headings."""
MISSING = "missing"
"""Stands in a row that was not trained, or not evaluated yet."""


EXPERIMENT = "experiment"
"""The setting that holds a row's whole config."""
_TO_COMPARE = ("scale", "test", "protocol", "records")

Results = Mapping[str, Result]


class Pair(NamedTuple):
    """Two neighbours of the paper's order: `better` should have the greater average precision, by `difference`."""

    better: str
    worse: str
    difference: float

    @property
    def holds(self) -> bool:
        return self.difference > 0


class Tau(NamedTuple):
    """Kendall's tau-b between the paper's order and ours over so many `rows`; NaN below two."""

    tau: float
    p_value: float
    rows: int


def label(row: Row) -> str:
    """A row in words, as `MLP, 500 nodes, 2048 raw samples`."""
    return ", ".join(filter(None, (row.title, row.features)))


def percent(value: float | None) -> str:
    """`0.4321` → `43.2`, as the paper writes; a dash where there is no value."""
    return DASH if value is None or not math.isfinite(value) else f"{100 * value:.1f}"


def f1(published: Published) -> float | None:
    """The harmonic mean of the publication's precision and recall, which it does not print."""
    precision, recall = published.precision, published.recall
    if precision is None or recall is None or not precision + recall:
        return None
    return 2 * precision * recall / (precision + recall)


def main(study: Study, results: Results) -> Table:
    """The paper's scores and ours over all test points, in percent, and what training took."""
    rows = []
    for row in filter(lambda row: row.in_table, study.rows):
        result, paper = results.get(row.name), row.published
        cells = [row.title, row.features or DASH]
        ours = result.pooled if result else {}
        for name in SCORES:
            cells += [percent(getattr(paper, name)), percent(ours.get(name)) if result else MISSING]
        cells += [_difference(ours.get("average_precision"), paper.average_precision)]
        rows.append((*cells, percent(f1(paper)), percent(ours.get("f1")), *_cost(result)))
    pairs = [f"{head} {whose}" for head in SCORES.values() for whose in ("paper", "ours")]
    head = ("Model", "Features", *pairs, "AP ours − paper", "F1 paper", "F1 ours", *_COST)
    return Table(head, tuple(rows), left=2)


def extra(study: Study, results: Results) -> Table | None:
    """Rows that were trained for a figure alone; None where the study has none."""
    rows = []
    for row in filter(lambda row: not row.in_table, study.rows):
        result = results.get(row.name)
        scores = [percent(result.pooled.get(name)) if result else MISSING for name in (*SCORES, "f1")]
        rows.append((row.title, row.features or DASH, *scores, *_cost(result)))
    if not rows:
        return None
    return Table(("Model", "Features", *SCORES.values(), "F1", *_COST), tuple(rows), left=2)


def order(study: Study, results: Results) -> list[Pair]:
    """Neighbours in the paper's order of which both were evaluated, from the best on."""
    there = [name for name in study.order if name in results]
    return [Pair(a, b, _ap(results[a]) - _ap(results[b])) for a, b in itertools.pairwise(there)]


def order_tau(study: Study, results: Results) -> Tau:
    """Between the study's order and ours."""
    there = [name for name in study.order if name in results]
    return _tau([-float(rank) for rank in range(len(there))], [_ap(results[name]) for name in there])


def published_tau(study: Study, results: Results) -> Tau:
    """Between the average precisions that the paper gives and ours, over all rows that have both."""
    both = [
        (row.published.average_precision, _ap(results[row.name]))
        for row in study.rows
        if row.name in results and row.published.average_precision is not None
    ]
    return _tau([paper for paper, _ in both], [ours for _, ours in both])


def ordering(study: Study, results: Results) -> Table:
    """Each pair of neighbours, by how much in the paper and in ours, and whether it came out."""
    rows = {row.name: row for row in study.rows}
    lines = []
    for pair in order(study, results):
        better, worse = rows[pair.better], rows[pair.worse]
        paper = _difference(better.published.average_precision, worse.published.average_precision)
        holds = "yes" if pair.holds else "no"
        lines.append((label(better), label(worse), holds, paper, _difference(pair.difference, 0.0)))
    return Table(("Better in the paper", "than", "holds", "AP apart, paper", "AP apart, ours"), tuple(lines), left=3)


def piece(study: Study, results: Results, id: str) -> Table:
    """One recording's scores by row; the paper's columns where it tells of this recording."""
    there = [row for row in study.rows if row.name in results and id in results[row.name].pieces]
    known = any(id in row.published_pieces for row in study.rows)
    lines = []
    for row in there:
        ours, paper = results[row.name].pieces[id], row.published_pieces.get(id, Published())
        cells = [row.title, row.features or DASH]
        for name in SCORES:
            cells += [percent(getattr(paper, name))] if known else []
            cells += [percent(ours.get(name))]
        lines.append((*cells, percent(ours.get("f1"))))
    whose = ("paper", "ours") if known else ("ours",)
    heads = [f"{head} {who}" for head in SCORES.values() for who in whose]
    return Table(("Model", "Features", *heads, "F1 ours"), tuple(lines), left=2)


def polyphony(study: Study, results: Results) -> Table | None:
    """Average precision by number of simultaneous notes, a row a model; None where nothing was evaluated.

    Where nothing sounds, the share of points in which anything is predicted stands instead. The first line counts
    the points; a dash stands in it where rows differ, as where points lie by the window of each model.
    """
    there = [row for row in study.rows if row.name in results]
    counts = sorted({count for row in there for count in results[row.name].polyphony}, key=int)
    if not counts:
        return None
    lines = [
        ("Points", DASH, *(_points([results[row.name].polyphony.get(count) for row in there]) for count in counts))
    ]
    for row in there:
        scores = results[row.name].polyphony
        lines.append((row.title, row.features or DASH, *(percent(_of(scores, count)) for count in counts)))
    heads = ["0: false alarms" if count == "0" else count for count in counts]
    return Table(("Model", "Features", *heads), tuple(lines), left=2)


def fit(study: Study, results: Results) -> Table:
    """Scores on the sampled training points beside those on test points: what was learnt by heart shows here."""
    lines = []
    for row in filter(lambda row: row.name in results, study.rows):
        result = results[row.name]
        training, test = result.training, result.pooled
        cells = [percent(scores.get(name)) for name in ("average_precision", "f1") for scores in (training, test)]
        gap = _difference(training.get("average_precision"), test.get("average_precision"))
        lines.append((row.title, row.features or DASH, cells[0], cells[1], gap, *cells[2:], f"{result.threshold:.4g}"))
    head = ("AP training", "AP test", "AP training − test", "F1 training", "F1 test", "threshold c")
    return Table(("Model", "Features", *head), tuple(lines), left=2)


def tuning(study: Study, analyses: Mapping[str, Analysis]) -> Table:
    """How pure the learned filters are, and how their frequencies go with the notes'."""
    lines = []
    for row in filter(lambda row: row.name in analyses, study.rows):
        found = analyses[row.name]
        after, before = found.correlation(found.trained), found.correlation(found.initial)
        lines.append(
            (
                row.title,
                row.features or DASH,
                str(found.kernels.shape[1]),
                _number(found.trained.ratio, 1),
                _number(found.initial.ratio, 1),
                _number(found.quotient, 2),
                str(int(found.trained.histogram.sum())),
                _number(after.r if after else math.nan, 3),
                str(after.pitches) if after else DASH,
                _number(before.r if before else math.nan, 3),
            )
        )
    head = (
        *("Model", "Features", "filters", "peak / median, trained", "at initialisation", "quotient"),
        *("tuned to a MIDI pitch", "r with the notes", "semitones", "r at initialisation"),
    )
    return Table(head, tuple(lines), left=2)


def tested(results: Results) -> list[str]:
    """Ids of the recordings that rows were evaluated on."""
    return list(dict.fromkeys(id for result in results.values() for id in result.pieces))


def differing(results: Results) -> list[str]:
    """What rows should agree in to be compared, and do not: some may come from an earlier call with other flags."""
    found = [result.settings for result in results.values()]
    return [name for name in _TO_COMPARE if any(values.get(name) != found[0].get(name) for values in found)]


def settings(study: Study, results: Results) -> tuple[Table, Table]:
    """What is the same for all rows that were evaluated, and what is each one's own; without the experiments."""
    plain = {name: {k: v for k, v in found.settings.items() if k != EXPERIMENT} for name, found in results.items()}
    flat = {row.name: dict(_flat(plain[row.name])) for row in study.rows if row.name in results}
    names = list(dict.fromkeys(name for values in flat.values() for name in values))
    shared = [n for n in names if len({values.get(n) for values in flat.values()}) == 1]
    own = [name for name in names if name not in shared]
    common = tuple((name, next(iter(flat.values()))[name]) for name in shared)
    lines = []
    for row in filter(lambda row: row.name in flat, study.rows):
        threshold = f"{results[row.name].threshold:.6g}"
        lines.append((row.name, row.config.name, threshold, *(flat[row.name].get(name, DASH) for name in own)))
    by_row = Table(("Row", "config", "threshold c", *own), tuple(lines), left=3 + len(own))
    return Table(("Setting", "value"), common, left=2), by_row


_COST = ("parameters", "points trained", "training time")


def _cost(result: Result | None) -> tuple[str, ...]:
    if result is None:
        return (MISSING,) * len(_COST)
    return f"{result.num_parameters:,}", f"{result.points_trained:,}", plots.time_label(round(result.seconds))


def _ap(result: Result) -> float:
    return result.pooled["average_precision"]


def _difference(one: float | None, other: float | None) -> str:
    if one is None or other is None or not math.isfinite(one - other):
        return DASH
    return f"{100 * (one - other):+.1f}".replace("-", "−")


def _number(value: float, digits: int) -> str:
    return f"{value:.{digits}f}".replace("-", "−") if math.isfinite(value) else DASH


def _points(of_rows: Sequence[Scores | None]) -> str:
    """How many points all rows have; a dash where not all have as many."""
    numbers = {None if scores is None else int(scores["points"]) for scores in of_rows}
    only = numbers.pop()
    return DASH if numbers or only is None else f"{only:,}"


def _of(polyphony: Mapping[str, Scores], count: str) -> float | None:
    """Average precision, or the false alarms where nothing sounds, and so nothing can be found."""
    return polyphony.get(count, {}).get("false_alarms" if count == "0" else "average_precision")


def _tau(one: Sequence[float], other: Sequence[float]) -> Tau:
    if len(one) < 2:
        return Tau(math.nan, math.nan, len(one))
    found = scipy.stats.kendalltau(one, other)
    return Tau(float(found.statistic), float(found.pvalue), len(one))


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested settings as `outer.inner` → text."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", _text(value)


def _text(value: Any) -> str:
    if isinstance(value, list | tuple) and all(isinstance(item, str | int | float) for item in value):
        return ", ".join(map(str, value))
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
