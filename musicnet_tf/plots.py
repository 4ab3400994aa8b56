"""Figures: a piano roll that one can read, and a posteriorgram beside the truth."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Sequence

import numpy as np
from matplotlib import cm, colors
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FuncFormatter, MultipleLocator

from musicnet_tf.events import UNKNOWN, Notes
from musicnet_tf.timebase import FrameClock

INK, GRID, TRUTH = "#22223b", "#c9c9d6", "#00b4a0"
"""Colours of text, of lines behind the music, and of what is taken for true."""

_BLACK_KEY = "#f3f3f7"
_UNKNOWN_VELOCITY = "#3b5b92"
_LOUDNESS = colors.ListedColormap(cm.magma_r(np.linspace(0.22, 0.92, 256)))  # type: ignore[attr-defined]
_SECONDS_A_ROW = (5, 10, 15, 20, 30, 60, 120, 180, 300, 600, 900, 1200, 1800, 3600, 7200)
_SECONDS_A_TICK = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600)
_MAX_COLUMNS = 4000
_MAX_TITLE = 80
_NAMES = ("C", "C♯", "D", "D♯", "E", "F", "F♯", "G", "G♯", "A", "A♯", "B")


def pitch_name(pitch: int) -> str:
    """`60` → `C4`."""
    return f"{_NAMES[pitch % 12]}{pitch // 12 - 1}"


def time_label(seconds: float) -> str:
    """`83.5` → `1:23.5`, `3723` → `1:02:03`."""
    tenths = round(seconds * 10)
    whole, tenth = divmod(tenths, 10)
    minutes, second = divmod(whole, 60)
    text = f"{minutes // 60}:{minutes % 60:02d}:{second:02d}" if minutes >= 60 else f"{minutes}:{second:02d}"
    return f"{text}.{tenth}" if tenth else text


def piano_roll(notes: Notes, duration: float | None = None, title: str = "", reference: Notes | None = None) -> Figure:
    """Notes over time, coloured by velocity, in as many rows as their length asks for.

    Args:
        notes: filled.
        duration: seconds to show; by default until the last note ends.
        title: above the figure.
        reference: notes to compare with, outlined.
    """
    shown = [notes] if reference is None else [notes, reference]
    duration = max(duration or max(n.end for n in shown), 1.0)
    row_seconds, num_rows = rows(duration)
    low, high = pitch_range(Notes.concatenate(shown))
    height = 0.8 + num_rows * (0.8 + (0.05 if num_rows == 1 else 0.036) * (high - low))
    figure = blank_figure(12, height)
    axes = figure.subplots(num_rows, 1, squeeze=False)[:, 0]
    for row, ax in enumerate(axes):
        start = row * row_seconds
        _keyboard(ax, low, high)
        time_axis(ax, start, start + row_seconds)
        _draw(ax, notes, start, start + row_seconds)
        if reference is not None:
            outline_notes(ax, reference.within(start, start + row_seconds), TRUTH)
    axes[-1].set_xlabel("time (min:s)", color=INK)
    heading(axes[0], title)
    if reference is None:
        axes[0].set_title(f"{len(notes)} notes", loc="right", fontsize=9, color=INK)
    else:
        estimated = Patch(color=_LOUDNESS(0.7), label=f"estimate ({len(notes)})")
        legend_above(axes[0], [estimated, outlined_patch(f"reference ({len(reference)})", TRUTH)])
    if (notes.velocity != UNKNOWN).any():
        _velocity_bar(figure, axes)
    return figure


def posteriorgram(
    frame: np.ndarray,
    clock: FrameClock,
    notes: Notes | None = None,
    first_pitch: int = 21,
    title: str = "",
) -> Figure:
    """Activations as a picture, the true notes outlined upon it.

    Args:
        frame: activations in [0, 1], `(frames, classes)`.
        clock: of the frames.
        notes: the truth, in seconds on the same clock.
        first_pitch: MIDI number of class 0.
        title: above the figure.
    """
    start, stop = clock.frame_to_time(np.array([-0.5, len(frame) - 0.5]))
    figure = blank_figure(12, 5)
    ax = figure.subplots()
    top = first_pitch + frame.shape[1]
    image = ax.imshow(
        _pooled(frame).T,
        extent=(start, stop, first_pitch - 0.5, top - 0.5),
        origin="lower",
        aspect="auto",
        cmap="magma",
        vmin=0,
        vmax=1,
        interpolation="nearest",
    )
    pitch_axis(ax, first_pitch, top)
    ax.grid(axis="y", color="white", alpha=0.18, linewidth=0.6)
    time_axis(ax, start, stop)
    ax.set_xlabel("time (min:s)", color=INK)
    handles = [Patch(color=cm.magma(0.75), label="activation")]  # type: ignore[attr-defined]
    if notes is not None:
        outline_notes(ax, notes.within(start, stop), TRUTH)
        handles.append(outlined_patch("truth", TRUTH))
    legend_above(ax, handles)
    heading(ax, title)
    bar = figure.colorbar(image, ax=ax, fraction=0.025, pad=0.01, aspect=30)
    plain(bar.ax)
    return figure


def to_png_bytes(figure: Figure, dpi: int = 110) -> bytes:
    """The figure as a PNG file."""
    out = io.BytesIO()
    with warnings.catch_warnings():
        # A title in a script that the font lacks is drawn as boxes; that is no reason to alarm anyone.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(out, format="png", dpi=dpi)
    return out.getvalue()


def blank_figure(width: float, height: float) -> Figure:
    """A figure of its own: pyplot's global state would keep every one of a batch in memory."""
    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def rows(duration: float) -> tuple[float, int]:
    """Seconds a row and how many rows show a recording: up to four for two minutes, up to six beyond."""
    if duration <= _SECONDS_A_ROW[3]:
        return duration, 1
    most = 4 if duration <= 120 else 6
    seconds = next((s for s in _SECONDS_A_ROW if duration <= s * most), math.ceil(duration / most))
    return seconds, math.ceil(duration / seconds)


def pitch_range(notes: Notes) -> tuple[int, int]:
    """Lowest and one past the highest pitch to show: whole octaves from C, at least two."""
    if not len(notes):
        return 48, 73
    low, high = (int(notes.pitch.min()) - 1) // 12 * 12, -(-(int(notes.pitch.max()) + 2) // 12) * 12
    if high - low < 24:
        high += 12
    return max(0, low), min(128, high + 1)


def _keyboard(ax: Axes, low: int, high: int) -> None:
    """Shades black keys and draws a line below each C, as players know the keyboard."""
    for pitch in range(low, high):
        if pitch % 12 in (1, 3, 6, 8, 10):
            ax.axhspan(pitch - 0.5, pitch + 0.5, color=_BLACK_KEY, linewidth=0, zorder=0)
        if pitch % 12 == 0:
            ax.axhline(pitch - 0.5, color=GRID, linewidth=0.8, zorder=1)
    pitch_axis(ax, low, high)


def pitch_axis(ax: Axes, low: int, high: int) -> None:
    """Shows MIDI numbers from `low` to below `high` upwards and names each C."""
    ax.set_ylim(low - 0.5, high - 0.5)
    ax.yaxis.set_major_locator(FixedLocator([p for p in range(low, high) if p % 12 == 0]))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda pitch, _: pitch_name(round(pitch))))
    plain(ax)


def time_axis(ax: Axes, start: float, stop: float, most_ticks: int = 12) -> None:
    """Shows `[start, stop]` seconds from left to right, with faint lines."""
    ax.set_xlim(start, stop)
    time_ticks(ax.xaxis, stop - start, most_ticks)
    ax.grid(axis="x", color=GRID, linewidth=0.4, alpha=0.7)
    ax.set_axisbelow(True)


def time_ticks(axis: Axis, seconds: float, most: int = 12) -> None:
    """Labels an axis of so many seconds in minutes and seconds, at round numbers."""
    tick = next((t for t in _SECONDS_A_TICK if seconds / t <= most), 7200)
    axis.set_major_locator(MultipleLocator(tick))
    axis.set_major_formatter(FuncFormatter(lambda value, _: time_label(max(0.0, value))))


def plain(ax: Axes) -> None:
    """Takes the frame away and leaves small labels."""
    for spine in ax.spines.values():
        spine.set_visible(False)
    ax.tick_params(colors=INK, length=0, labelsize=9)


def _draw(ax: Axes, notes: Notes, start: float, stop: float) -> None:
    """Notes as bars, the loud ones on top; the shortest is still a pixel wide."""
    notes = notes.within(start, stop)
    order = np.argsort(notes.velocity, kind="stable")
    known = notes.velocity != UNKNOWN
    face = np.where(known[:, None], _LOUDNESS(notes.velocity / 127), colors.to_rgba(_UNKNOWN_VELOCITY))
    bars = _rectangles(notes, inset=0.1, min_width=(stop - start) / 1000)
    ax.add_collection(PolyCollection(list(bars[order]), facecolors=face[order], linewidths=0, zorder=3))


def outline_notes(ax: Axes, notes: Notes, color: str) -> None:
    """Draws each note as an empty bar."""
    bars = _rectangles(notes, inset=0.0, min_width=0.0)
    ax.add_collection(PolyCollection(list(bars), facecolors="none", edgecolors=color, linewidths=1.1, zorder=4))


def _rectangles(notes: Notes, inset: float, min_width: float) -> np.ndarray:
    """Corners of each note's bar, `(n, 4, 2)`."""
    left, right = notes.onset, np.maximum(notes.offset, notes.onset + min_width)
    bottom, top = notes.pitch - 0.5 + inset, notes.pitch + 0.5 - inset
    corners = [(left, bottom), (right, bottom), (right, top), (left, top)]
    return np.stack([np.stack(corner, axis=1) for corner in corners], axis=1)


def _pooled(frame: np.ndarray) -> np.ndarray:
    """At most `_MAX_COLUMNS` frames, each the maximum of those it stands for."""
    step = max(1, math.ceil(len(frame) / _MAX_COLUMNS))
    if step == 1:
        return np.asarray(frame, np.float32)
    return np.maximum.reduceat(np.asarray(frame, np.float32), np.arange(0, len(frame), step))


def heading(ax: Axes, title: str) -> None:
    """Sets a bold title of any text at the left."""
    # A file's name may be long, and may hold $, which would start mathematics.
    title = title if len(title) <= _MAX_TITLE else f"{title[: _MAX_TITLE - 1]}…"
    ax.set_title(title.replace("$", r"\$"), loc="left", fontsize=12, fontweight="bold", color=INK)


def outlined_patch(label: str, color: str) -> Patch:
    """What `outline_notes` draws, for a legend."""
    return Patch(facecolor="none", edgecolor=color, linewidth=1.5, label=label)


def legend_above(ax: Axes, handles: Sequence[Artist]) -> None:
    """Sets a legend in one row above the right end."""
    legend = ax.legend(
        handles=list(handles),
        loc="lower right",
        bbox_to_anchor=(1.0, 1.0),
        ncols=len(handles),
        frameon=False,
        fontsize=9,
    )
    for text in legend.get_texts():
        text.set_color(INK)


def _velocity_bar(figure: Figure, axes: np.ndarray) -> None:
    scale = cm.ScalarMappable(colors.Normalize(0, 127), _LOUDNESS)
    bar = figure.colorbar(scale, ax=axes.tolist(), fraction=0.02, pad=0.01, aspect=40, ticks=[1, 32, 64, 96, 127])
    bar.set_label("velocity", color=INK, fontsize=9)
    bar.outline.set_visible(False)  # type: ignore[operator]
    plain(bar.ax)
