"""What an evaluation found: a row a piece, their mean, and what was pooled; as JSON, a table and a figure."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from musicnet_tf import files
from musicnet_tf.metrics import Scorer, report_figure

JSON_NAME = "evaluation.json"
FIGURE_NAME = "evaluation.png"

_Rows = Mapping[str, Mapping[str, float]]


@dataclasses.dataclass
class Report:
    """Scores of one evaluation. Score names are flat, such as `onset/f1`.

    Attributes:
        columns: the scores that the table shows, where there are any, and their headings. The JSON holds all.
        drawn: those that the figure shows, and what they are called there.
        class_columns, drawn_of_classes: the same of classes.
        curves_title: what the curves are of.
        settings: what was evaluated, and every parameter that moves a figure.
        pieces: piece → score name → value.
        pooled: score name → value over all pieces as if they were one, where that has a meaning.
        curves: name → columns of a precision-recall curve, pooled over the pieces.
        by_class: what is scored → class → score name → value, pooled over the pieces.
        confusion: what is scored → true class → the class that was found → how often.
        unpaired: `estimates` and `references` → names that have no partner.
        failed: piece → why it could not be evaluated.
        left_out: why pieces lack scores that others have → their names.
    """

    columns: Mapping[str, str]
    drawn: Mapping[str, str]
    class_columns: Mapping[str, str] = dataclasses.field(default_factory=dict)
    drawn_of_classes: Mapping[str, str] = dataclasses.field(default_factory=dict)
    curves_title: str = ""
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    pieces: dict[str, dict[str, float]] = dataclasses.field(default_factory=dict)
    pooled: dict[str, float] = dataclasses.field(default_factory=dict)
    curves: dict[str, dict[str, list[float]]] = dataclasses.field(default_factory=dict)
    by_class: dict[str, dict[str, dict[str, float]]] = dataclasses.field(default_factory=dict)
    confusion: dict[str, dict[str, dict[str, int]]] = dataclasses.field(default_factory=dict)
    unpaired: dict[str, list[str]] = dataclasses.field(default_factory=dict)
    failed: dict[str, str] = dataclasses.field(default_factory=dict)
    left_out: dict[str, list[str]] = dataclasses.field(default_factory=dict)

    @classmethod
    def of(cls, scorer: Scorer, settings: Mapping[str, Any]) -> Report:
        """An empty one of what a scorer scores, with the scorer's settings after those given."""
        shown = (scorer.columns, scorer.drawn, scorer.class_columns, scorer.drawn_of_classes, scorer.curves_title)
        return cls(*shown, settings={**settings, **scorer.settings()})

    def add(self, name: str, scores: dict[str, float]) -> None:
        """A piece, if it has scores."""
        if scores:
            self.pieces[name] = scores

    @property
    def mean(self) -> dict[str, float]:
        """Each score's mean over the pieces that have it."""
        names = dict.fromkeys(name for row in self.pieces.values() for name in row)
        return {name: float(np.mean([row[name] for row in self.pieces.values() if name in row])) for name in names}

    def to_json(self) -> dict[str, Any]:
        """Everything, in plain types."""
        return {
            "settings": self.settings,
            "num_pieces": len(self.pieces),
            "mean": self.mean,
            "pooled": self.pooled,
            **({"by_class": self.by_class} if self.by_class else {}),
            **({"confusion": self.confusion} if self.confusion else {}),
            "pieces": self.pieces,
            "unpaired": self.unpaired,
            "failed": self.failed,
            "left_out": self.left_out,
            "curves": self.curves,
        }

    def write(self, folder: str | Path) -> list[Path]:
        """Writes `evaluation.json` and, where a piece was evaluated, `evaluation.png`; tells what was written."""
        folder = files.make_folder(folder)
        files.write_json(folder / JSON_NAME, self.to_json())
        if not self.pieces:
            return [folder / JSON_NAME]
        with files.atomic(folder / FIGURE_NAME) as part:
            self.figure().savefig(part, dpi=120)
        return [folder / JSON_NAME, folder / FIGURE_NAME]

    def table(self) -> str:
        """A row a piece, then the mean and, if any, the pooled scores, in aligned columns; `-` where there is none.

        Below it tables of the classes, with their averages, and of what they were taken for, where there are any.
        """
        mean = self.mean
        columns = {key: heading for key, heading in self.columns.items() if key in mean}
        last = {"mean": mean} | ({"pooled": self.pooled} if self.pooled else {})
        tables = [_table("piece", columns, self.pieces, last)]
        for title, classes in self.by_class.items():
            known = {key: value for row in classes.values() for key, value in row.items()}
            columns = {key: heading for key, heading in self.class_columns.items() if key in known}
            tables.append(_table(title, columns, classes, self._averages(title)))
        for title, counts in self.confusion.items():
            tables.append(_table(f"{title}: true, taken for", {name: name for name in counts}, counts))
        return "\n\n".join(tables)

    def _averages(self, title: str) -> dict[str, dict[str, float]]:
        """Those of the classes, which are pooled under names such as `title/macro/f1`: macro → score name → value."""
        rows: dict[str, dict[str, float]] = {}
        for name, value in self.pooled.items():
            if name.startswith(f"{title}/") and name.count("/") == 2:
                _, kind, score = name.split("/")
                rows.setdefault(kind, {})[score] = value
        return rows

    def remarks(self) -> list[str]:
        """A line for each piece that is not in the table, for classes without scores, and for what lacks a partner."""
        lines = [f"failed: {name}: {reason}" for name, reason in self.failed.items()]
        for reason, names in self.left_out.items():
            lines.append(f"{len(names)} pieces {reason}, not scored for it: {', '.join(names)}")
        for title, classes in self.by_class.items():
            if absent := [name for name, row in classes.items() if not row["positives"]]:
                lines.append(f"{title}: nothing is {', '.join(absent)}; in no mean over classes")
        for side, names in self.unpaired.items():
            if names:
                lines.append(f"{len(names)} {side} without a partner, not scored: {', '.join(names)}")
        return lines

    def figure(self) -> Any:
        """As `report_figure.draw` draws it, a `matplotlib.figure.Figure`."""
        return report_figure.draw(self)


def _table(corner: str, columns: Mapping[str, str], rows: _Rows, last: _Rows = types.MappingProxyType({})) -> str:
    """A heading, a line, the rows, and beneath another line the last ones."""
    cells = [[corner, *columns.values()], *(_row(name, rows[name], columns) for name in rows)]
    cells += [_row(name, last[name], columns) for name in last]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["  ".join(_aligned(row, widths)).rstrip() for row in cells]
    rule, body = "-" * max(map(len, lines)), len(rows) + 1
    return "\n".join([lines[0], rule, *lines[1:body], *([rule] if last else []), *lines[body:]])


def _row(name: str, scores: Mapping[str, float], keys: Iterable[str]) -> list[str]:
    return [name, *(_cell(scores[key]) if key in scores else "-" for key in keys)]


def _cell(value: float) -> str:
    """Counts are whole."""
    return str(value) if isinstance(value, int) else f"{value:.3f}"


def _aligned(row: list[str], widths: list[int]) -> list[str]:
    return [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
