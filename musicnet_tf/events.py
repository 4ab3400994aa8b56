"""What is heard: frozen, validated, vectorised containers of events in seconds."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from musicnet_tf.errors import ScoreError

NUM_PITCHES = 128
"""Of MIDI, from 0 on."""

UNKNOWN = -1
"""Stands for a velocity, an instrument or a place in the bar that the source does not tell."""


class Note(NamedTuple):
    """One note. Times in seconds, `pitch` a MIDI number, `instrument` a MIDI program 0–127."""

    onset: float
    offset: float
    pitch: int
    velocity: int = UNKNOWN
    instrument: int = UNKNOWN


class Beat(NamedTuple):
    """One beat: seconds, and its place in the bar, 1 for a downbeat."""

    time: float
    position: int = UNKNOWN


_COLUMNS = {
    "onset": (np.float64, None),
    "offset": (np.float64, None),
    "pitch": (np.int64, None),
    "velocity": (np.int64, UNKNOWN),
    "instrument": (np.int64, UNKNOWN),
    "start_beat": (np.float64, np.nan),
    "end_beat": (np.float64, np.nan),
    "note_value": (np.str_, ""),
}


@dataclasses.dataclass(frozen=True, eq=False)
class Notes:
    """Notes as parallel columns, sorted by onset, then pitch, then instrument.

    A note sounds at time `t` iff `onset <= t < offset` (half-open, as in MusicNet's interval trees).
    Instruments are General MIDI programs counted from 0; readers of corpora that count from 1 convert.

    Attributes:
        onset, offset: seconds, float64 `(n,)`, `offset > onset`. Onsets may be negative in an excerpt
            that a note reaches into.
        pitch: MIDI number 0–127, int64 `(n,)`.
        velocity: MIDI velocity 1–127, or `UNKNOWN`.
        instrument: MIDI program 0–127, or `UNKNOWN`.
        start_beat, end_beat: MusicNet's score columns in beats (`end_beat` is a duration there), NaN
            where unknown.
        note_value: MusicNet's text, such as `Dotted Half`; empty where unknown.

    Raises:
        ScoreError: on columns of unequal length, a pitch, velocity or instrument out of range, a time
            that is not finite, or an offset that is not after its onset. The message names the row.
    """

    onset: np.ndarray
    offset: np.ndarray
    pitch: np.ndarray
    velocity: np.ndarray = None  # type: ignore[assignment]  # filled in __post_init__
    instrument: np.ndarray = None  # type: ignore[assignment]
    start_beat: np.ndarray = None  # type: ignore[assignment]
    end_beat: np.ndarray = None  # type: ignore[assignment]
    note_value: np.ndarray = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        size = len(self.onset)
        columns = {name: self._column(name, size) for name in _COLUMNS}
        _validate(columns)
        order = np.lexsort((columns["instrument"], columns["pitch"], columns["onset"]))
        for name, values in columns.items():
            values = values[order]
            values.flags.writeable = False
            object.__setattr__(self, name, values)

    def _column(self, name: str, size: int) -> np.ndarray:
        dtype, default = _COLUMNS[name]
        values = getattr(self, name)
        values = np.full(size, default, dtype) if values is None else np.asarray(values, dtype)
        if values.shape != (size,):
            raise ScoreError(f"notes: column {name!r} has shape {values.shape}, expected ({size},)")
        return values

    @classmethod
    def empty(cls) -> Notes:
        return cls([], [], [])  # type: ignore[arg-type]

    @classmethod
    def from_list(cls, notes: Sequence[Note]) -> Notes:
        """Columns of a list of `Note`."""
        return cls(*zip(*notes, strict=True)) if notes else cls.empty()  # type: ignore[arg-type]

    @classmethod
    def concatenate(cls, parts: Sequence[Notes]) -> Notes:
        """All notes of several containers in one, sorted."""
        if not parts:
            return cls.empty()
        return cls(**{name: np.concatenate([getattr(p, name) for p in parts]) for name in _COLUMNS})

    def __len__(self) -> int:
        return len(self.onset)

    def __iter__(self) -> Iterator[Note]:
        columns = (getattr(self, name).tolist() for name in Note._fields)
        return (Note(*row) for row in zip(*columns, strict=True))

    def __getitem__(self, index: npt.ArrayLike | slice) -> Notes:
        """The notes picked by a slice, a mask or an index array."""
        return Notes(**{name: getattr(self, name)[index] for name in _COLUMNS})

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Notes):
            return NotImplemented
        return len(self) == len(other) and all(
            np.array_equal(getattr(self, name), getattr(other, name), equal_nan=name.endswith("beat"))
            for name in _COLUMNS
        )

    __hash__ = None  # type: ignore[assignment]

    @property
    def end(self) -> float:
        """The last offset in seconds, 0.0 where there are no notes."""
        return float(self.offset.max(initial=0.0))

    def intervals(self) -> np.ndarray:
        """`(n, 2)` onsets and offsets in seconds, as mir_eval takes them."""
        return np.stack([self.onset, self.offset], axis=1)

    def shift(self, seconds: float) -> Notes:
        """The same notes, later by `seconds`."""
        return dataclasses.replace(self, onset=self.onset + seconds, offset=self.offset + seconds)

    def within(self, start: float, stop: float) -> Notes:
        """The notes that sound at some instant of `[start, stop)`, uncut and unshifted."""
        return self[(self.onset < stop) & (self.offset > start)]


@dataclasses.dataclass(frozen=True, eq=False)
class Beats:
    """Beats as parallel columns, in the order of time.

    Attributes:
        time: seconds, float64 `(n,)`, strictly increasing. May be negative in an excerpt.
        position: int64 `(n,)`: 1 for a downbeat, 2, 3 … for the other beats of the bar, `UNKNOWN` where the
            source does not tell; a pickup has the number that it would have in a whole bar.

    Raises:
        ScoreError: on columns of unequal length, a time that is not finite or not after the one before, or a
            position that is no place in a bar. The message names the row.
    """

    time: np.ndarray
    position: np.ndarray = None  # type: ignore[assignment]  # filled in __post_init__

    def __post_init__(self) -> None:
        time = np.array(self.time, np.float64)
        position = np.full(time.shape, UNKNOWN) if self.position is None else np.array(self.position, np.int64)
        _validate_beats(time, position)
        for name, values in (("time", time), ("position", position)):
            values.flags.writeable = False
            object.__setattr__(self, name, values)

    @classmethod
    def empty(cls) -> Beats:
        return cls([], [])  # type: ignore[arg-type]

    @classmethod
    def from_list(cls, beats: Sequence[Beat]) -> Beats:
        """Columns of a list of `Beat`."""
        return cls(*zip(*beats, strict=True)) if beats else cls.empty()  # type: ignore[arg-type]

    @classmethod
    def concatenate(cls, parts: Sequence[Beats]) -> Beats:
        """The beats of several containers, each later than the one before it, in one."""
        if not parts:
            return cls.empty()
        return cls(np.concatenate([p.time for p in parts]), np.concatenate([p.position for p in parts]))

    def __len__(self) -> int:
        return len(self.time)

    def __iter__(self) -> Iterator[Beat]:
        return (Beat(*row) for row in zip(self.time.tolist(), self.position.tolist(), strict=True))

    def __getitem__(self, index: npt.ArrayLike | slice) -> Beats:
        """The beats picked by a slice, a mask or an ascending index array."""
        return Beats(self.time[index], self.position[index])  # type: ignore[index]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Beats):
            return NotImplemented
        return np.array_equal(self.time, other.time) and np.array_equal(self.position, other.position)

    __hash__ = None  # type: ignore[assignment]

    @property
    def downbeats(self) -> np.ndarray:
        """Seconds of the beats that are known to begin a bar, float64 `(m,)`."""
        return self.time[self.position == 1]

    def shift(self, seconds: float) -> Beats:
        """The same beats, later by `seconds`."""
        return dataclasses.replace(self, time=self.time + seconds)

    def within(self, start: float, stop: float) -> Beats:
        """The beats of `[start, stop)`, unshifted."""
        return self[(self.time >= start) & (self.time < stop)]


@dataclasses.dataclass(frozen=True, eq=False)
class TagSpans:
    """Stretches of a recording that bear a tag, as its labels tell them; stretches of one tag may overlap.

    Attributes:
        start, stop: seconds, float64 `(n,)`, `stop > start`; a tag of the whole recording goes from 0 to infinity.
        tag: text `(n,)`.

    Raises:
        ScoreError: on columns of unequal length, or a stretch that ends before it begins. The message names the row.
    """

    start: np.ndarray
    stop: np.ndarray
    tag: np.ndarray

    def __post_init__(self) -> None:
        start, stop, tag = np.array(self.start, np.float64), np.array(self.stop, np.float64), np.array(self.tag, str)
        _validate_spans(start, stop, tag)
        for name, values in (("start", start), ("stop", stop), ("tag", tag)):
            values.flags.writeable = False
            object.__setattr__(self, name, values)

    @classmethod
    def empty(cls) -> TagSpans:
        return cls([], [], [])  # type: ignore[arg-type]

    @classmethod
    def of_whole(cls, tags: Sequence[str]) -> TagSpans:
        """Tags of a whole recording."""
        return cls([0.0] * len(tags), [np.inf] * len(tags), list(tags))  # type: ignore[arg-type]

    @classmethod
    def concatenate(cls, parts: Sequence[TagSpans]) -> TagSpans:
        """The stretches of several containers in one."""
        if not parts:
            return cls.empty()
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in ("start", "stop", "tag")))

    def __len__(self) -> int:
        return len(self.start)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, TagSpans):
            return NotImplemented
        return all(np.array_equal(getattr(self, name), getattr(other, name)) for name in ("start", "stop", "tag"))

    __hash__ = None  # type: ignore[assignment]

    def shift(self, seconds: float) -> TagSpans:
        """The same stretches, later by `seconds`."""
        return dataclasses.replace(self, start=self.start + seconds, stop=self.stop + seconds)

    def merged(self) -> TagSpans:
        """The same with stretches of one tag that overlap or touch made one; sorted by start, then by tag."""
        parts = []
        for name in np.unique(self.tag):
            start, stop = (times[self.tag == name] for times in (self.start, self.stop))
            order = np.argsort(start)
            start, stop = start[order], np.maximum.accumulate(stop[order])
            first = np.append(True, start[1:] > stop[:-1])
            last = np.append(first[1:], True)
            parts.append(TagSpans(start[first], stop[last], np.full(first.sum(), name)))
        joined = TagSpans.concatenate(parts)
        order = np.lexsort((joined.tag, joined.start))
        return TagSpans(joined.start[order], joined.stop[order], joined.tag[order])

    def active(self, names: Sequence[str], start: npt.ArrayLike, stop: npt.ArrayLike, least: float = 0.0) -> np.ndarray:
        """Whether a tag is borne within a frame, bool `(frames, names)`: for more than `least` seconds at a stretch.

        Args:
            names: of the tags.
            start, stop: of the frames, in seconds, `(frames,)`.
            least: seconds.
        """
        begins = np.maximum(np.asarray(start, np.float64)[:, None], self.start)
        ends = np.minimum(np.asarray(stop, np.float64)[:, None], self.stop)
        inside = ends - begins > least
        found = [inside[:, self.tag == name].any(axis=1) for name in names]
        return np.stack(found, axis=1) if found else np.zeros((len(begins), 0), bool)


@dataclasses.dataclass(frozen=True, eq=False)
class Tags:
    """How much a recording and each stretch of it bears each tag, as a model hears it.

    Attributes:
        names: of the tags.
        scores: of the whole recording, in [0, 1], float64 `(tags,)`.
        start, stop: of the stretches, in seconds, float64 `(frames,)`.
        timeline: scores of the stretches, float64 `(frames, tags)`.
        embedding: what the tags were told from, float32 `(frames, features)`; None where the model does not tell it.
    """

    names: tuple[str, ...]
    scores: np.ndarray
    start: np.ndarray
    stop: np.ndarray
    timeline: np.ndarray
    embedding: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.names)

    def ranked(self) -> list[tuple[str, float]]:
        """Tags and scores of the whole recording, the highest first; equal ones in the order of `names`."""
        order = np.argsort(-self.scores, kind="stable")
        return [(self.names[i], float(self.scores[i])) for i in order]


@dataclasses.dataclass(frozen=True)
class Score:
    """What a score says, as written: nothing is unfolded.

    Attributes:
        notes: in nominal seconds, at the score's own tempi from its beginning; `start_beat` counts quarter
            notes from the beginning, `end_beat` is the length in quarter notes, `note_value` its name.
        measures: nominal seconds at which each measure begins, ascending, float64 `(m,)`; empty where unknown.
        jumps: where the page sends the player elsewhere (repeat signs, endings, da capo), float64 `(k, 2)`
            nominal seconds from and to; empty where the form has no such signs, as MIDI.
        beats: in nominal seconds, by the time signatures; None where the reader does not tell them.
    """

    notes: Notes
    measures: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0))
    jumps: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros((0, 2)))
    beats: Beats | None = None


def _validate(columns: dict[str, np.ndarray]) -> None:
    def refuse(bad: np.ndarray, what: str) -> None:
        if bad.any():
            row = int(np.argmax(bad))
            seen = ", ".join(f"{name}={columns[name][row]}" for name in list(_COLUMNS)[:5])
            raise ScoreError(f"note {row}: {what} ({seen})")

    def outside(name: str, low: int) -> np.ndarray:
        return (columns[name] < low) | (columns[name] > 127)

    def known(name: str) -> np.ndarray:
        return columns[name] != UNKNOWN

    refuse(~np.isfinite(columns["onset"]) | ~np.isfinite(columns["offset"]), "times must be finite")
    refuse(columns["offset"] <= columns["onset"], "offset must be after onset")
    refuse(outside("pitch", 0), "pitch must be a MIDI number 0–127")
    refuse(known("velocity") & outside("velocity", 1), "velocity must be 1–127 or unknown (-1)")
    refuse(known("instrument") & outside("instrument", 0), "instrument must be a MIDI program 0–127 or unknown (-1)")


def _validate_beats(time: np.ndarray, position: np.ndarray) -> None:
    if time.ndim != 1 or position.shape != time.shape:
        shapes = f"times of shape {time.shape} and positions of shape {position.shape}"
        raise ScoreError(f"beats: {shapes}; both must be (n,)")

    def refuse(bad: np.ndarray, what: str) -> None:
        if bad.any():
            row = int(np.argmax(bad))
            raise ScoreError(f"beat {row}: {what} (time={time[row]}, position={position[row]})")

    refuse(~np.isfinite(time), "times must be finite")
    refuse(np.diff(time, prepend=-np.inf) <= 0, "times must increase")
    refuse((position < 1) & (position != UNKNOWN), "position must be 1 or more, or unknown (-1)")


def _validate_spans(start: np.ndarray, stop: np.ndarray, tag: np.ndarray) -> None:
    if start.ndim != 1 or not start.shape == stop.shape == tag.shape:
        raise ScoreError(f"tags: columns of shapes {start.shape}, {stop.shape} and {tag.shape}; all must be (n,)")
    bad = ~(stop > start) | ~np.isfinite(start)
    if bad.any():
        row = int(np.argmax(bad))
        raise ScoreError(f"tag {row} ({tag[row]}): must end after it begins (start={start[row]}, stop={stop[row]})")
