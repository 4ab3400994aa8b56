"""MTG-Jamendo: whole tracks under Creative Commons licences, with the tags that those who uploaded them gave."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Literal

import pydantic

from musicnet_tf.datasets import SPLITS, Recording, Split
from musicnet_tf.datasets._clips import AudioBelow, Clip, ClipDataset, Row, Span, audio_below, find_list, read_table
from musicnet_tf.errors import DatasetError
from musicnet_tf.registry import DATASETS

_COLUMNS = ["TRACK_ID", "ARTIST_ID", "ALBUM_ID", "PATH", "DURATION", "TAGS"]
_SUBSETS = ("all", "top50tags", "genre", "instrument", "moodtheme")
_FOLDERS = [f"{number:02d}" for number in range(100)]
_AUDIO = ("raw_30s", "autotagging_moodtheme")
_PLACES = ("", "audio", "audios", *(f"{name}/{kind}" for name in _AUDIO for kind in ("audio", "audio-low")))


@DATASETS.register("mtg_jamendo")
class MtgJamendo(ClipDataset):
    """The published repository in `root`: `data/splits/split-<n>/autotagging_<subset>-<train|validation|test>.tsv`.

    Tracks `<nn>/<number>.mp3`, or `.low.mp3`, lie in `root` or its folder `audio`; a link will do. Tags are told as
    they are published, with their kind: `genre---rock`, `instrument---piano`, `mood/theme---happy`. The splits have
    each artist on one side alone, and the same tags on all.

    Attributes:
        subset: which tags are told, and so which tracks; `all` for the 183 of the splits of `autotagging.tsv`.
        split: which of the five published splits.
    """

    description: ClassVar[str] = "55,000 whole tracks of 3,565 artists, tags of genre, instrument, mood and theme"
    licence: ClassVar[str] = "metadata CC BY-NC-SA 4.0; tracks Creative Commons, see audio_licenses.txt for each"
    source: ClassVar[str] = "Bogdanov, Won, Tovstogan, Porter, Serra: The MTG-Jamendo Dataset, ML4MD at ICML 2019"

    subset: Literal["all", "top50tags", "genre", "instrument", "moodtheme"] = "top50tags"
    split: int = pydantic.Field(0, ge=0, le=4)

    def clips(self) -> Iterator[Clip]:
        lists = {side: find_list(self.root, self._list(side)) for side in SPLITS}
        audio = audio_below(self.root, _PLACES, _FOLDERS, "MTG-Jamendo")
        for side, path in lists.items():
            yield from _read(path, side, audio)

    def _list(self, side: Split) -> str:
        subset = "" if self.subset == "all" else f"_{self.subset}"
        return f"data/splits/split-{self.split}/autotagging{subset}-{side}.tsv"


def _read(path: Path, split: Split, audio: AudioBelow) -> Iterator[Clip]:
    header, rows = read_table(path, "\t", _COLUMNS[0])
    if header != _COLUMNS:
        raise DatasetError(f"{path}: its columns are not {', '.join(_COLUMNS)}; fetch it again")
    for row in rows:
        _check(row)
        id, artist, album, file, seconds, *tags = row.cells
        metadata = {"artist": artist, "album": album, "seconds": seconds}
        found = audio.find(file) or audio.find(file.replace(".mp3", ".low.mp3"))
        yield Clip(id, Recording(id, split, artist, metadata), found, tuple(Span(tag) for tag in tags if tag))


def _check(row: Row) -> None:
    if len(row.cells) < len(_COLUMNS) or not all("---" in tag for tag in row.cells[5:] if tag):
        raise DatasetError(f"{row.where}: not {', '.join(_COLUMNS[:-1])} and tags such as genre---rock")
