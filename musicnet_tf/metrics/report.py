"""What an evaluation found: a row a piece, their mean, and what was pooled; as JSON, a table and a figure."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from musicnet_tf import files
from musicnet_tf.metrics import Scorer

JSON_NAME = "evaluation.json"
FIGURE_NAME = "evaluation.png"


@dataclasses.dataclass
class Report:
    """Scores of one evaluation. Score names are flat, such as `onset/f1`.

    Attributes:
        columns: the scores that the table shows, where there are any, and their headings. The JSON holds all.
        drawn: those that the figure shows, and what they are called there.
        settings: what was evaluated, and every parameter that moves a figure.
        pieces: piece → score name → value.
        pooled: score name → value over all pieces as if they were one, where that has a meaning.
        curves: name → columns of a precision-recall curve, pooled over the pieces.
        unpaired: `estimates` and `references` → names that have no partner.
        failed: piece → why it could not be evaluated.
        left_out: why pieces lack scores that others have → their names.
    """

    columns: Mapping[str, str]
    drawn: Mapping[str, str]
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    pieces: dict[str, dict[str, float]] = dataclasses.field(default_factory=dict)
    pooled: dict[str, float] = dataclasses.field(default_factory=dict)
    curves: dict[str, dict[str, list[float]]] = dataclasses.field(default_factory=dict)
    unpaired: dict[str, list[str]] = dataclasses.field(default_factory=dict)
    failed: dict[str, str] = dataclasses.field(default_factory=dict)
    left_out: dict[str, list[str]] = dataclasses.field(default_factory=dict)

    @classmethod
    def of(cls, scorer: Scorer, settings: Mapping[str, Any]) -> Report:
        """An empty one of what a scorer scores, with the scorer's settings after those given."""
        return cls(scorer.columns, scorer.drawn, {**settings, **scorer.settings()})

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
        """A row a piece, then the mean and, if any, the pooled scores, in aligned columns; `-` where there is none."""
        mean = self.mean
        keys = [key for key in self.columns if key in mean]
        rows = [["piece", *(self.columns[key] for key in keys)]]
        rows += [_row(name, scores, keys) for name, scores in self.pieces.items()]
        rows += [_row("mean", mean, keys)] + ([_row("pooled", self.pooled, keys)] if self.pooled else [])
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(_aligned(row, widths)).rstrip() for row in rows]
        rule, last = "-" * max(map(len, lines)), len(self.pieces) + 1
        return "\n".join([lines[0], rule, *lines[1:last], rule, *lines[last:]])

    def remarks(self) -> list[str]:
        """A line for each piece that is not in the table, and for all that lack a partner."""
        lines = [f"failed: {name}: {reason}" for name, reason in self.failed.items()]
        for reason, names in self.left_out.items():
            lines.append(f"{len(names)} pieces {reason}, not scored for it: {', '.join(names)}")
        for side, names in self.unpaired.items():
            if names:
                lines.append(f"{len(names)} {side} without a partner, not scored: {', '.join(names)}")
        return lines

    def figure(self) -> Any:
        """A `matplotlib.figure.Figure`: the `drawn` scores of each piece, and the curves where there are any."""
        # Not pyplot: it would look for a display and keep the figure alive.
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        height = max(3.5, 1.2 + 0.32 * len(self.pieces))
        figure = Figure(figsize=(11 if self.curves else 7, height), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots(1, 2 if self.curves else 1, squeeze=False)[0]
        self._draw_bars(axes[0])  # its legend is the figure's, and takes what is drawn so far
        if self.curves:
            self._draw_curves(axes[1])
        return figure

    def _draw_bars(self, axes: Any) -> None:
        names, mean = list(self.pieces), self.mean
        rows = np.arange(len(names))
        drawn = {key: label for key, label in self.drawn.items() if key in mean}
        step = 0.8 / len(drawn)
        for k, (key, label) in enumerate(drawn.items()):
            shift = (k - (len(drawn) - 1) / 2) * step
            values = [self.pieces[name].get(key, 0.0) for name in names]
            bars = axes.barh(rows + shift, values, 0.95 * step, label=f"{label} (mean {mean.get(key, 0.0):.3f})")
            axes.axvline(mean.get(key, 0.0), linestyle=":", color=bars.patches[0].get_facecolor())
        axes.set(xlim=(0, 1), xlabel="F1")
        # A name may hold $, which would start mathematics.
        axes.set_yticks(rows, [name.replace("$", r"\$") for name in names])
        axes.invert_yaxis()
        axes.figure.legend(loc="outside lower left", ncols=2, frameon=False)

    def _draw_curves(self, axes: Any) -> None:
        for name, curve in self.curves.items():
            axes.plot(curve["recall"], curve["precision"], label=name)
        axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="recall", ylabel="precision", title="MusicNet protocol")
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)


def _row(name: str, scores: dict[str, float], keys: list[str]) -> list[str]:
    return [name, *(f"{scores[key]:.3f}" if key in scores else "-" for key in keys)]


def _aligned(row: list[str], widths: list[int]) -> list[str]:
    return [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
