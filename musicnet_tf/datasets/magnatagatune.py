"""MagnaTagATune: half-minute clips of 445 albums of Magnatune, with tags that players of a game agreed on."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import ClassVar, NamedTuple

import pydantic

from musicnet_tf.datasets import Recording, Split, _layout
from musicnet_tf.datasets._clips import Clip, ClipDataset, Row, Span, audio_below, find_list, read_table
from musicnet_tf.errors import DatasetError
from musicnet_tf.registry import DATASETS

DAMAGED = (
    "6/norine_braun-now_and_zen-08-gently-117-146.mp3",
    "8/jacob_heringman-josquin_des_prez_lute_settings-19-gintzler__pater_noster-204-233.mp3",
    "9/american_baroque-dances_and_suites_of_rameau_and_couperin-25-le_petit_rien_xiveme_ordre_couperin-88-117.mp3",
)
"""Clips that are published as files of 0 bytes."""

_ANNOTATIONS, _INFO = "annotations_final.csv", "clip_info_final.csv"
_PLACES = ("", "mp3", "mp3s", "audio", "MagnaTagATune")
_FOLDERS = "0123456789abcdef"
_VALIDATION, _TEST = "c", "def"
_TAKEN = re.compile(r"-(?P<start>\d+)-(?P<stop>\d+)$")  # what seconds of a song a clip is
_KEPT = ("artist", "album", "title")


class _Listed(NamedTuple):
    id: str
    path: str
    tags: list[str]


@DATASETS.register("magnatagatune")
class MagnaTagATune(ClipDataset):
    """`annotations_final.csv` in `root`, and clips `<0–f>/<name>.mp3` in it or in its folder `mp3` or `audio`.

    Artists, albums and titles come from `clip_info_final.csv` where it is there. The split is the customary one, by
    folder: 0–b to train, c to validate, d–f to test; a folder holds whole albums.

    Attributes:
        top: how many of the 188 tags are told, those given most often in the annotations, of equals the first by
            name; null for all.
        exclude_untagged: leave out clips that bear none of these.
        exclude: clips to leave out, as paths; the three that are published empty.
    """

    description: ClassVar[str] = "25,863 clips of 29 s of 445 albums, 188 tags that two players agreed on"
    licence: ClassVar[str] = "CC BY-NC-SA 1.0 (the music, Magnatune); annotations for research"
    source: ClassVar[str] = "Law, West, Mandel, Bay, Downie: Evaluation of algorithms using games, ISMIR 2009"

    top: int | None = pydantic.Field(50, ge=1)
    exclude_untagged: bool = False
    exclude: tuple[str, ...] = DAMAGED

    def vocabulary(self) -> tuple[str, ...]:
        """The tags that are told, the most frequent first. Raises DatasetError."""
        return self._chosen(list(_listed(self.root)))

    def clips(self) -> Iterator[Clip]:
        listed = list(_listed(self.root))
        chosen, known = self._chosen(listed), _info(self.root)
        audio = audio_below(self.root, _PLACES, _FOLDERS, "MagnaTagATune")
        for id, path, tags in listed:
            told = [tag for tag in chosen if tag in tags]
            if told or not self.exclude_untagged:
                yield Clip(path, _recording(id, path, known.get(id, {})), audio.find(path), tuple(map(Span, told)))

    def _chosen(self, listed: list[_Listed]) -> tuple[str, ...]:
        counts = Counter(tag for clip in listed for tag in clip.tags)
        return tuple(sorted(counts, key=lambda tag: (-counts[tag], tag))[: self.top])


def _recording(id: str, path: str, known: dict[str, str]) -> Recording:
    song = PurePosixPath(path).stem
    if taken := _TAKEN.search(song):
        song = song[: taken.start()]
        known = {**known, "seconds": str(int(taken["stop"]) - int(taken["start"]))}
    split: Split = _layout.side(path[0], _VALIDATION, _TEST)
    return Recording(id, split, song, known)


def _listed(root: Path) -> Iterator[_Listed]:
    """Every clip that is annotated. Raises DatasetError."""
    header, rows = read_table(find_list(root, _ANNOTATIONS), "\t", "clip_id")
    if header[-1] != "mp3_path" or len(header) < 3:
        raise DatasetError(f"{root / _ANNOTATIONS}: has no tags between clip_id and mp3_path; fetch it again")
    for row in rows:
        _check(row, len(header))
        id, *given, path = row.cells
        yield _Listed(id, path, [tag for tag, value in zip(header[1:-1], given, strict=True) if value == "1"])


def _check(row: Row, num_cells: int) -> None:
    cells = row.cells
    if len(cells) != num_cells or not set(cells[1:-1]) <= {"0", "1"}:
        raise DatasetError(f"{row.where}: not clip_id, 0 or 1 for each of {num_cells - 2} tags, and mp3_path")
    folder, _, name = cells[-1].partition("/")
    if not (len(folder) == 1 and folder in _FOLDERS and name):
        raise DatasetError(f"{row.where}: {cells[-1]!r} is no path <0–f>/<name>.mp3, by which the split goes")


def _info(root: Path) -> dict[str, dict[str, str]]:
    """Id of a clip → what is known of its song; empty where the list is not there."""
    if not (root / _INFO).is_file():
        return {}
    header, rows = read_table(root / _INFO, "\t", "clip_id")
    named = (dict(zip(header, row.cells, strict=False)) for row in rows)
    return {row["clip_id"]: {key: row[key] for key in _KEPT if row.get(key)} for row in named}
