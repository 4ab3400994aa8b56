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
    from matplotlib.figure import Figure

_CLICK_RATE = 44100
_CLICK_SECONDS = 0.05
_CLICK_HZ, _DOWNBEAT_HZ = 1000.0, 1500.0
_CLICK_LEVEL, _RECORDING_LEVEL = 0.4, 0.6  # together at most full scale
_BLOCK_SECONDS = 10.0
_MAX_COLUMNS = 4000
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
    writers.write_annotation(path, "beat", rows, duration, title, model)


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
    """The activations with the beats in them, and the tempo from beat to beat below.

    Args:
        beats: in seconds.
        duration: seconds to show.
        title: above the figure.
        heads: head → activations `(frames, 1)`, where they are to be shown; with `clock`.
        clock: of the frames.
    """
    from musicnet_tf import plots  # brings matplotlib

    drawn = plots.blank_figure(12, 4.5)
    upper, lower = drawn.subplots(2, 1, sharex=True)
    for time, position in beats:
        upper.axvline(time, color=plots.TRUTH if position == 1 else plots.GRID, linewidth=0.8, zorder=1)
    for (name, values), color in zip((heads or {}).items(), (plots.INK, plots.TRUTH), strict=False):
        assert clock is not None
        step = max(1, len(values) // _MAX_COLUMNS)
        first = np.arange(0, len(values), step)
        greatest = np.maximum.reduceat(values[:, 0], first) if len(first) else first
        upper.plot(clock.frame_to_time(first), greatest, color=color, linewidth=0.8, label=name, zorder=2)
    if heads:
        plots.legend_above(upper, upper.get_legend_handles_labels()[0])
    upper.set_ylim(0, 1.05)
    lower.plot(beats.time, rhythm.tempo_curve(beats), ".", color=plots.GRID, markersize=3)
    lower.plot(beats.time, rhythm.tempo_curve(beats, _SMOOTHING), color=plots.INK, linewidth=1.2)
    for axes, label in ((upper, "activation"), (lower, "beats a minute")):
        plots.plain(axes)
        plots.time_axis(axes, 0.0, max(duration, 1.0))
        axes.set_ylabel(label, color=plots.INK)
    lower.set_xlabel("time (min:s)", color=plots.INK)
    plots.heading(upper, title)
    return drawn


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
