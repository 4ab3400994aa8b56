"""What corpora of tags have in common: lists that name clips and their tags, and folders that hold the audio."""

from __future__ import annotations

import abc
import csv
import dataclasses
import functools
import logging
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from musicnet_tf import audio
from musicnet_tf.datasets import Recording, _layout
from musicnet_tf.datasets._tagged import TaggedDataset
from musicnet_tf.errors import DatasetError
from musicnet_tf.events import TagSpans

_SAFE_ID = re.compile(r"\w[\w.-]*")
_SHOWN = 3

_log = logging.getLogger(__name__)


class Span(NamedTuple):
    """A stretch that bears a tag, in seconds; the whole clip where it does not say otherwise."""

    tag: str
    start: float = 0.0
    stop: float = float("inf")


@dataclasses.dataclass(frozen=True)
class Clip:
    """A clip as a corpus lists it.

    Attributes:
        name: by which the corpus knows it.
        audio: its file; None where there is none.
    """

    name: str
    recording: Recording
    audio: Path | None
    spans: tuple[Span, ...]


class ClipDataset(TaggedDataset):
    """A corpus that lists clips. Clips without audio are left out, and told: few have all of what is large or gone.

    Attributes:
        exclude: clips to leave out, by the names that the corpus has for them.
    """

    exclude: tuple[str, ...] = ()

    @abc.abstractmethod
    def clips(self) -> Iterable[Clip]:
        """Every clip that the corpus lists, with audio or without. Raises DatasetError."""

    def recordings(self) -> list[Recording]:
        _layout.need_root(self.root, self.name)
        _known.cache_clear()  # so that what has changed is read anew, and once
        return [clip.recording for clip in _known(self).values()]

    def load_audio(self, recording: Recording, sample_rate: int) -> np.ndarray:
        path = self._clip(recording).audio
        assert path is not None, recording  # `_at_hand` keeps no other
        return audio.load(path, sample_rate)

    def load_tags(self, recording: Recording) -> TagSpans:
        spans = self._clip(recording).spans
        return TagSpans([s.start for s in spans], [s.stop for s in spans], [s.tag for s in spans])  # type: ignore[arg-type]

    def _clip(self, recording: Recording) -> Clip:
        try:
            return _known(self)[recording.id]
        except KeyError as error:
            raise DatasetError(f"{self.root}: holds no recording {recording.id!r}") from error

    def _at_hand(self) -> dict[str, Clip]:
        """Id → clip, sorted, of those to be had; says which are not."""
        clips = sorted(self.clips(), key=lambda clip: clip.recording.id)
        _check_ids(self.root, clips)
        excluded = [clip for clip in clips if clip.name in self.exclude]
        wanted = [clip for clip in clips if clip.name not in self.exclude]
        silent = [clip for clip in wanted if clip.audio is None]
        if len(silent) == len(wanted):
            raise DatasetError(f"{self.root}: has no audio of the {len(clips)} clips listed{_such_as(silent)}; add it")
        _tell(self.root, "left out, as `exclude` names them", excluded, len(clips))
        _tell(self.root, "left out, as their audio is not there", silent, len(clips))
        return {clip.recording.id: clip for clip in wanted if clip.audio is not None}


@functools.lru_cache(maxsize=4)
def _known(dataset: ClipDataset) -> dict[str, Clip]:
    """Id → clip; read once, not once a recording, as some lists are long."""
    return dataset._at_hand()


def _check_ids(root: Path, clips: list[Clip]) -> None:
    for before, clip in zip([None, *clips], clips, strict=False):
        if not _SAFE_ID.fullmatch(clip.recording.id):
            raise DatasetError(f"{root}: {clip.name!r} is no name for a clip; a file could not be called so")
        if before and before.recording.id == clip.recording.id:
            raise DatasetError(f"{root}: lists {clip.name!r} twice; take one of the two out of the list")


def _tell(root: Path, why: str, clips: list[Clip], total: int) -> None:
    if clips:
        _log.warning("%s: %d of %d clips %s%s", root, len(clips), total, why, _such_as(clips))


def _such_as(clips: list[Clip]) -> str:
    names = ", ".join(clip.name for clip in clips[:_SHOWN])
    return f": {names}" + (" …" if len(clips) > _SHOWN else "") if clips else ""


class AudioBelow:
    """The audio files of a folder and those below it; each folder is read once, when first asked for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._read: dict[str, dict[str, Path]] = {}

    def find(self, relative: str) -> Path | None:
        """The file of that path, whatever its ending: corpora are often kept converted."""
        path = PurePosixPath(relative)
        folder = str(path.parent)
        if folder not in self._read:
            self._read[folder] = _layout.audio_files(self._folder / folder)
        return self._read[folder].get(path.stem)

    def all(self) -> dict[str, Path]:
        """Stem → file, of all folders."""
        folders = sorted(_folders(self._folder))
        return {stem: path for folder in folders for stem, path in _layout.audio_files(folder).items()}


def _folders(top: Path) -> Iterator[Path]:
    """A folder and those below it, also by links, each once."""
    seen = set()
    for folder, inner, _ in os.walk(top, followlinks=True):
        real = Path(folder).resolve()
        if real in seen:
            inner.clear()
        else:
            seen.add(real)
            yield Path(folder)


def audio_below(root: Path, places: Iterable[str], inner: Iterable[str], corpus: str) -> AudioBelow:
    """The audio of a corpus: below the first of `places` that holds one of the folders `inner`.

    Raises:
        DatasetError: where none does.
    """
    places, inner = list(places), list(inner)
    for place in places:
        if any((root / place / folder).is_dir() for folder in inner):
            return AudioBelow(root / place)
    where = ", ".join(repr(place) for place in places if place)
    raise DatasetError(
        f"{root}: no audio of {corpus}; looked for folders {inner[0]} … {inner[-1]} in it and in its folders {where}"
    )


def find_list(root: Path, name: str, places: Iterable[str] = ("",)) -> Path:
    """A list of a corpus, in the first of several folders that has it. Raises DatasetError where none has."""
    paths = [root / place / name for place in places]
    for path in paths:
        if path.is_file():
            return path
    others = "".join(f" or {path.parent}" for path in paths[1:])
    raise DatasetError(f"{paths[0]}: not found; put this list of the corpus there{others}")


class Row(NamedTuple):
    """A line of a list, with the place to name where something is wrong with it."""

    where: str
    cells: list[str]


def read_rows(path: Path, delimiter: str, *, comment: str = "") -> Iterator[Row]:
    """Rows of a table that are not empty and do not begin with `comment`; spaces before a cell do not count.

    Raises:
        DatasetError: where the file cannot be read.
    """
    try:
        with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
            reader = csv.reader(file, delimiter=delimiter, skipinitialspace=delimiter == ",")
            for cells in reader:
                if cells and not (comment and cells[0].startswith(comment)):
                    yield Row(f"{path}, line {reader.line_num}", cells)
    except (OSError, csv.Error) as error:
        raise DatasetError(f"{path}: cannot be read as a table ({error}); fetch it again") from error


def read_table(path: Path, delimiter: str, first: str) -> tuple[list[str], Iterator[Row]]:
    """Names of the columns, the first of which is `first`, and the rows below. Raises DatasetError."""
    rows = read_rows(path, delimiter)
    header = next(rows, Row("", [""])).cells
    if header[0] != first:
        raise DatasetError(f"{path}: begins with {header[0]!r}, where a column {first!r} should be; fetch it again")
    return header, rows
