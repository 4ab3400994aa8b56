"""Label tables ↔ notes: MusicNet's CSV and the tables of MAPS."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from musicnet_tf.errors import ScoreError
from musicnet_tf.events import UNKNOWN, Notes

MUSICNET_COLUMNS = ("start_time", "end_time", "instrument", "note", "start_beat", "end_beat", "note_value")


def read_musicnet_csv(path: str | Path, sample_rate: int = 44100) -> Notes:
    """Reads a label file in MusicNet's columns, found by name; beats and note value may be absent.

    Times are sample indices at `sample_rate`. Instruments count General MIDI from 1 in the file and
    from 0 in the result; 0 in the file means unknown. A row that ends at or before its start is an
    error: none of the 1,073,980 rows of the published training labels does.

    Raises:
        ScoreError: naming file and line.
    """
    table = _Table(path, delimiter=",")
    start, end = table.integers("start_time"), table.integers("end_time")
    instrument, pitch = table.integers("instrument"), table.integers("note")
    table.refuse((instrument < 0) | (instrument > 128), "instrument must be 1–128, or 0 for unknown")
    optional = {name: table.floats(name, missing=np.nan) for name in MUSICNET_COLUMNS[4:6] if name in table.header}
    if "note_value" in table.header:
        optional["note_value"] = np.array(table.cells("note_value"), dtype=np.str_)
    table.check_notes(start, end, pitch)
    return Notes(start / sample_rate, end / sample_rate, pitch, None, instrument - 1, **optional)  # type: ignore[arg-type]


def is_musicnet_csv(path: str | Path) -> bool:
    """Whether a file's first line names MusicNet's columns."""
    try:
        with Path(path).open("rb") as file:
            first = file.readline(400).decode("utf-8-sig", "replace")
    except OSError:
        return False
    return set(MUSICNET_COLUMNS[:4]) <= {name.strip() for name in first.split(",")}


def format_musicnet_csv(notes: Notes, sample_rate: int = 44100) -> str:
    """The text that `read_musicnet_csv` reads back to the same notes, times rounded to samples.

    Unknown beats and note values are left empty. An unknown instrument is written as 0, which is no
    General MIDI number: to call it 1 would claim a piano. MusicNet has no velocity, so it is lost.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(MUSICNET_COLUMNS)
    start = np.round(notes.onset * sample_rate).astype(np.int64)
    end = np.maximum(np.round(notes.offset * sample_rate).astype(np.int64), start + 1)
    beats = [["" if np.isnan(x) else x for x in column.tolist()] for column in (notes.start_beat, notes.end_beat)]
    instrument = np.where(notes.instrument == UNKNOWN, 0, notes.instrument + 1)
    columns = (start.tolist(), end.tolist(), instrument.tolist(), notes.pitch.tolist(), *beats, notes.note_value)
    writer.writerows(zip(*columns, strict=True))
    return out.getvalue()


def read_maps_tsv(path: str | Path) -> Notes:
    """Reads MAPS labels: `# onset,offset,note,velocity` with tabs, or MAPS' own `OnsetTime OffsetTime MidiPitch`.

    Times are in seconds. The instrument is piano, program 0.

    Raises:
        ScoreError: naming file and line.
    """
    table = _Table(path, delimiter="\t")
    onset, offset, pitch = table.floats("onset"), table.floats("offset"), table.integers("note")
    table.check_notes(onset, offset, pitch)
    velocity = None
    if "velocity" in table.header:
        velocity = table.integers("velocity")
        table.refuse((velocity < 1) | (velocity > 127), "velocity must be 1–127")
    return Notes(onset, offset, pitch, velocity, np.zeros(len(onset), np.int64))  # type: ignore[arg-type]


def read_text(path: str | Path) -> str:
    """The text of a label file. Raises ScoreError where it cannot be read, or is none."""
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ScoreError(f"{path}: not a text file (byte {error.start} is not UTF-8)") from error
    except OSError as error:
        raise ScoreError(f"{path}: cannot be read ({error.strerror})") from error


_ALIASES = {"OnsetTime": "onset", "OffsetTime": "offset", "MidiPitch": "note"}


class _Table:
    """A delimited text file with a header, whose errors name file and line."""

    def __init__(self, path: str | Path, delimiter: str) -> None:
        self.path = path
        reader = csv.reader(io.StringIO(read_text(path), newline=""), delimiter=delimiter, strict=True)
        try:
            rows = [(reader.line_num, row) for row in reader if row]
        except csv.Error as error:
            raise ScoreError(f"{path}, line {reader.line_num}: {error}") from error
        if not rows:
            raise ScoreError(f"{path}: the file is empty")
        names = re.split(r"[,\t]", ",".join(rows[0][1]).lstrip("# "))
        self.header = [_ALIASES.get(name.strip(), name.strip()) for name in names]
        self.lines = [line for line, _ in rows[1:]]
        for line, row in rows[1:]:
            if len(row) != len(self.header):
                raise ScoreError(f"{path}, line {line}: {len(row)} fields where the header names {len(self.header)}")
        self._columns: list[Sequence[str]] = list(zip(*(row for _, row in rows[1:]), strict=True))

    def cells(self, name: str) -> Sequence[str]:
        if name not in self.header:
            raise ScoreError(f"{self.path}: no column {name!r}; its header is {', '.join(self.header)[:200]!r}")
        return self._columns[self.header.index(name)] if self._columns else ()

    def floats(self, name: str, missing: float | None = None) -> np.ndarray:
        cells = self.cells(name)
        if missing is not None and "" in cells:
            cells = [cell or str(missing) for cell in cells]
        try:
            values = np.array(cells, dtype=np.float64)
        except ValueError:
            row = next(i for i, cell in enumerate(cells) if not _is_number(cell))
            raise ScoreError(f"{self.path}, line {self.lines[row]}: {name} is {cells[row]!r}, not a number") from None
        if missing is None:
            self.refuse(~np.isfinite(values), f"{name} must be finite")
        return values

    def integers(self, name: str) -> np.ndarray:
        values = self.floats(name)
        self.refuse((values != np.floor(values)) | (np.abs(values) > 2**53), f"{name} must be a whole number")
        return values.astype(np.int64)

    def refuse(self, bad: np.ndarray, why: str) -> None:
        if bad.any():
            row = int(np.argmax(bad))
            seen = ", ".join(column[row] for column in self._columns)
            raise ScoreError(f"{self.path}, line {self.lines[row]}: {why} ({seen})")

    def check_notes(self, start: np.ndarray, end: np.ndarray, pitch: np.ndarray) -> None:
        self.refuse(start < 0, "start must not be negative")
        self.refuse(end <= start, "end must be after start")
        self.refuse((pitch < 0) | (pitch > 127), "pitch must be a MIDI number 0–127")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
