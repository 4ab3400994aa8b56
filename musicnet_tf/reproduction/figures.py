"""The figures of the MusicNet paper, of whatever was trained: filters, curves, histograms, and scores as bars."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from musicnet_tf import filters, plots
from musicnet_tf.filters import Correlation

if TYPE_CHECKING:  # brings TensorFlow
    from musicnet_tf.reproduction.settings import Published

UNITS = 8
"""Filters that a figure shows."""
SUBSETS = {"all": "all points", "one": "exactly one label", "three": "exactly three labels"}

_OURS, _PAPER = "#3b5b92", "#f2a541"
_CURVES = {"all": "#3b5b92", "one": plots.TRUTH, "three": "#e5383b"}  # blue, green, red as in the paper
_CENTRE_SECONDS, _CENTRE_SHARE = 0.010, 1 / 16
_LOWEST_HZ = 27.5
_HZ_TICKS = (50, 100, 200, 500, 1000, 2000, 5000, 10_000)
_MAX_POINTS = 2000


def weights(kernels: np.ndarray, sample_rate: int, title: str = "") -> Figure:
    """Figures 1 and 3: weights over time, their magnified centre, and their spectrum, a row a unit.

    Units are those of the purest spectra, spread over their frequencies, low ones first.

    Args:
        kernels: `(receptive field, units)`.
        sample_rate: Hz.
        title: above the figure.
    """
    found = filters.spectra(kernels, sample_rate)
    frequencies, ratios = filters.dominant_frequencies(found), filters.peak_to_median(found)
    units = filters.spread(frequencies, ratios, UNITS)
    figure = plots.blank_figure(11, 1.2 + 0.8 * max(1, len(units)))
    axes = figure.subplots(max(1, len(units)), 3, squeeze=False, sharex="col", width_ratios=[1.2, 1, 1.2])
    milliseconds = (np.arange(len(kernels)) - (len(kernels) - 1) / 2) * 1000 / sample_rate
    centre = np.abs(milliseconds) <= 500 * max(_CENTRE_SECONDS, _CENTRE_SHARE * len(kernels) / sample_rate)
    for row, unit in zip(axes, units, strict=False):
        kernel = kernels[:, unit] / np.abs(kernels[:, unit]).max()
        row[0].plot(milliseconds, kernel, color=_OURS, linewidth=0.4)
        row[1].plot(milliseconds[centre], kernel[centre], color=_OURS, linewidth=1.0)
        magnitudes = found.magnitudes[:, unit] / found.magnitudes[:, unit].max()
        row[2].fill_between(found.frequencies, magnitudes, color=_OURS, linewidth=0.5)
        row[2].text(
            1.0,
            1.0,
            f"{_hertz(frequencies[unit])} Hz, {ratios[unit]:.0f} × median",
            transform=row[2].transAxes,
            ha="right",
            va="top",
            fontsize=8,
            color=plots.INK,
        )
        _bare(row, centre_limit=1.05)
    plots.heading(axes[0, 0], title)
    for ax, text in zip(axes[-1], ("weights over time (ms)", "their centre (ms)", "spectrum (Hz)"), strict=True):
        ax.set_xlabel(text, color=plots.INK)  # not above, where a long title may need all the width
    _frequency_scale(axes[-1, 2], sample_rate)
    return figure


def precision_recall(
    curves: Mapping[str, Mapping[str, Sequence[float]]], title: str = "", published: Published | None = None
) -> Figure:
    """Figure 4: precision over recall for all points, and for those with exactly one and three labels.

    Args:
        curves: subset → `precision` and `recall` at every threshold, as in `Result.curves`.
        title: above the figure.
        published: the paper's precision and recall at its threshold, drawn as a cross.
    """
    figure = plots.blank_figure(6.5, 5.5)
    ax = figure.subplots()
    for name, curve in curves.items():
        recall, precision = np.asarray(curve["recall"]), np.asarray(curve["precision"])
        order = np.argsort(recall, kind="stable")
        order = order[:: max(1, len(order) // _MAX_POINTS)]
        ax.plot(recall[order], precision[order], color=_CURVES.get(name), label=SUBSETS.get(name, name), linewidth=1.6)
    if published is not None and published.recall is not None and published.precision is not None:
        ax.plot(
            published.recall,
            published.precision,
            linestyle="",
            marker="X",
            markersize=9,
            color=_PAPER,
            markeredgecolor=plots.INK,
            label="the paper, all points",
        )
    ax.set(xlim=(0, 1), ylim=(0, 1.01))
    ax.set_xlabel("recall", color=plots.INK)
    ax.set_ylabel("precision", color=plots.INK)
    _grid(ax, "both")
    legend = ax.legend(frameon=False, fontsize=9, loc="best")
    for text in legend.get_texts():
        text.set_color(plots.INK)
    plots.heading(ax, title)
    return figure


def histograms(notes: np.ndarray, tuned: np.ndarray, correlation: Correlation, title: str = "") -> Figure:
    """Figure 5: how the notes' frequencies are distributed, and those of the learned filters beside them.

    Args:
        notes: how long each MIDI pitch sounds, in any unit, `(128,)`.
        tuned: filters by the MIDI pitch that they are tuned to, `(128,)`.
        correlation: of the two.
        title: above the figure.
    """
    figure = plots.blank_figure(12, 4)
    mass = np.flatnonzero((notes > 0) | (tuned > 0))
    low, high = (int(mass.min()), int(mass.max()) + 1) if len(mass) else (21, 109)
    left, right = figure.subplots(1, 2, sharex=True)
    whole = int(tuned.sum())
    for ax, histogram, color in ((left, notes, plots.TRUTH), (right, tuned, _OURS)):
        ax.bar(np.arange(len(histogram)), 100 * histogram / max(histogram.sum(), 1e-9), width=0.9, color=color)
        ax.set_xlim(low - 1, high)
        ax.xaxis.set_major_locator(FixedLocator([p for p in range(9, 128, 12) if low - 1 <= p <= high]))
        ax.xaxis.set_major_formatter(FuncFormatter(lambda pitch, _: _hertz(440 * 2 ** ((pitch - 69) / 12))))
        ax.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{share:g}%"))
        ax.set_xlabel("Hz (a bar a semitone, a line each A)", color=plots.INK)
        _grid(ax, "both")
    plots.heading(left, title)
    left.set_ylabel("notes: share of sounding time", color=plots.INK)
    right.set_ylabel(f"filters: share of the {whole} tuned to a pitch", color=plots.INK)
    words = f"Pearson r = {correlation.r:.2f} over {correlation.pitches} semitones"
    right.set_title(words, loc="right", fontsize=10, color=plots.INK)
    return figure


def average_precisions(labels: Sequence[str], ours: Sequence[float], paper: Sequence[float], title: str = "") -> Figure:
    """Average precision of each row, ours above the paper's; NaN where there is none.

    Args:
        labels: of the rows, from the top.
        ours, paper: in [0, 1], as many.
        title: above the figure.
    """
    figure = plots.blank_figure(9, 1.4 + 0.5 * len(labels))
    ax = figure.subplots()
    places = np.arange(len(labels))
    for shift, values, color, label in ((-0.2, ours, _OURS, "ours"), (0.2, paper, _PAPER, "the paper")):
        percent = 100 * np.asarray(values, float)
        ax.barh(places + shift, np.nan_to_num(percent), 0.38, color=color, label=label)
        for place, value in zip(places + shift, percent, strict=True):
            text = f"{value:.1f}" if np.isfinite(value) else "–"
            ax.text(np.nan_to_num(value) + 0.6, place, text, va="center", fontsize=8, color=plots.INK)
    ax.set_xlim(0, 100)
    ax.set_yticks(places, [label.replace("$", r"\$") for label in labels])
    ax.invert_yaxis()
    ax.set_xlabel("average precision (%)", color=plots.INK)
    _grid(ax, "x")
    handles = [Line2D([], [], color=c, linewidth=6, label=t) for c, t in ((_OURS, "ours"), (_PAPER, "the paper"))]
    plots.legend_above(ax, handles)
    plots.heading(ax, title)
    return figure


def _bare(row: Sequence[Axes], centre_limit: float) -> None:
    for ax in row:
        plots.plain(ax)
        ax.yaxis.set_major_locator(NullLocator())
        ax.margins(x=0)
        ax.tick_params(axis="x", labelsize=8)
    for ax in row[:2]:
        ax.set_ylim(-centre_limit, centre_limit)
        ax.axhline(0, color=plots.GRID, linewidth=0.5, zorder=0)
        ax.xaxis.set_major_locator(MaxNLocator(7))
    row[2].set_ylim(0, 1.4)  # leaves room for words above the peak


def _frequency_scale(ax: Axes, sample_rate: int) -> None:
    """Octaves of equal width from the lowest note of the piano to half the sample rate."""
    ax.set_xscale("log", base=2)
    ax.set_xlim(_LOWEST_HZ, sample_rate / 2)
    ax.xaxis.set_major_locator(FixedLocator([hz for hz in _HZ_TICKS if hz <= sample_rate / 2]))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda hz, _: f"{hz:g}" if hz < 1000 else f"{hz / 1000:g}k"))


def _hertz(value: float) -> str:
    return f"{value:.0f}" if value < 1000 else f"{value:,.0f}"


def _grid(ax: Axes, axis: str) -> None:
    plots.plain(ax)
    ax.grid(axis=axis, color=plots.GRID, linewidth=0.4, alpha=0.7)  # type: ignore[arg-type]
    ax.set_axisbelow(True)
