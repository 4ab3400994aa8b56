"""Table 1 of the MusicNet paper, for any set of labelled recordings.

Source: Thickstun, Harchaoui, Kakade: Learning Features of Music from Scratch, ICLR 2017.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pretty_midi
from tqdm import tqdm

from musicnet_tf import instruments, scores, works
from musicnet_tf.errors import DatasetError
from musicnet_tf.events import UNKNOWN, Notes
from musicnet_tf.registry import DATASETS
from musicnet_tf.validation import construct

_UNTOLD = "(unknown)"
_PAPER_NAMES = {program: name.title() for name, program in instruments.PROGRAMS.items()} | {43: "String Bass"}


@dataclasses.dataclass(frozen=True)
class Labelled:
    """A recording's labels and what is known of it: `seconds` of audio, or None where it is not at hand."""

    notes: Notes
    seconds: float | None = None
    composer: str = ""
    ensemble: str = ""


@dataclasses.dataclass
class Row:
    """A line of the table. `notes` counts distinct pitches; `seconds` sums whole recordings."""

    seconds: float = 0.0
    labels: int = 0
    recordings: int = 0
    pitches: set[int] = dataclasses.field(default_factory=set)

    def add(self, seconds: float, pitch: np.ndarray) -> None:
        self.seconds += seconds
        self.labels += len(pitch)
        self.recordings += 1
        self.pitches.update(np.unique(pitch).tolist())

    def to_dict(self) -> dict[str, Any]:
        counts = {"labels": self.labels, "recordings": self.recordings, "notes": len(self.pitches)}
        return {"minutes": round(self.seconds / 60, 2), **counts}


@dataclasses.dataclass
class Statistics:
    """The table: totals, and a row for each composer, ensemble and instrument.

    An instrument's minutes are those of the recordings in which it plays. `label_classes` counts
    distinct pairs of instrument and note.
    """

    total: Row = dataclasses.field(default_factory=Row)
    composers: dict[str, Row] = dataclasses.field(default_factory=dict)
    ensembles: dict[str, Row] = dataclasses.field(default_factory=dict)
    instruments: dict[str, Row] = dataclasses.field(default_factory=dict)

    @property
    def label_classes(self) -> int:
        return sum(len(row.pitches) for row in self.instruments.values())

    def add(self, item: Labelled) -> None:
        notes = item.notes
        seconds = notes.end if item.seconds is None else item.seconds
        self.total.add(seconds, notes.pitch)
        self.composers.setdefault(item.composer or _UNTOLD, Row()).add(seconds, notes.pitch)
        self.ensembles.setdefault(item.ensemble or _UNTOLD, Row()).add(seconds, notes.pitch)
        for program in np.unique(notes.instrument).tolist():
            row = self.instruments.setdefault(instrument_name(program), Row())
            row.add(seconds, notes.pitch[notes.instrument == program])

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; rows by falling number of labels."""
        parts = {"composers": self.composers, "ensembles": self.ensembles, "instruments": self.instruments}
        tables = {name: {key: row.to_dict() for key, row in _ranked(rows)} for name, rows in parts.items()}
        return {"total": {**self.total.to_dict(), "label_classes": self.label_classes}, **tables}

    def format(self) -> str:
        """The table as text."""
        total = f"{self.total.seconds / 60:,.0f} minutes, {self.total.labels:,} labels"
        lines = [f"{total}, {self.total.recordings:,} recordings, {self.label_classes:,} label classes"]
        for title, rows in (("Composer", self.composers), ("Ensemble", self.ensembles)):
            lines += ["", *_columns(title, rows, notes=False)]
        return "\n".join([*lines, "", *_columns("Instrument", self.instruments, notes=True)])


def summarise(items: Iterable[Labelled]) -> Statistics:
    """Counts a set of recordings, one at a time."""
    statistics = Statistics()
    for item in items:
        statistics.add(item)
    return statistics


def read(path: str | Path) -> Iterator[Labelled]:
    """The labelled recordings of a record set, of MusicNet in any form, or of a folder of its label files.

    Minutes come from the record set or `musicnet_metadata.csv`; without either, from the last label.

    Raises:
        DatasetError: where `path` holds none of these.
        ScoreError, RecordError: on a damaged file.
    """
    path = Path(path)
    if (path / "dataset_info.json").is_file():
        return _from_records(path)
    labels = sorted(p for p in path.rglob("*.csv") if scores.is_musicnet_csv(p)) if path.is_dir() else []
    if labels:
        return _from_labels(path, labels)
    if path.suffix in (".h5", ".npz") or (path / "musicnet.h5").is_file() or (path / "musicnet.npz").is_file():
        return read_corpus(path, "musicnet")
    raise DatasetError(
        f"{path}: holds no record set (dataset_info.json), no musicnet.h5 and no MusicNet label file (.csv);"
        " name the folder of one of these, or the corpus that it holds by --dataset"
    )


def read_corpus(path: str | Path, name: str) -> Iterator[Labelled]:
    """The labelled recordings of any registered corpus at `path`, by its name there.

    Minutes come from the corpus's metadata; where these tell none, from the last label.

    Raises:
        ConfigError: where no corpus has this name.
        DatasetError: where `path` does not hold it.
        ScoreError: on a damaged label file.
    """
    corpus = construct(DATASETS.get(name), {"root": path}, where=f"corpus {name!r}")
    for recording in tqdm(corpus.recordings(), unit="recording", disable=None):
        yield _labelled(corpus.load_notes(recording), recording.metadata)


def instrument_name(program: int) -> str:
    """The paper's name of a MIDI program, General MIDI's where it has none."""
    if program == UNKNOWN:
        return _UNTOLD
    return _PAPER_NAMES.get(program) or pretty_midi.program_to_instrument_name(program)


def _from_labels(root: Path, paths: list[Path]) -> Iterator[Labelled]:
    for path in tqdm(paths, unit="file", disable=None):
        above = [folder for folder in path.parents if folder == root or root in folder.parents]
        known = next((rows[path.stem] for rows in map(works.read_metadata, above) if path.stem in rows), {})
        yield _labelled(scores.read_musicnet_csv(path), known)


def _from_records(path: Path) -> Iterator[Labelled]:
    from musicnet_tf import records  # imports TensorFlow

    for known, notes in records.read_notes(path):
        yield _labelled(notes, {**_metadata_of(known), "seconds": known["seconds"]})


def _metadata_of(known: dict[str, Any]) -> dict[str, Any]:
    prefix = "metadata/"
    return {key.removeprefix(prefix): value for key, value in known.items() if key.startswith(prefix)}


def _labelled(notes: Notes, known: dict[str, Any]) -> Labelled:
    seconds = float(known["seconds"]) if known.get("seconds") else None
    return Labelled(notes, seconds, known.get("composer", ""), known.get("ensemble", ""))


def _ranked(rows: dict[str, Row]) -> list[tuple[str, Row]]:
    return sorted(rows.items(), key=lambda item: (-item[1].labels, item[0]))


def _columns(title: str, rows: dict[str, Row], notes: bool) -> list[str]:
    width = max(len(title), *map(len, rows)) if rows else len(title)
    lines = [f"{title:<{width}}  Minutes     Labels  Recordings" + ("  Notes" if notes else "")]
    for name, row in _ranked(rows):
        line = f"{name:<{width}}  {row.seconds / 60:>7,.0f}  {row.labels:>9,}  {row.recordings:>10,}"
        lines.append(line + (f"  {len(row.pitches):>5}" if notes else ""))
    return lines
