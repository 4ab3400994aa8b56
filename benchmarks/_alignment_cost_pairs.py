"""The first minutes of a performance, and the part of its score that is played in them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import mido
import numpy as np

from benchmarks import alignment_truth
from benchmarks.alignment_truth import Entry, Pair
from musicnet_tf import audio, files
from musicnet_tf.errors import AlignmentError


def first_unplayed(start_beat: np.ndarray, truth: np.ndarray, seconds: float) -> float:
    """The first beat of the score that is played at `seconds` or later, by the median of its notes; inf for none."""
    beats, index = np.unique(start_beat, return_inverse=True)
    for k, beat in enumerate(beats):
        played = truth[(index == k) & np.isfinite(truth)]
        if len(played) and np.median(played) >= seconds:
            return float(beat)
    return float("inf")


def cut_midi(source: Path, beat: float, target: Path) -> None:
    """Writes a MIDI file up to a quarter note, where what still sounds ends. Tempi and signatures are kept."""
    midi = mido.MidiFile(source)
    for track in midi.tracks:
        kept, tick = [], 0
        sounding: set[tuple[int, int]] = set()
        stop = beat * midi.ticks_per_beat
        for message in track:
            if tick + message.time >= stop or message.type == "end_of_track":
                break
            tick += message.time
            kept.append(message)
            if message.type in ("note_on", "note_off"):
                on = message.type == "note_on" and message.velocity > 0
                (sounding.add if on else sounding.discard)((message.channel, message.note))
        left = max(0, round(stop) - tick) if sounding else 0
        ends = [mido.Message("note_off", channel=channel, note=note) for channel, note in sorted(sounding)]
        for message in [*ends, mido.MetaMessage("end_of_track")]:
            kept.append(message.copy(time=left))
            left = 0
        track[:] = kept
    with files.atomic(target) as part:
        midi.save(part)


def cut(entry: Entry, minutes: float, cache: Path, folder: Path) -> tuple[Pair, Path]:
    """The first minutes of a piece, and the MIDI file of the part of its score that is played in them.

    Raises:
        AlignmentError: where the recording is shorter.
    """
    whole = alignment_truth.read_asap(entry)
    seconds = 60 * minutes
    sound = audio.load(alignment_truth.render(whole, cache), alignment_truth.SAMPLE_RATE)
    length = round(seconds * alignment_truth.SAMPLE_RATE)
    if len(sound) < length:
        lasts = len(sound) / alignment_truth.SAMPLE_RATE / 60
        raise AlignmentError(f"{entry.id} lasts {lasts:.1f} minutes; choose another --piece, or fewer --minutes")
    name = f"{entry.id}-{minutes:g}min"
    score, recording = folder / f"{name}.mid", folder / f"{name}.flac"
    cut_midi(entry.score, first_unplayed(whole.score.notes.start_beat, whole.truth, seconds), score)
    with files.atomic(recording) as part:
        part.write_bytes(audio.encode(sound[:length], alignment_truth.SAMPLE_RATE, "flac"))
    pair = alignment_truth.read_asap(entry._replace(score=score))
    truth = np.where(pair.truth < seconds, pair.truth, np.nan)
    return dataclasses.replace(pair, id=name, truth=truth, recording=recording), score
