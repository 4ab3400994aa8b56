"""Performances whose every note is known, for scores to be aligned with: ASAP and Vienna 4x22."""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import re
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
import scipy.signal

from benchmarks import _alignment_matching as matching
from musicnet_tf import audio, files, scores, synthesis
from musicnet_tf.errors import AudioError
from musicnet_tf.events import Notes, Score

SAMPLE_RATE = 22050
PERFORMED_ON = "FluidR3_GM.sf2"

_REVERBERATION = (0.3, 1.0)
_DIRECT_TO_REVERBERANT = (3.0, 12.0)
_SIGNAL_TO_NOISE = (30.0, 40.0)
_PEAK = 0.7
_FORM = re.compile(r"(_no)?(_2|_first)?_repeat$|_no_trio$")


@dataclasses.dataclass(frozen=True)
class Pair:
    """A score, a performance of it, and when each note of the score was played.

    Attributes:
        id: names the pair; every random choice follows from it.
        composer, work: of pieces with equal values, none is in two sets.
        score: what is aligned.
        performance: what sounds, the pedal held.
        truth: seconds at which each of `score.notes` was played, float64 `(n,)`; NaN where unknown or left out.
        recording: a real one; where None, the performance is rendered.
    """

    id: str
    composer: str
    work: str
    score: Score
    performance: Notes
    truth: np.ndarray
    recording: Path | None = None


class Entry(NamedTuple):
    """One piece of ASAP: files, not yet read."""

    id: str
    composer: str
    work: str
    score: Path
    performance: Path
    score_beats: Path
    beats: Path


def read_beats(path: Path) -> np.ndarray:
    """Seconds of the beats in an annotation file of ASAP."""
    return np.array([float(line.split("\t")[0]) for line in path.read_text().splitlines() if line.strip()])


def asap_entries(root: Path) -> list[Entry]:
    """One performance of each piece, those whose beats agree in number with the score's; the choice is by hash."""
    with (root / "metadata.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    best: dict[str, Entry] = {}

    def usable(entry: Entry) -> bool:
        return all(path.is_file() for path in entry[3:]) and len(read_beats(entry.score_beats)) == len(
            read_beats(entry.beats)
        )

    for row in sorted(rows, key=lambda row: _hash(row["midi_performance"])):
        entry = Entry(
            row["folder"].replace("/", "-"),
            row["composer"],
            _FORM.sub("", row["title"]),
            root / row["midi_score"],
            root / row["midi_performance"],
            root / row["midi_score_annotations"],
            root / row["performance_annotations"],
        )
        if row["folder"] not in best and usable(entry):
            best[row["folder"]] = entry
    return [best[folder] for folder in sorted(best)]


def read_asap(entry: Entry) -> Pair:
    """A piece of ASAP; its truth is found by matching notes about the annotated beats."""
    score = scores.read_score(entry.score)
    performance = scores.read_midi(entry.performance, sustain=True)
    beats = read_beats(entry.score_beats), read_beats(entry.beats)
    notes = score.notes
    found = matching.match(notes.onset, notes.pitch, performance.onset, performance.pitch, *beats)
    truth = np.where(found >= 0, performance.onset[found], np.nan)
    return Pair(entry.id, entry.composer, entry.work, score, performance, truth)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def in_a_room(sound: np.ndarray, sample_rate: int, id: str) -> np.ndarray:
    """A dry sound in a room with some noise, each drawn by `id`; nothing is delayed.

    The room is an exponentially decaying noise behind the direct sound, which is its first sample. Float32, of the
    same length, its peak at 0.7.
    """
    rng = np.random.default_rng(int(_hash(id)[:16], 16))
    seconds = rng.uniform(*_REVERBERATION)
    ratio, snr = rng.uniform(*_DIRECT_TO_REVERBERANT), rng.uniform(*_SIGNAL_TO_NOISE)
    time = np.arange(round(seconds * sample_rate)) / sample_rate
    tail = rng.standard_normal(len(time)) * 10 ** (-3 * time / seconds)
    tail *= 10 ** (-ratio / 20) / np.sqrt(np.sum(tail[1:] ** 2))
    tail[0] = 1.0
    wet = scipy.signal.oaconvolve(sound, tail.astype(np.float32))[: len(sound)]
    noise = rng.standard_normal(len(sound)).astype(np.float32)
    wet += noise * (np.sqrt(np.mean(wet**2)) * 10 ** (-snr / 20))
    return (wet * (_PEAK / max(float(np.abs(wet).max(initial=0.0)), 1e-9))).astype(np.float32)


def soundfont(name: str) -> Path:
    """The installed soundfont of a name.

    Raises:
        AudioError: where it is not installed.
    """
    fonts = {font.name: font for font in synthesis.find_soundfonts()}
    if name not in fonts:
        raise AudioError(
            f"{name}: no such soundfont is installed; on Debian: apt install fluid-soundfont-gm"
            f" musescore-general-soundfont, or name its folder in {synthesis.SOUNDFONT_VARIABLE}"
        )
    return fonts[name]


def render(pair: Pair, folder: Path) -> Path:
    """The real recording, or else the performance in a FLAC file, played on `PERFORMED_ON` in a room.

    The file is made in `folder` where it is not there yet.
    """
    if pair.recording is not None:
        return pair.recording
    path = folder / f"{pair.id}.flac"
    if not path.is_file():
        dry = synthesis.render(pair.performance, soundfont(PERFORMED_ON), SAMPLE_RATE, reverb=False)
        encoded = audio.encode(in_a_room(dry, SAMPLE_RATE, pair.id), SAMPLE_RATE, "flac")
        with files.atomic(path) as part:
            part.write_bytes(encoded)
    return path


LONG_SECONDS = 720.0
RESERVED = {
    *("Chopin_Etudes_op_10_3", "Chopin_Ballades_2"),  # in Vienna 4x22
    *("Chopin_Etudes_op_25_4", "Beethoven_Piano_Sonatas_8-3", "Schubert_Wanderer_fantasie"),  # in MAPS
    "Schumann_Kreisleriana_3",
    *(f"Bach_{form}_bwv_{bwv}" for form in ("Prelude", "Fugue") for bwv in range(846, 870)),  # in MusicNet
}
"""Works of ASAP of which other sets that are reported hold recordings: nothing is chosen on them."""

_DEVELOPED_COMPOSERS = 4
_DEVELOPED_WORKS = 2


def select(entries: list[Entry], cap: int = 7) -> dict[str, list[Entry]]:
    """`development` and `report`: pieces of ASAP, chosen by the hash of their folders; no work is in both.

    All that last longer than `LONG_SECONDS` are reported. Of every other composer with enough works two are
    developed on, unless reserved; of the rest, at most `cap` a composer are reported.
    """
    works: dict[tuple[str, str], Entry] = {}
    for entry in sorted(entries, key=lambda entry: _hash(entry.id)):
        works.setdefault((entry.composer, entry.work), entry)
    composers = defaultdict(list)
    for entry in works.values():
        composers[entry.composer].append(entry)
    chosen: dict[str, list[Entry]] = {"development": [], "report": []}
    for _, pieces in sorted(composers.items()):
        long = [piece for piece in pieces if read_beats(piece.beats)[-1] > LONG_SECONDS]
        free = [p for p in pieces if p not in long and f"{p.composer}_{p.work}" not in RESERVED]
        developed = free[:_DEVELOPED_WORKS] if len(pieces) >= _DEVELOPED_COMPOSERS else []
        chosen["development"] += developed
        rest = [piece for piece in pieces if piece not in long and piece not in developed]
        chosen["report"] += (long + rest)[:cap]
    return chosen
