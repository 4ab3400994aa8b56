"""The figure of an evaluation: bars of the pieces, curves, and bars of the classes."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from musicnet_tf.metrics.report import Report

_Rows = Mapping[str, Mapping[str, float]]


def draw(report: Report) -> Any:
    """A `matplotlib.figure.Figure`: the `drawn` scores of each piece; curves and scores of classes, where there are."""
    # Not pyplot: it would look for a display and keep the figure alive.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    classes = {title: rows for title, rows in report.by_class.items() if _drawn(rows, report.drawn_of_classes)}
    panels: list[Callable[[Any], None]] = [functools.partial(_pieces, report=report)]
    panels += [functools.partial(_curves, report=report)] if report.curves else []
    panels += [functools.partial(_classes, report=report, title=title) for title in classes]
    height = max(3.5, 1.2 + 0.32 * max(map(len, [report.pieces, *classes.values()])))
    figure = Figure(figsize=(7 if len(panels) == 1 else 1 + 5 * len(panels), height), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        panel(axes)
    return figure


def _pieces(axes: Any, report: Report) -> None:
    mean = report.mean
    drawn = {key: label for key, label in report.drawn.items() if key in mean}
    bars = _bars(axes, report.pieces, {key: f"{label} (mean {mean[key]:.3f})" for key, label in drawn.items()})
    for key, bar in bars.items():
        axes.axvline(mean[key], linestyle=":", color=bar.patches[0].get_facecolor())
    axes.set(xlabel="F1")
    axes.figure.legend(loc="outside lower left", ncols=2, frameon=False)  # of what is drawn so far


def _curves(axes: Any, report: Report) -> None:
    for name, curve in report.curves.items():
        axes.plot(curve["recall"], curve["precision"], label=name)
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="recall", ylabel="precision", title=report.curves_title)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)


def _classes(axes: Any, report: Report, title: str) -> None:
    """Bars of those that have scores, and a tick where `pr_auc` would be by chance."""
    rows = report.by_class[title]
    drawn = _drawn(rows, report.drawn_of_classes)
    rows = {name: row for name, row in rows.items() if any(key in row for key in drawn)}
    bars = _bars(axes, rows, drawn)
    if "pr_auc" in bars:
        places = [bar.get_y() + bar.get_height() / 2 for bar in bars["pr_auc"].patches]
        floors = [row.get("pr_floor", 0.0) for row in rows.values()]
        axes.plot(floors, places, linestyle="", marker="|", markersize=9, color="black", label="by chance")
    axes.set_title(title, loc="left")
    axes.legend(frameon=False, fontsize="small", ncols=3, loc="lower right", bbox_to_anchor=(1.0, 1.0))


def _drawn(rows: _Rows, keys: Mapping[str, str]) -> dict[str, str]:
    return {key: label for key, label in keys.items() if any(key in row for row in rows.values())}


def _bars(axes: Any, rows: _Rows, drawn: Mapping[str, str]) -> dict[str, Any]:
    """Beside each row's name a bar of each score, an empty one where it lacks it: score → matplotlib's container."""
    places, bars = np.arange(len(rows)), {}
    step = 0.8 / max(len(drawn), 1)
    for k, (key, label) in enumerate(drawn.items()):
        shift = (k - (len(drawn) - 1) / 2) * step
        bars[key] = axes.barh(places + shift, [row.get(key, 0.0) for row in rows.values()], 0.95 * step, label=label)
    # A name may hold $, which would start mathematics.
    axes.set_yticks(places, [name.replace("$", r"\$") for name in rows])
    axes.set(xlim=(0, 1))
    axes.invert_yaxis()
    return bars
