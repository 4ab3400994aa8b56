"""Beats → the files a musician or a researcher opens. Each is whole or absent."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from musicnet_tf import files, rhythm, writers
from musicnet_tf.errors import OutputError
from musicnet_tf.events import UNKNOWN, Beats
from musicnet_tf.timebase import FrameClock

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_CLICK_RATE = 44100
_CLICK_SECONDS = 0.05
_CLICK_HZ, _DOWNBEAT_HZ = 1000.0, 1500.0
_CLICK_LEVEL, _RECORDING_LEVEL = 0.4, 0.6  # together at most full scale
_BLOCK_SECONDS = 10.0
_MAX_COLUMNS = 4000
_BEAT_LINE = "#a6a6bd"
_TOP = 1.2  # of the activations' axes: numbers of bars are above 1
_BARS_APART, _MAX_BARS_TOLD = (1, 2, 5, 10, 20, 50, 100, 200, 500), 24
_SMOOTHING = 9
"""Intervals over whose median the drawn tempo runs: what the hand does from beat to beat would hide it."""


def write_beats(path: str | Path, beats: Beats) -> None:
    """A line a beat: seconds, a tab, and the place in the bar; the latter is left out where it is known of no beat."""
    known = (beats.position != UNKNOWN).any()
    rows = (f"{beat.time:.3f}\t{beat.position}\n" if known else f"{beat.time:.3f}\n" for beat in beats)
    files.write_text(path, "".join(rows))


def write_csv(path: str | Path, beats: Beats) -> None:
    """A table: seconds, place in the bar, and beats a minute up to the next beat; empty where unknown."""
    rows = ["time,position,tempo\n"]
    for beat, tempo in zip(beats, rhythm.tempo_curve(beats), strict=True):
        position = "" if beat.position == UNKNOWN else beat.position
        rows.append(f"{beat.time:.3f},{position},{'' if np.isnan(tempo) else f'{tempo:.2f}'}\n")
    files.write_text(path, "".join(rows))


def write_jams(path: str | Path, beats: Beats, duration: float, title: str = "", model: str = "") -> None:
    """A JAMS file with one `beat` annotation, whose values are places in the bar, null where unknown."""
    rows = [(beat.time, 0.0, None if beat.position == UNKNOWN else beat.position, None) for beat in beats]
    writers.write_annotations(path, [writers.Annotation("beat", rows)], duration, title, model)


def write_click(path: str | Path, beats: Beats, duration: float, recording: str | Path | None = None) -> None:
    """A WAV file of a click a beat, higher on downbeats, over the recording where it is given, mono.

    Args:
        path: to write to.
        beats: in seconds of the recording.
        duration: seconds that the file lasts, where there is no recording.
        recording: any audio that `audio.blocks` decodes.

    Raises:
        AudioError: where the recording cannot be read.
        OutputError: where the file cannot be written.
    """
    import soundfile

    from musicnet_tf import audio

    rate = _CLICK_RATE if recording is None else audio.probe(recording).sample_rate
    sound = _silence(duration, rate) if recording is None else audio.blocks(recording)
    try:
        with (
            files.atomic(path) as part,
            soundfile.SoundFile(os.fsencode(part), "w", rate, 1, "PCM_16", format="WAV") as file,
        ):
            for block in with_clicks(sound, rate, beats):
                file.write(audio.quantise(block))
    except soundfile.SoundFileError as error:
        raise OutputError(f"{path}: cannot be written as WAV at {rate} Hz ({error})") from error


def with_clicks(blocks: Iterator[np.ndarray], sample_rate: int, beats: Beats) -> Iterator[np.ndarray]:
    """Consecutive pieces of sound, float32 `(samples,)`, and the clicks of the beats in them."""
    start = np.rint(beats.time * sample_rate).astype(np.int64)
    downbeat, length = beats.position == 1, round(_CLICK_SECONDS * sample_rate)
    sounds = [_click(hertz, length, sample_rate) for hertz in (_CLICK_HZ, _DOWNBEAT_HZ)]
    begin = 0
    for block in blocks:
        end = begin + len(block)
        mixed = block * np.float32(_RECORDING_LEVEL)
        for beat in range(*np.searchsorted(start, [begin - length + 1, end])):
            low, high = max(start[beat], begin), min(start[beat] + length, end)
            mixed[low - begin : high - begin] += sounds[int(downbeat[beat])][low - start[beat] : high - start[beat]]
        yield mixed
        begin = end


def figure(
    beats: Beats,
    duration: float,
    title: str = "",
    heads: dict[str, np.ndarray] | None = None,
    clock: FrameClock | None = None,
) -> Figure:
    """The activations with the beats in them, in as many rows as their length asks for, and the tempo below.

    Bars are numbered from the first downbeat on, where the place of every beat after it is known.

    Args:
        beats: in seconds.
        duration: seconds to show.
        title: above the figure.
        heads: head → activations `(frames, 1)`, where they are to be shown; with `clock`.
        clock: of the frames.
    """
    from musicnet_tf import plots  # brings matplotlib

    duration = max(duration, 1.0)
    row_seconds, num_rows = plots.rows(duration)
    drawn = plots.blank_figure(12, 2.4 + 1.3 * num_rows)
    *upper, lower = drawn.subplots(num_rows + 1, 1, height_ratios=[*[1] * num_rows, 1.4])
    for row, axes in enumerate(upper):
        start = row * row_seconds
        plots.time_axis(axes, start, start + row_seconds)
        _draw_beats(axes, beats, start, start + row_seconds)
        if heads and clock:
            _draw_activations(axes, heads, clock, start, start + row_seconds)
        axes.set_ylim(0, _TOP)
        axes.set_yticks([0, 1])
        axes.grid(False)  # would look like beats
        plots.plain(axes)
    upper[0].set_ylabel("activation", color=plots.INK)
    plots.legend_above(upper[0], upper[0].get_legend_handles_labels()[0])
    plots.heading(upper[0], title)
    _draw_tempo(lower, beats)
    plots.time_axis(lower, 0.0, duration)
    plots.plain(lower)
    lower.set_xlabel("time (min:s)", color=plots.INK)
    return drawn


def _draw_beats(axes: Axes, beats: Beats, start: float, stop: float) -> None:
    """Lines from bottom to top, and beside some of the downbeats the numbers of their bars."""
    from musicnet_tf import plots

    first = beats.position == 1
    shown = (beats.time >= start) & (beats.time < stop)
    kinds = ((shown & ~first, _BEAT_LINE, 0.9, "a beat"), (shown & first, plots.TRUTH, 1.5, "a bar begins"))
    for chosen, color, width, name in kinds:
        axes.vlines(beats.time[chosen], 0, _TOP, color=color, linewidth=width, label=name, zorder=1)
    bars = np.cumsum(first)
    if (beats.position[bars > 0] == UNKNOWN).any():
        return
    bar, at = bars[shown & first], beats.time[shown & first]
    every = next((step for step in _BARS_APART if len(bar) / step <= _MAX_BARS_TOLD), _BARS_APART[-1])
    for number, time in zip(bar, at, strict=True):
        if every == 1 or number % every == 0:
            axes.annotate(str(number), (time, _TOP), (2, -8), textcoords="offset points", fontsize=7, color=plots.INK)


def _draw_activations(axes: Axes, heads: dict[str, np.ndarray], clock: FrameClock, start: float, stop: float) -> None:
    """A curve a head; where there are more frames than can be told apart, the greatest of those that fall together."""
    from musicnet_tf import plots

    for (name, values), color in zip(heads.items(), (plots.INK, plots.TRUTH), strict=False):
        low, high = np.clip(np.ceil(clock.time_to_frame(np.array([start, stop]))).astype(int), 0, len(values))
        first = np.arange(low, high, max(1, (high - low) // _MAX_COLUMNS))
        greatest = np.maximum.reduceat(values[:high, 0], first) if len(first) else np.zeros(0)
        label = f"activation of {name}s"
        time = clock.frame_to_time(first)
        axes.plot(time, greatest, color=color, linewidth=0.9, label=label, zorder=3)
        axes.fill_between(time, greatest, color=color, alpha=0.25, linewidth=0, zorder=2)


def _draw_tempo(axes: Axes, beats: Beats) -> None:
    """From beat to beat as dots, and as the line that the ear follows; what is far from most is not shown."""
    from musicnet_tf import plots

    tempo = rhythm.tempo_curve(beats)
    axes.plot(beats.time, tempo, ".", color=plots.GRID, markersize=3)
    axes.plot(beats.time, rhythm.tempo_curve(beats, _SMOOTHING), color=plots.INK, linewidth=1.2)
    if found := rhythm.tempo(beats):
        axes.axhline(found.median, color=plots.TRUTH, linewidth=0.8, linestyle="--", zorder=1)
        axes.set_ylim(0.9 * found.low, 1.1 * found.high)
    axes.set_ylabel("beats a minute", color=plots.INK)
    axes.set_title(rhythm.describe(beats), loc="left", fontsize=9, color=plots.INK)


def write_png(path: str | Path, transcript: writers.Transcript) -> None:
    """A picture of activations, beats and tempo."""
    from musicnet_tf import plots

    spool = transcript.posteriorgram
    heads, clock = ({}, None) if spool is None else (spool.read(), spool.clock)
    picture = plots.to_png_bytes(figure(transcript.events, transcript.duration, transcript.title, heads, clock))
    with files.atomic(path) as part:
        part.write_bytes(picture)


FORMATS: dict[str, writers.Format] = {
    "beats": writers.Format(".beats", lambda path, t: write_beats(path, t.events)),
    "csv": writers.Format(".csv", lambda path, t: write_csv(path, t.events)),
    "jams": writers.Format(".jams", lambda path, t: write_jams(path, t.events, t.duration, t.title, t.model)),
    "click": writers.Format(".click.wav", lambda path, t: write_click(path, t.events, t.duration, t.recording)),
    "npz": writers.FORMATS["npz"],
    "png": writers.Format(".png", write_png, needs_posteriorgram=True),
}


def _click(hertz: float, length: int, sample_rate: int) -> np.ndarray:
    """A sine that dies away, float32 `(length,)`."""
    samples = np.arange(length)
    decay = np.exp(-samples / (length / 5))
    return (_CLICK_LEVEL * decay * np.sin(2 * np.pi * hertz * samples / sample_rate)).astype(np.float32)


def _silence(duration: float, sample_rate: int) -> Iterator[np.ndarray]:
    remaining = round(duration * sample_rate)
    while remaining > 0:
        count = min(remaining, round(_BLOCK_SECONDS * sample_rate))
        yield np.zeros(count, np.float32)
        remaining -= count
