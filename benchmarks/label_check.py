"""Does `musicnet check-labels` report the share of misaligned labels that there is?

    python benchmarks/label_check.py [--maps=FOLDER] [--bach10=FOLDER] [--musicnet=FOLDER] [--seed=0]

Labels of real recordings are moved on purpose, 0, 5, 10 and 20% of them, early or late by 100, 200 or 500 ms, and the
estimate is set against that. MAPS' labels are what its Disklaviers were sent, which they play later or earlier by
10 to 60 ms as the velocity is; so its pieces are measured a second time with the median lag of each band of ten
velocities taken off, which leaves single labels where they are among their like. Of MusicNet, whose labels are
estimates themselves, what is found in every recording is told.

The typical evidence and the weights in `alignment/label_check.py` were chosen on every other piece of MAPS and on
two chorales of Bach10; these are left out here unless --development asks for them alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from absl import app, flags
from tqdm import tqdm

from musicnet_tf.alignment import label_check, label_clips, label_evidence
from musicnet_tf.datasets import Dataset, Recording
from musicnet_tf.datasets.bach10 import Bach10
from musicnet_tf.datasets.maps import Maps
from musicnet_tf.datasets.musicnet import MusicNet
from musicnet_tf.events import Notes

RATE = label_evidence.CLOCK.sample_rate
SHARES = (0.0, 0.05, 0.1, 0.2)
SHIFTS = (0.1, 0.2, 0.5)
_BAND = 10  # of velocity


@dataclasses.dataclass(frozen=True)
class Piece:
    """A recording, the evidence in it and its labels."""

    name: str
    notes: Notes
    peaks: label_evidence.Peaks
    duration: float
    fundamental: float
    by_chance: float

    @classmethod
    def read(cls, corpus: Dataset, recording: Recording, rng: np.random.Generator) -> Piece:
        audio, notes = corpus.load_audio(recording, RATE), corpus.load_notes(recording)
        peaks = label_evidence.onset_peaks(audio, RATE)
        offset = label_check.systematic_offset(peaks, notes, 0.4)
        anywhere = rng.uniform(0, len(audio) / RATE, len(notes))
        at_label, at_random = (
            float(label_evidence.has_fundamental(audio, RATE, onset, notes.pitch).mean())
            for onset in (notes.onset + offset, anywhere)
        )
        return cls(recording.id, notes, peaks, len(audio) / RATE, at_label, at_random)


def misplace(notes: Notes, share: float, seconds: float, rng: np.random.Generator) -> Notes:
    """The labels with this share of them moved, early or late alike."""
    move = np.zeros(len(notes))
    move[rng.choice(len(notes), round(share * len(notes)), replace=False)] = seconds
    move *= rng.choice([-1, 1], len(notes))
    move = np.where(notes.onset + move < 0, -move, move)
    return dataclasses.replace(notes, onset=notes.onset + move, offset=notes.offset + move)


def without_lag_of_velocity(piece: Piece) -> Notes:
    """The labels, each moved by the median lag of those that were struck about as hard."""
    lag = np.zeros(len(piece.notes))
    band = piece.notes.velocity // _BAND
    for value in np.unique(band):
        rows = band == value
        lag[rows] = label_check.systematic_offset(piece.peaks, piece.notes[rows], 0.12)
    return dataclasses.replace(piece.notes, onset=piece.notes.onset + lag, offset=piece.notes.offset + lag)


def pieces(corpus: Dataset, names: list[str], seed: int) -> Iterator[Piece]:
    """Those pieces of a corpus, one at a time."""
    recordings = [r for r in corpus.recordings() if r.id in names]
    for recording in tqdm(recordings, unit="piece", disable=None):
        yield Piece.read(corpus, recording, np.random.default_rng(seed))


def report(title: str, measured: list[tuple[Piece, Notes]], seed: int) -> None:
    """Prints what is estimated for every share and shift, pooled over labels, and its spread over pieces."""
    counts = np.array([len(notes) for _, notes in measured])
    print(f"\n{title}: {len(measured)} pieces, {counts.sum()} labels")
    print("moved by   " + "".join(f"{share:>22.0%}" for share in SHARES))
    for seconds in SHIFTS:
        cells = []
        for share in SHARES:
            rng = np.random.default_rng([seed, round(100 * share), round(1000 * seconds)])
            found = [
                label_check.judge(piece.peaks, misplace(notes, share, seconds, rng), piece.duration).share
                for piece, notes in measured
            ]
            pooled = np.average(found, weights=counts)
            cells.append(f"{pooled:8.1%} ({np.min(found):.1%}–{np.max(found):.1%})".rjust(22))
        print(f"{1000 * seconds:>6.0f} ms  " + "".join(cells), flush=True)
    at_label, by_chance = (
        np.average([getattr(p, key) for p, _ in measured], weights=counts) for key in ("fundamental", "by_chance")
    )
    print(f"spectral peak at the fundamental in the first 0.1 s: {at_label:.1%} of labels, {by_chance:.1%} by chance")


def chosen(names: list[str], development: bool) -> list[str]:
    """For development every other name and other recordings of these titles; else what that leaves."""
    titles = {name.rpartition("_")[0] for name in names[::2]}
    return [name for name in names if (name.rpartition("_")[0] in titles) == development]


def define_flags() -> None:
    """The command line. Importing the module defines no flag: one process has a single set of them."""
    flags.DEFINE_string("maps", None, "Folder of MAPS.")
    flags.DEFINE_string("bach10", None, "Folder of Bach10.")
    flags.DEFINE_string("musicnet", None, "Folder of MusicNet.")
    flags.DEFINE_bool("development", False, "Measure the pieces that settings were chosen on instead.")
    flags.DEFINE_integer("seed", 0, "Draws the labels that are moved.")


def main(argv: list[str]) -> None:
    """Prints a table for each corpus that a flag names."""
    if argv[1:] or not (flags.FLAGS.maps or flags.FLAGS.bach10 or flags.FLAGS.musicnet):
        raise app.UsageError("name at least one corpus by --maps, --bach10 or --musicnet")
    development, seed = flags.FLAGS.development, flags.FLAGS.seed
    print(f"seed {seed}; {label_check.CheckSettings()!r}")
    if flags.FLAGS.maps:
        maps = Maps(root=Path(flags.FLAGS.maps))
        found = list(pieces(maps, chosen([r.id for r in maps.recordings()], development), seed))
        report("MAPS, labels as published", [(piece, piece.notes) for piece in found], seed)
        report("MAPS, lag of each velocity removed", [(p, without_lag_of_velocity(p)) for p in found], seed)
    if flags.FLAGS.bach10:
        bach10 = Bach10(root=Path(flags.FLAGS.bach10))
        names = ["01", "02"] if development else ["03", "04"]
        mixes = [r.id for r in bach10.recordings() if r.id.count("-") == 1 and r.id[:2] in names]
        report("Bach10", [(piece, piece.notes) for piece in pieces(bach10, mixes, seed)], seed)
    if flags.FLAGS.musicnet:
        _report_musicnet(MusicNet(root=Path(flags.FLAGS.musicnet)))


def _report_musicnet(corpus: Dataset) -> None:
    results = label_clips.LabelReport(label_check.CheckSettings().model_dump())
    for recording in tqdm(corpus.recordings(), unit="recording", disable=None):
        audio, notes = corpus.load_audio(recording, RATE), corpus.load_notes(recording)
        clips = label_clips.whole(notes, len(audio) / RATE)
        results.checked[recording.id] = label_clips.check(audio, RATE, notes, clips)
    print(f"\nMusicNet, every recording at hand; the paper found 4.0% in its sample\n{results.table()}")
    pooled = results.to_json()["pooled"]
    print(f"spectral peak at the fundamental in the first 0.1 s: {pooled['fundamental']:.1%} of labels")


if __name__ == "__main__":
    define_flags()
    app.run(main)
