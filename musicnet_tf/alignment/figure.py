"""The picture of an alignment, as Figure 2 of the MusicNet paper, and how far to trust each note."""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

import librosa
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from musicnet_tf import plots
from musicnet_tf.alignment.result import Alignment, Finding
from musicnet_tf.events import Notes, Score

_MAX_CELLS = 750  # of the heat map either way: more than its pixels
_MAX_POINTS = 4000
_OVERVIEW_RATE = 5.0
_SMOOTHED_FRAMES, _SMOOTHED_SHARE = 9, 1 / 60
_CHUNK_FRAMES = 1024
_STRETCH_SECONDS = 8.0
_SPECTRUM_SECONDS = 0.1
_BINS_A_SEMITONE = 3
_RANGE_DB = 60.0
_MEDIANS = 100
_DOT_INK = 4000.0
_PATH, _REJECTS, _NOTICE = "#e5383b", "#e5383b", "#f2a541"


class Overview(NamedTuple):
    """Both sides in so few frames that all pairs of them can be compared.

    Attributes:
        recording: `(r, d)`.
        score: as written, `(s, d)`.
        recording_rate, score_rate: frames a second; frame `k` is centred on `k / rate` seconds.
    """

    recording: np.ndarray
    score: np.ndarray
    recording_rate: float
    score_rate: float


def overview(audio: np.ndarray, sample_rate: int, score: Score) -> Overview:
    """Chroma of a recording, float32 mono `(n,)`, and of a score: for the eye, not what was aligned by."""
    hop = 2 ** round(math.log2(sample_rate / _OVERVIEW_RATE))
    rate = sample_rate / hop
    recording, written = _sounding_chroma(audio, sample_rate, hop), _written_chroma(score.notes, rate)
    return Overview(_contrasted(recording), _contrasted(written), rate, rate)


def draw(found: Alignment, audio: np.ndarray, sample_rate: int, sides: Overview, title: str = "") -> Figure:
    """The whole picture.

    Left, the costs between frames of recording and score, and the path; it is broken where the performer
    jumped. Right, the spectrum of the first seconds of music with the labels that fall there. Below, the
    confidence of each note and what was found.

    Args:
        found: what was aligned.
        audio: the recording, float32 mono `(n,)`.
        sample_rate: of `audio` in Hz.
        sides: what the costs are taken from.
        title: above the figure.
    """
    figure = plots.blank_figure(12, 8)
    grid = figure.add_gridspec(2, 2, height_ratios=[4, 1], width_ratios=[1, 1.2])
    costs = figure.add_subplot(grid[0, 0])
    _costs(costs, sides)
    _path(costs, found)
    plots.heading(costs, title)
    _labelled_spectrum(figure.add_subplot(grid[0, 1]), found.notes, audio, sample_rate)
    _confidence(figure.add_subplot(grid[1, :]), found)
    return figure


def written_path(found: Alignment) -> list[np.ndarray]:
    """The path through the score as written: seconds of recording and of score, `(p, 2)` a segment.

    Where the recording rests at a jump, the rest belongs to the segment before. Segments that the path does
    not reach are left out.
    """
    if not len(found.path):
        return []
    recording, played = found.path.T
    bounds = np.cumsum([0.0, *(segment.stop - segment.start for segment in found.segments)])
    inner = bounds[1:-1]
    inner = inner[(inner > played.min(initial=0)) & (inner < played.max(initial=0)) & ~np.isin(inner, played)]
    at = np.searchsorted(played, inner)
    recording = np.insert(recording, at, np.interp(inner, played, recording))
    played = np.insert(played, at, inner)
    pieces: list[np.ndarray] = []
    for segment, (start, stop) in zip(found.segments, itertools.pairwise(bounds), strict=True):
        first = np.searchsorted(played, start, side="right") - 1 if pieces else 0
        last = np.searchsorted(played, stop, side="right") if stop < bounds[-1] else len(played)
        if last - first > 1:
            y = played[first:last] - start + segment.start
            pieces.append(np.stack([recording[first:last], y], axis=1))
    return pieces


def _contrasted(chroma: np.ndarray) -> np.ndarray:
    """What sets each moment apart: shares of the pitch classes against their mean over the piece, smoothed.

    Without it all of a piece in one key looks alike, and the valley of the path is thinner than a line.
    """
    shares = np.sqrt(chroma / np.maximum(chroma.sum(axis=1, keepdims=True), 1e-9))
    width = max(_SMOOTHED_FRAMES, round(_SMOOTHED_SHARE * len(chroma)))
    smoothed = np.apply_along_axis(np.convolve, 0, shares - shares.mean(axis=0), np.hanning(width + 2)[1:-1])
    return smoothed[width // 2 :][: len(chroma)].astype(np.float32)


def _sounding_chroma(audio: np.ndarray, sample_rate: int, hop: int) -> np.ndarray:
    """Chroma of frames side by side, a chunk at a time, so that memory stays small for an hour."""
    filters = librosa.filters.chroma(sr=sample_rate, n_fft=hop).T
    taper = np.hanning(hop).astype(np.float32)
    padded_start, num_frames = -(hop // 2), len(audio) // hop + 1
    parts = []
    for first in range(0, num_frames, _CHUNK_FRAMES):
        count = min(_CHUNK_FRAMES, num_frames - first)
        start = padded_start + first * hop
        piece = audio[max(0, start) : start + count * hop]
        left = max(0, -start)
        piece = np.pad(piece, (left, count * hop - left - len(piece))).reshape(count, hop)
        parts.append((np.abs(np.fft.rfft(piece * taper)) @ filters).astype(np.float32))
    return np.concatenate(parts)


def _written_chroma(notes: Notes, rate: float) -> np.ndarray:
    """How long each pitch class sounds within each frame, in frames; float32 `(frames, 12)`."""
    edges = (np.arange(math.ceil(notes.end * rate) + 2) - 0.5) / rate
    chroma = np.zeros((len(edges) - 1, 12), np.float32)
    for pitch_class in range(12):
        voice = notes[notes.pitch % 12 == pitch_class]
        if len(voice):
            times = np.concatenate([voice.onset, voice.offset])
            order = np.argsort(times, kind="stable")
            sounding = np.cumsum(np.where(order < len(voice), 1, -1))  # notes between one event and the next
            times = times[order]
            seconds = np.concatenate([[0.0], np.cumsum(sounding[:-1] * np.diff(times))])
            chroma[:, pitch_class] = np.diff(np.interp(edges, times, seconds)) * rate
    return chroma


def _costs(ax: Axes, sides: Overview) -> None:
    """Cosine distances of all pairs of frames, as many frames to a cell as leave cells that can be seen."""
    (recording, right), (score, top) = (
        _cells(sides.recording, sides.recording_rate),
        _cells(sides.score, sides.score_rate),
    )
    extent = (-0.5 / sides.recording_rate, right, -0.5 / sides.score_rate, top)
    ax.imshow(1 - score @ recording.T, extent=extent, origin="lower", aspect="auto", cmap="gray", vmin=0, vmax=1)
    plots.time_axis(ax, 0.0, right, most_ticks=8)
    ax.set_ylim(0.0, top)
    plots.time_ticks(ax.yaxis, top, most=8)
    plots.plain(ax)
    ax.grid(visible=False)
    ax.set_xlabel("recording (min:s)", color=plots.INK)
    ax.set_ylabel("score as written (min:s)", color=plots.INK)


def _cells(frames: np.ndarray, rate: float) -> tuple[np.ndarray, float]:
    """Sums of neighbouring frames at unit length, and the seconds at which the last one ends."""
    step = max(1, math.ceil(len(frames) / _MAX_CELLS))
    cells = np.add.reduceat(np.asarray(frames, np.float32), np.arange(0, len(frames), step))
    norms = np.linalg.norm(cells, axis=1, keepdims=True)
    return cells / np.maximum(norms, 1e-9), (len(cells) * step - 0.5) / rate


def _path(ax: Axes, found: Alignment) -> None:
    """A line a segment, dashes where the performer jumped."""
    pieces = written_path(found)
    for piece in pieces:
        thinned = np.concatenate([piece[: -1 : max(1, len(piece) // _MAX_POINTS)], piece[-1:]])
        ax.plot(*thinned.T, color=_PATH, linewidth=1.3, zorder=4)
    for before, after in itertools.pairwise(pieces):
        jump = np.stack([before[-1], after[0]])
        ax.plot(*jump.T, color=_NOTICE, linewidth=1.3, linestyle=(0, (4, 2)), zorder=5)
    handles: list[Artist] = [Patch(color="0.25", label="alike"), Line2D([], [], color=_PATH, label="path")]
    if len(pieces) > 1:
        handles.append(Line2D([], [], color=_NOTICE, linestyle=(0, (4, 2)), label="jump"))
    plots.legend_above(ax, handles)


def _labelled_spectrum(ax: Axes, notes: Notes, audio: np.ndarray, sample_rate: int) -> None:
    """Levels over time and pitch from just before the first label on, and the labels upon them."""
    duration = len(audio) / sample_rate
    start = float(np.clip(notes.onset.min(initial=duration) - 0.5, 0, max(0.0, duration - _STRETCH_SECONDS)))
    stop = min(start + _STRETCH_SECONDS, duration)
    shown = notes.within(start, stop)
    low, high = plots.pitch_range(shown)
    stretch = audio[round(start * sample_rate) : round(stop * sample_rate)]
    levels = _levels(stretch, sample_rate, low, high)
    extent = (start, stop, low - 0.5, high - 0.5)
    ax.imshow(levels, extent=extent, origin="lower", aspect="auto", cmap="magma", vmin=-_RANGE_DB, vmax=0)
    plots.pitch_axis(ax, low, high)
    plots.time_axis(ax, start, stop)
    ax.grid(visible=False)
    lines = [((n.onset, n.pitch - 0.7), (n.onset, n.pitch + 0.7)) for n in shown if start <= n.onset]
    ax.add_collection(LineCollection(lines, colors=plots.TRUTH, linewidths=2.2, zorder=5))
    held = [((max(n.onset, start), n.pitch), (min(n.offset, stop), n.pitch)) for n in shown]
    ax.add_collection(LineCollection(held, colors=plots.TRUTH, linewidths=1.0, zorder=4))
    onset = Line2D([], [], color=plots.TRUTH, linestyle="", marker="|", markersize=9, markeredgewidth=2.2)
    onset.set_label("label begins")
    plots.legend_above(ax, [onset, Line2D([], [], color=plots.TRUTH, linewidth=1.0, label="and lasts")])
    _subtitle(ax, "spectrum of the first seconds of music")
    ax.set_xlabel("recording (min:s)", color=plots.INK)


def _levels(audio: np.ndarray, sample_rate: int, low: int, high: int) -> np.ndarray:
    """Decibels below the loudest on a grid of pitches, `(bins, frames)`."""
    length = 2 ** round(math.log2(_SPECTRUM_SECONDS * sample_rate))
    audio = np.pad(audio, (0, max(0, length - len(audio))))
    spectrum = np.abs(librosa.stft(audio, n_fft=length, hop_length=max(1, length // 16)))
    levels = librosa.amplitude_to_db(spectrum, ref=np.max, top_db=_RANGE_DB)
    count = (high - low) * _BINS_A_SEMITONE
    pitches = low - 0.5 + (np.arange(count) + 0.5) / _BINS_A_SEMITONE
    place = np.minimum(440.0 * 2 ** ((pitches - 69) / 12) * length / sample_rate, length // 2 - 1)
    below = place.astype(np.int64)
    part = (place - below)[:, None]
    return levels[below] * (1 - part) + levels[below + 1] * part


def _confidence(ax: Axes, found: Alignment) -> None:
    """A dot a note, their running median, and findings as bands of colour."""
    for finding in found.findings:
        if finding.start == finding.start:
            stop = finding.stop if finding.stop == finding.stop else finding.start
            ax.axvspan(finding.start, stop, color=_color(finding), alpha=0.3, linewidth=1, zorder=1)
    onset, confidence = found.notes.onset, found.note_confidence
    size = float(np.clip(_DOT_INK / max(1, len(onset)), 4, 16))
    ax.scatter(onset, confidence, s=size, color=plots.INK, alpha=0.35, linewidths=0, zorder=3)
    groups = np.array_split(np.arange(len(onset)), min(_MEDIANS, max(1, len(onset) // 5)))
    medians = [(np.median(onset[g]), np.median(confidence[g])) for g in groups if len(g)]
    if medians:
        ax.plot(*np.array(medians).T, color=plots.TRUTH, linewidth=1.5, zorder=4)
    plots.time_axis(ax, 0.0, max(found.duration, 1e-3))
    ax.set_ylim(-0.03, 1.03)
    plots.plain(ax)
    ax.set_ylabel("confidence of a note", color=plots.INK, fontsize=9)
    ax.set_xlabel("recording (min:s)", color=plots.INK)
    verdict = "accepted" if found.accepted else "rejected"
    _subtitle(ax, f"{verdict}, confidence in the pair {found.confidence:.2f}")
    kinds = {finding.kind: _color(finding) for finding in reversed(found.findings)}
    handles: list[Artist] = [Patch(color=color, alpha=0.5, label=k.replace("_", " ")) for k, color in kinds.items()]
    dot = Line2D([], [], color=plots.INK, alpha=0.5, linestyle="", marker=".", label="note")
    plots.legend_above(ax, [*handles, dot, Line2D([], [], color=plots.TRUTH, label="running median")])


def _subtitle(ax: Axes, text: str) -> None:
    ax.set_title(text, loc="left", fontsize=10, color=plots.INK)


def _color(finding: Finding) -> str:
    return _REJECTS if finding.rejects else _NOTICE
