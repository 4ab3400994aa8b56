"""How much nearer to the truth does `musicnet refine_labels` bring labels?

    python benchmarks/label_refinement.py --maps=FOLDER [--development] [--seed=0] [--model=notes_harmonic_cnn]

MAPS' labels are exact but for the lag of its Disklaviers, whose median is taken off by `delay` as in training. They
are disturbed on purpose: by a smooth random warp of up to 0.2 s, by jitter of 0.05 s standard deviation a chord, and
5% of the notes by 0.3 s early or late; then refined and set against what they were. They are refined undisturbed too,
which tells what refinement spoils, and how far the model's onsets lie from the labels altogether.

Constants were chosen on the training pieces (--development); the pieces that are reported otherwise are those of the
validation split, on which the model was not trained. MAPS' own test pieces are no part of the corpus here.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NamedTuple

import numpy as np
import scipy.interpolate
from tqdm import tqdm

from musicnet_tf import inference
from musicnet_tf.alignment import hearing, refine
from musicnet_tf.datasets import Dataset, Recording
from musicnet_tf.datasets.maps import Maps
from musicnet_tf.events import Notes

DELAY = {"ENSTDkAm": 0.03, "ENSTDkCl": 0.006}
WARP, KNOT, JITTER = 0.2, 5.0, 0.05
SHARE, DISPLACEMENT = 0.05, 0.3
_CHORD = 0.03


class Measured(NamedTuple):
    """Seconds by which onsets of one piece lie off the truth, each `(n,)`, and which notes were moved by 0.3 s."""

    name: str
    before: np.ndarray
    after: np.ndarray
    undisturbed: np.ndarray
    confidence: np.ndarray
    snapped: np.ndarray
    displaced: np.ndarray


def disturb(notes: Notes, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Seconds to add to each note, and whether it is one of those that were moved by themselves."""
    knots = np.arange(-KNOT, notes.end + 2 * KNOT, KNOT)
    warp = scipy.interpolate.PchipInterpolator(knots, rng.uniform(-WARP, WARP, len(knots)))
    chord = np.cumsum(np.diff(notes.onset, prepend=notes.onset[0]) > _CHORD)
    displaced = np.zeros(len(notes), bool)
    displaced[rng.choice(len(notes), round(SHARE * len(notes)), replace=False)] = True
    moves = warp(notes.onset) + rng.normal(0, JITTER, chord[-1] + 1)[chord]
    moves += displaced * DISPLACEMENT * rng.choice([-1, 1], len(notes))
    return np.maximum(moves, -notes.onset), displaced


def measure(corpus: Dataset, recording: Recording, predictor: inference.Predictor, seed: int) -> Measured:
    """Refines one piece, disturbed and as it is."""
    rate = predictor.manifest.geometry.clock.sample_rate
    truth = corpus.load_notes(recording)
    heard = hearing.hear(corpus.load_audio(recording, rate), rate, predictor)
    moves, displaced = disturb(truth, np.random.default_rng([seed, len(truth)]))
    order = np.lexsort((truth.instrument, truth.pitch, truth.onset + moves))  # of the disturbed notes
    labels = Notes(truth.onset + moves, truth.offset + moves, truth.pitch, truth.velocity, truth.instrument)
    found = refine.refine(labels, heard)
    return Measured(
        recording.id,
        moves[order],
        found.onset - truth.onset[order],
        refine.refine(truth, heard).moved,
        found.confidence,
        found.snapped,
        displaced[order],
    )


def figures(error: np.ndarray) -> str:
    """Shares beyond 50 and 100 ms, median and 95th percentile in milliseconds, and the signed median."""
    size = np.abs(error)
    return (
        f"{(size > 0.05).mean():7.1%} {(size > 0.1).mean():7.1%} {1000 * np.median(size):7.1f}"
        f" {1000 * np.percentile(size, 95):7.1f} {1000 * np.median(error):+7.1f}"
    )


def main() -> None:
    """Prints a line a piece, and the whole."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--maps", type=Path, required=True, help="folder of MAPS")
    parser.add_argument("--development", action="store_true", help="measure the training pieces instead")
    parser.add_argument("--seed", type=int, default=0, help="draws the disturbance")
    parser.add_argument("--model", default=inference.DEFAULT_MODEL, help="as `musicnet refine_labels` takes it")
    options = parser.parse_args()
    corpus = Maps(root=options.maps, delay=DELAY)
    split = "train" if options.development else "validation"
    predictor = inference.load(options.model)
    chosen = [recording for recording in corpus.recordings() if recording.split == split]
    pieces = [measure(corpus, r, predictor, options.seed) for r in tqdm(chosen, unit="piece", disable=None)]
    _report(pieces)


def _report(pieces: list[Measured]) -> None:
    columns = ("before", "after", "undisturbed")
    for title in columns:
        print(f"\n{title:32s}  notes   >50ms  >100ms  median     p95  signed")
        for piece in pieces:
            print(f"{piece.name:32s} {len(piece.before):6d} {figures(getattr(piece, title))}")
        print(f"{'all':32s} {sum(len(p.before) for p in pieces):6d} {figures(_pooled(pieces, title))}")
    after, displaced, snapped = (_pooled(pieces, name) for name in ("after", "displaced", "snapped"))
    confidence = _pooled(pieces, "confidence")
    parts = {
        "moved by 0.3 s": displaced,
        "not so": ~displaced,
        "took an onset": snapped,
        "moved with others": ~snapped,
        **{f"confidence {low}–{low + 0.25}": (confidence >= low) & (confidence < low + 0.25) for low in (0.25, 0.5)},
        "confidence 0.75–1": confidence >= 0.75,
    }
    print("\nafter, by part")
    for title, rows in parts.items():
        print(f"{title:32s} {rows.sum():6d} {figures(after[rows])}")


def _pooled(pieces: list[Measured], name: str) -> np.ndarray:
    return np.concatenate([getattr(piece, name) for piece in pieces])


if __name__ == "__main__":
    main()
