"""AudioSet: ten seconds each of two million videos, with the sounds that people heard in them; and lists like its."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple

import pydantic

from musicnet_tf.datasets import Recording, Split, stable_split
from musicnet_tf.datasets._clips import AudioBelow, Clip, ClipDataset, Row, Span, find_list, read_rows, read_table
from musicnet_tf.errors import DatasetError
from musicnet_tf.registry import DATASETS

Part = Literal["balanced_train", "unbalanced_train", "eval", "train_strong", "eval_strong"]

_LISTS: dict[Part, str] = {
    "balanced_train": "balanced_train_segments.csv",
    "unbalanced_train": "unbalanced_train_segments.csv",
    "eval": "eval_segments.csv",
    "train_strong": "audioset_train_strong.tsv",
    "eval_strong": "audioset_eval_strong.tsv",
}
_CLASSES, _STRONG_CLASSES = "class_labels_indices.csv", "mid_to_display_name.tsv"
_PLACES = ("", "metadata", "strong")
_SECONDS = 10.0
_STRONG_COLUMNS = ["segment_id", "start_time_seconds", "end_time_seconds", "label"]


class _Segment(NamedTuple):
    """Which seconds of which video."""

    video: str
    start: float
    stop: float

    @property
    def id(self) -> str:
        """With a letter first, as some videos begin with a hyphen, which commands take for an option."""
        return f"Y{self.video}_{round(1000 * self.start)}"

    def stems(self, alone: bool) -> Iterator[str]:
        """How those who fetched the audio have named it; after the video only where no other part of it is listed."""
        if alone:
            yield from (f"Y{self.video}", self.video)
        spans = [(number.format(self.start), number.format(self.stop)) for number in ("{:.3f}", "{:g}", "{:.1f}")]
        times = [f"{start}{joint}{stop}" for start, stop in spans for joint in "_-"]
        times += [start for start, _ in spans] + [str(round(1000 * self.start))]
        yield from (f"{y}{self.video}_{time}" for time in times for y in ("Y", ""))


class _Classes(NamedTuple):
    """A list of classes: the machine's name → the display name."""

    path: Path
    names: dict[str, str]

    def display_name(self, row: Row, mid: str) -> str:
        if mid not in self.names:
            raise DatasetError(f"{row.where}: {self.path.name} has no class {mid!r}; take that of the same release")
        return self.names[mid]


class _Told(NamedTuple):
    """What a list tells of a segment."""

    segment: _Segment
    part: Part
    spans: list[Span]


@DATASETS.register("audioset")
class AudioSet(ClipDataset):
    """The published lists in `root` or its folder `metadata`, and the clips, cut, in any folder below `root`.

    A clip is named after its video: `Y<video>.wav`, `<video>_<start>.wav`, `<video>_<start>_<stop>.wav` …, times in
    seconds, or a start in milliseconds. Tags are the display names of `class_labels_indices.csv`, and for strong
    labels of `mid_to_display_name.tsv`. A corpus of one's own can be written down in the same lists.

    Attributes:
        parts: the lists that are read. The strong ones tell when in a clip each sound is heard, the others only
            that it is; of a clip in both, the strong ones count. Videos of those called eval are to test with.
        validation: share of the other videos that validates, dealt by the video's name.
    """

    description: ClassVar[str] = "10 s of each of two million videos, 527 classes of sound; lists without audio"
    licence: ClassVar[str] = "labels CC BY 4.0; the audio is that of videos, by their owners' terms"
    source: ClassVar[str] = "Gemmeke et al.: Audio Set, ICASSP 2017; strong labels Hershey et al., ICASSP 2021"

    parts: tuple[Part, ...] = pydantic.Field(("balanced_train", "eval"), min_length=1)
    validation: float = pydantic.Field(0.05, ge=0, le=1)

    def clips(self) -> Iterator[Clip]:
        told: dict[str, _Told] = {}
        for part in sorted(self.parts, key=_is_strong):
            told |= {segment.id: _Told(segment, part, spans) for segment, spans in self._read(part).items()}
        tested = {clip.segment.video for clip in told.values() if clip.part.startswith("eval")}
        listed = Counter(clip.segment.video for clip in told.values())
        audio = AudioBelow(self.root).all()
        for segment, part, spans in told.values():
            split = "test" if segment.video in tested else stable_split(segment.video, self.validation)
            stems = segment.stems(alone=listed[segment.video] == 1)
            found = next((audio[stem] for stem in stems if stem in audio), None)
            yield Clip(segment.video, _recording(segment, split, part), found, tuple(spans))

    def _read(self, part: Part) -> dict[_Segment, list[Span]]:
        path = find_list(self.root, _LISTS[part], _PLACES)
        return _strong(path, self._strong_classes()) if _is_strong(part) else _weak(path, self._classes())

    def _classes(self) -> _Classes:
        path = find_list(self.root, _CLASSES, _PLACES)
        return _classes_of(path, (Row(row.where, row.cells[1:]) for row in read_table(path, ",", "index")[1]))

    def _strong_classes(self) -> _Classes:
        path = find_list(self.root, _STRONG_CLASSES, _PLACES)
        return _classes_of(path, read_rows(path, "\t"))


def _recording(segment: _Segment, split: Split, part: Part) -> Recording:
    metadata = {"start": f"{segment.start:g}", "seconds": f"{segment.stop - segment.start:g}", "part": part}
    return Recording(segment.id, split, segment.video, metadata)


def _is_strong(part: Part) -> bool:
    return part.endswith("_strong")


def _classes_of(path: Path, rows: Iterable[Row]) -> _Classes:
    names = {}
    for row in rows:
        if len(row.cells) != 2:
            raise DatasetError(f"{row.where}: not the machine's name of a class and its display name")
        names[row.cells[0]] = row.cells[1]
    return _Classes(path, names)


def _weak(path: Path, classes: _Classes) -> dict[_Segment, list[Span]]:
    """Rows of video, start, stop, classes."""
    found = {}
    for row in read_rows(path, ",", comment="#"):
        if len(row.cells) != 4:
            raise DatasetError(f"{row.where}: not YTID, start_seconds, end_seconds and positive_labels in quotes")
        video, start, stop, labels = row.cells
        segment = _Segment(video, *_ordered(row, start, stop))
        found[segment] = [Span(classes.display_name(row, mid)) for mid in labels.split(",") if mid]
    return found


def _strong(path: Path, classes: _Classes) -> dict[_Segment, list[Span]]:
    """Rows of segment, start, stop within it, class. Sounds of no length are not kept."""
    header, rows = read_table(path, "\t", _STRONG_COLUMNS[0])
    if header != _STRONG_COLUMNS:
        raise DatasetError(f"{path}: its columns are not {', '.join(_STRONG_COLUMNS)}; fetch it again")
    found: dict[_Segment, list[Span]] = {}
    for row in rows:
        if len(row.cells) != 4:
            raise DatasetError(f"{row.where}: not {', '.join(_STRONG_COLUMNS)}")
        id, start, stop, mid = row.cells
        video, _, milliseconds = id.rpartition("_")
        begin = _seconds(row, milliseconds) / 1000
        span = Span(classes.display_name(row, mid), *_ordered(row, start, stop))
        spans = found.setdefault(_Segment(video, begin, begin + _SECONDS), [])
        spans += [span] if span.stop > span.start else []
    return found


def _seconds(row: Row, text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise DatasetError(f"{row.where}: {text!r} is no time")
    return seconds


def _ordered(row: Row, start: str, stop: str) -> tuple[float, float]:
    """Both in seconds. Raises DatasetError."""
    begin, end = _seconds(row, start), _seconds(row, stop)
    if end < begin:
        raise DatasetError(f"{row.where}: ends before it begins ({start} to {stop} s)")
    return begin, end
