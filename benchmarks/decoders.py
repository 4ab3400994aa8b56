"""Which way of decoding notes is best, and what does it cost?

    python -m benchmarks.decoders [--maps=FOLDER] [--bach10=FOLDER] [--musicnet=FOLDER] [--model=NAME]

A model hears the validation pieces of each corpus once. Each decoder is then tried with every setting of one grid
of thresholds, and scored on every piece: note-onset F1, onset + offset F1, frame F1 of the decoded notes, as means
over a corpus's pieces. A corpus's row has the setting that was best on the *others*, by the mean over them of onset F1
and onset + offset F1, so that nothing is chosen on what it is scored on; where there is one corpus alone, it is chosen
there. `best` is the mean of what a single setting reaches on all, chosen on all.

Time is the CPU seconds of decoding all pieces with that setting, as a ratio to `greedy`'s: the least of several turns.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from musicnet_tf import evaluation, inference, windowing
from musicnet_tf.datasets import Dataset
from musicnet_tf.datasets.bach10 import Bach10
from musicnet_tf.datasets.maps import Maps
from musicnet_tf.datasets.musicnet import MusicNet
from musicnet_tf.decode.notes import NoteDecoding, decode
from musicnet_tf.metrics import frames
from musicnet_tf.metrics import notes as note_metrics
from musicnet_tf.models import ModelSpec
from musicnet_tf.thresholds import Heard

MAPS_DELAY = {"ENSTDkAm": 0.03, "ENSTDkCl": 0.006}
SMOOTHING = 0.06
_RAW = {"onset_threshold": (0.27, 0.33, 0.38, 0.44)}
_SMOOTH = {"onset_threshold": (0.18, 0.21, 0.24, 0.28), "onset_smoothing": (SMOOTHING,)}
_COMMON = {"frame_threshold": (0.38, 0.45), "min_duration": (0.08,)}
_GREEDY = {"method": ("greedy",), "min_repeat": (0.03,)}
_VITERBI = {"method": ("viterbi",), "frame_weight": (0.2,)}
DECODERS = {
    "greedy": _GREEDY | _RAW | _COMMON,
    "viterbi": _VITERBI | _RAW | _COMMON,
    "greedy, smoothed onsets": _GREEDY | _SMOOTH | _COMMON,
    "viterbi, smoothed onsets": _VITERBI | _SMOOTH | _COMMON,
}
"""Name → parameter → values of its grid, as many for each. They lie round what was best for `notes_harmonic_cnn`."""
TURNS = 3


class Tried(NamedTuple):
    """A decoder's settings, and what each reached on each corpus.

    `scores` are `(settings, corpora, 3)`: F1 of onsets, of onsets and offsets, and of frames.
    """

    settings: list[NoteDecoding]
    scores: np.ndarray

    def chosen(self, corpora: Sequence[int]) -> int:
        """The setting that is best on some corpora."""
        return int(np.argmax(self.scores[:, list(corpora), :2].sum(axis=2).mean(axis=1)))

    def held_out(self) -> np.ndarray:
        """Of each corpus, with the setting chosen on the others, `(corpora, 3)`."""
        every = range(self.scores.shape[1])
        others = [[other for other in every if other != corpus] or [corpus] for corpus in every]
        return np.stack([self.scores[self.chosen(rest), corpus] for corpus, rest in zip(every, others, strict=True)])


def settings_of(grid: dict[str, tuple]) -> Iterator[NoteDecoding]:
    """Every combination of the values of a grid."""
    for values in itertools.product(*grid.values()):
        yield NoteDecoding(**dict(zip(grid, values, strict=True)))


def score(heard: Heard, spec: ModelSpec, params: NoteDecoding) -> list[float]:
    """F1 of onsets, of onsets and offsets, and of frames."""
    clock, first_pitch = windowing.recording_clock(spec), spec.heads["frame"].first_pitch
    notes = decode(heard.heads, clock, params, first_pitch)
    scores = note_metrics.score(heard.notes, notes, ("onset", "onset_offset"))
    frame = frames.count(*frames.rolls(heard.notes, notes)).scores()["f1"]
    return [scores["onset/f1"], scores["onset_offset/f1"], frame]


def try_out(grid: dict[str, tuple], heard: Sequence[Sequence[Heard]], spec: ModelSpec, name: str = "") -> Tried:
    """Scores every setting of a grid on every piece."""
    settings = list(settings_of(grid))
    scores = [
        [np.mean([score(piece, spec, params) for piece in corpus], axis=0) for corpus in heard]
        for params in tqdm(settings, desc=name, unit="setting", disable=None)
    ]
    return Tried(settings, np.array(scores))


def seconds(params: NoteDecoding, heard: Sequence[Sequence[Heard]], spec: ModelSpec) -> float:
    """CPU seconds in which all pieces are decoded, the least of some turns."""
    clock, first_pitch = windowing.recording_clock(spec), spec.heads["frame"].first_pitch

    def turn() -> float:
        start = time.process_time()
        for piece in itertools.chain(*heard):
            decode(piece.heads, clock, params, first_pitch)
        return time.process_time() - start

    return min(turn() for _ in range(TURNS))


def report(tried: dict[str, Tried], names: Sequence[str], took: dict[str, float]) -> Iterator[str]:
    """Lines of a table in Markdown."""
    corpora = [*names, "mean", "best"]
    yield "| decoder | " + " | ".join(f"{name}: onset / + offset / frame" for name in corpora) + " | time |"
    yield "|---" * (len(corpora) + 2) + "|"
    for decoder, results in tried.items():
        held_out = results.held_out()
        best = results.scores[results.chosen(range(len(names)))].mean(axis=0)
        cells = [" / ".join(f"{value:.3f}" for value in row) for row in [*held_out, held_out.mean(axis=0), best]]
        yield f"| {decoder} | " + " | ".join(cells) + f" | {took[decoder] / took['greedy']:.2f} |"
    yield ""
    for decoder, results in tried.items():
        chosen = results.settings[results.chosen(range(len(names)))]
        named = ", ".join(f"{key}={getattr(chosen, key)}" for key in DECODERS[decoder])
        yield f"{decoder}, best on all: {named}"


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("maps", "bach10", "musicnet"):
        parser.add_argument(f"--{name}", type=Path, help=f"folder of {name}")
    parser.add_argument("--model", default=inference.DEFAULT_MODEL, help="as `musicnet transcribe` takes it")
    options = parser.parse_args()
    corpora: list[Dataset] = []
    if options.maps:
        corpora.append(Maps(root=options.maps, delay=MAPS_DELAY))
    if options.bach10:
        corpora.append(Bach10(root=options.bach10))
    if options.musicnet:
        corpora.append(MusicNet(root=options.musicnet))
    if not corpora:
        parser.error("name a corpus at least: --maps, --bach10 or --musicnet")
    predictor = inference.load(options.model)
    heard = [
        [evaluation.listen(predictor, corpus, recording) for recording in evaluation.select(corpus, "validation")]
        for corpus in corpora
    ]
    _compare(heard, predictor.manifest.geometry, [corpus.name for corpus in corpora])


def _compare(heard: Sequence[Sequence[Heard]], spec: ModelSpec, names: Sequence[str]) -> None:
    tried = {name: try_out(grid, heard, spec, name) for name, grid in DECODERS.items()}
    every = range(len(names))
    took = {name: seconds(results.settings[results.chosen(every)], heard, spec) for name, results in tried.items()}
    for line in report(tried, names, took):
        print(line)


if __name__ == "__main__":
    main()
