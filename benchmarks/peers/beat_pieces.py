"""The recordings that every beat tracker hears, and where their beats are."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from benchmarks.peers import pieces
from musicnet_tf import evaluation
from musicnet_tf.datasets import Dataset, Recording
from musicnet_tf.datasets.bach10 import Bach10
from musicnet_tf.datasets.musicnet import MusicNet
from musicnet_tf.datasets.rendered import Rendered
from musicnet_tf.errors import ConfigError
from musicnet_tf.events import UNKNOWN, Beats
from musicnet_tf.metrics.beats import TRIM_SECONDS
from musicnet_tf.registry import nearest


@dataclasses.dataclass(frozen=True)
class Corpus:
    """Where recordings with beats come from.

    Attributes:
        dataset: folder and soundfonts → the corpus.
        split: that is heard.
        rendered: whether only the beginning is heard where the whole would be long.
        one_a_folder: of recordings whose scores lie in one folder, one alone is heard: performances of a piece.
    """

    dataset: Callable[[Path, tuple[Path, ...]], Dataset]
    split: str
    rendered: bool = False
    one_a_folder: bool = False


def _asap(root: Path, soundfonts: tuple[Path, ...]) -> Dataset:
    return Rendered(
        root=root,
        soundfonts=soundfonts,
        excerpt_seconds=None,
        exclude=("midi_score.mid",),
        hold_out_maps=False,
        validation_fraction=0.06,
        test_fraction=0.1,
    )


def _quartets(root: Path, soundfonts: tuple[Path, ...]) -> Dataset:
    return Rendered(root=root, soundfonts=soundfonts, excerpt_seconds=None, rubato=0.12)


CORPORA: dict[str, Corpus] = {
    "bach10": Corpus(lambda root, _: Bach10(root=root, stems=False), "all"),
    "musicnet": Corpus(lambda root, _: MusicNet(root=root), "all"),
    "asap": Corpus(_asap, "test", rendered=True, one_a_folder=True),
    "quartets": Corpus(_quartets, "validation", rendered=True),
}


@dataclasses.dataclass(frozen=True)
class Piece(pieces.Sound):
    """A recording and its beats, those that begin in what is heard of it."""

    beats: Beats


def gather(
    roots: Mapping[str, Path],
    cache: Path,
    soundfonts: Sequence[Path] = (),
    seconds: float | None = None,
    most: int | None = None,
) -> list[Piece]:
    """The recordings of corpora whose beats are told and go on beyond `TRIM_SECONDS`, with their sound in `cache`.

    Args:
        roots: name in `CORPORA` → folder.
        cache: for the WAVs; those that are there are not made again.
        soundfonts: that rendered corpora are played on; all that are installed by default.
        seconds: of rendered pieces, only so much of the beginning.
        most: so many of each corpus at most, by id.

    Raises:
        ConfigError: for an unknown corpus.
        DatasetError, AudioError, ScoreError: where a corpus or a recording is not what it should be.
    """
    found = []
    for name, root in roots.items():
        if name not in CORPORA:
            raise ConfigError(f"unknown corpus {name!r}{nearest(name, CORPORA)}; choose from: {', '.join(CORPORA)}")
        corpus = CORPORA[name]
        dataset = corpus.dataset(root, tuple(soundfonts))
        recordings = evaluation.select(dataset, corpus.split)
        if corpus.one_a_folder:
            recordings = _one_a_folder(recordings)
        for recording in tqdm(recordings[:most], desc=name, unit="piece", disable=None, leave=False):
            beats = dataset.load_beats(recording)
            if beats is None:
                continue
            sound = pieces.sound_of(name, dataset, recording, cache, seconds if corpus.rendered else None)
            beats = beats.within(-np.inf, sound.seconds)
            if len(beats) and beats.time[-1] >= TRIM_SECONDS:
                found.append(Piece(**vars(sound), beats=beats))
    return found


def _one_a_folder(recordings: Sequence[Recording]) -> list[Recording]:
    """The first by id of those whose scores lie in one folder."""
    first: dict[Path, Recording] = {}
    for recording in recordings:
        first.setdefault(Path(recording.metadata["score"]).parent, recording)
    return list(first.values())


def read_estimate(path: Path) -> Beats:
    """Beats as `beat_driver.py` writes them. Of times that are not after the one before, the first counts.

    Raises:
        DatasetError: where it is no such table.
    """
    return pieces.read_table(path, 2, _beats_of, "beats of a tracker")


def _beats_of(table: np.ndarray) -> Beats:
    table = table[np.diff(table[:, 0], prepend=-np.inf) > 0]
    return Beats(table[:, 0], np.where(table[:, 1] < 1, UNKNOWN, table[:, 1]).astype(np.int64))
