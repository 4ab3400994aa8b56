"""GTZAN: a thousand excerpts of half a minute, each of one of ten genres."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import ClassVar

from musicnet_tf.datasets import Recording, Split, _gtzan_split, stable_split
from musicnet_tf.datasets._clips import AudioBelow, Clip, ClipDataset, Span, audio_below
from musicnet_tf.registry import DATASETS

GENRES = tuple(_gtzan_split.GENRES)
"""As the folders are named."""

_NAME = re.compile(rf"(?P<genre>{'|'.join(GENRES)})\.\d{{5}}")
_PLACES = ("", "genres", "genres_original", "Data/genres_original")


@DATASETS.register("gtzan")
class Gtzan(ClipDataset):
    """`<genre>/<genre>.<nnnnn>.wav`, in `root` or its folder `genres` or `genres_original`; the tag is the genre.

    The corpus repeats recordings and artists, so that a chance split hears test pieces while it trains (Sturm: The
    GTZAN dataset, 2013). The fault-filtered split (Kereliuk, Sturm, Larsen: Deep Learning and Music Adversaries,
    2015) leaves 70 clips out and keeps each artist on one side: 443 clips to train, 197 to validate, 290 to test.

    Attributes:
        filtered: take the fault-filtered split; otherwise all clips, a tenth to validate and a tenth to test, dealt
            by name, with artists on several sides.
        exclude: clips to leave out; jazz.00054 cannot be decoded in the copies that most have.
    """

    description: ClassVar[str] = "1000 excerpts of 30 s in 10 genres, with the fault-filtered split"
    licence: ClassVar[str] = "none stated; research use"
    source: ClassVar[str] = "Tzanetakis, Cook: Musical genre classification of audio signals, TSAP 2002"

    filtered: bool = True
    exclude: tuple[str, ...] = ("jazz.00054",)

    def clips(self) -> Iterator[Clip]:
        audio = audio_below(self.root, _PLACES, GENRES, "GTZAN")
        splits = _gtzan_split.splits() if self.filtered else _all(audio)
        for name, split in splits.items():
            genre = name.partition(".")[0]
            metadata = {"genre": genre, "seconds": "30"}
            yield Clip(name, Recording(name, split, name, metadata), audio.find(f"{genre}/{name}.wav"), (Span(genre),))


def _all(audio: AudioBelow) -> dict[str, Split]:
    """Name → split of the clips that are there."""
    return {name: stable_split(name, validation=0.1, test=0.1) for name in audio.all() if _NAME.fullmatch(name)}
