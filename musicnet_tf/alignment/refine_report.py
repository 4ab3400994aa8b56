"""Refined labels → files, and what refinement did to them: scores before and after."""

from __future__ import annotations

import csv
import dataclasses
import io
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from musicnet_tf import audio as sounds
from musicnet_tf import files, scores
from musicnet_tf.alignment import label_check, label_evidence, pairs
from musicnet_tf.alignment.hearing import Heard
from musicnet_tf.alignment.refine import Refined
from musicnet_tf.decode.notes import NoteDecoding, decode
from musicnet_tf.errors import DatasetError, OutputError, ScoreError
from musicnet_tf.metrics import notes as note_metrics

JSON_NAME = "refine_labels.json"
MOVED_SUFFIX = ".moved.csv"
SAMPLE_RATE = 44100
"""Of the times in MusicNet's labels."""

_TABLES = (".csv", ".tsv", ".txt")
_TIME_COLUMNS = (("start_time", "onset"), ("end_time", "offset"))
_PITCH_COLUMNS = ("note", "midipitch")
_BELIEVABLE = 0.5


class Pair(NamedTuple):
    """A recording and its labels; what is written is named after the labels."""

    audio: Path
    labels: Path

    @property
    def name(self) -> str:
        return self.labels.stem


@dataclasses.dataclass(frozen=True)
class Scores:
    """One piece before and after.

    Attributes:
        labels: how many there are.
        snapped: share that took an onset of its own.
        misaligned_before, misaligned_after: estimated share of misaligned labels (`alignment.label_check`, which
            knows nothing of the model), after removing a constant shift of all. A label that took the wrong one
            of two onsets of its pitch passes for right: on labels of known truth 1 to 3% of notes did.
        offset_before, offset_after: that shift, in seconds, positive where the sound comes later than the labels.
        onset_f1_before, onset_f1_after: of the model's own transcription against the labels, 50 ms. The labels
            were moved towards that very model, so that it rises by more than they got better.
        moved_median, moved_p95: of the absolute seconds by which onsets moved.
        shift: median of the seconds, signed, by which onsets moved: the constant part.
    """

    labels: int
    snapped: float
    misaligned_before: float
    misaligned_after: float
    offset_before: float
    offset_after: float
    onset_f1_before: float
    onset_f1_after: float
    moved_median: float
    moved_p95: float
    shift: float

    def to_dict(self) -> dict[str, float | None]:
        """Plain values; a share that cannot be told is None."""
        rounded = {name: round(value, 5) for name, value in dataclasses.asdict(self).items()}
        return {name: None if math.isnan(value) else value for name, value in rounded.items()}


def score(refined: Refined, heard: Heard, decoding: NoteDecoding, audio: np.ndarray, sample_rate: int) -> Scores:
    """Scores of labels before and after refinement.

    Args:
        refined: by `refine.refine`.
        heard: by `hearing.hear`.
        decoding: how the model's notes are read off its activations.
        audio: the recording, float32 mono `(n,)`.
        sample_rate: of `audio`.

    Raises:
        AudioError: for a silent recording.
    """
    peaks = label_evidence.onset_peaks(audio, sample_rate)
    transcribed = decode(heard.heads, heard.clock, decoding, heard.first_pitch)
    sides = (refined.before, refined.notes)
    before, after = (label_check.judge(peaks, notes, len(audio) / sample_rate) for notes in sides)
    f1_before, f1_after = (note_metrics.score(notes, transcribed, ("onset",))["onset/f1"] for notes in sides)
    distance = np.abs(refined.moved)
    return Scores(
        labels=len(refined.before),
        snapped=float(refined.snapped.mean()),
        misaligned_before=before.share,
        misaligned_after=after.share,
        offset_before=before.offset,
        offset_after=after.offset,
        onset_f1_before=f1_before,
        onset_f1_after=f1_after,
        moved_median=float(np.median(distance)),
        moved_p95=float(np.percentile(distance, 95)),
        shift=float(np.median(refined.moved)),
    )


@dataclasses.dataclass
class RefineReport:
    """What became of a batch, by name."""

    settings: dict[str, Any]
    done: dict[str, Scores] = dataclasses.field(default_factory=dict)
    failed: dict[str, str] = dataclasses.field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Everything, in plain types."""
        pieces = {name: found.to_dict() for name, found in self.done.items()}
        counts = {"refined": len(self.done), "failed": len(self.failed)}
        return {"settings": self.settings, **counts, "recordings": pieces, "errors": self.failed}

    def table(self) -> str:
        """A row a piece, and where there are several, one of all labels."""
        width = max(len(name) for name in (*self.done, "all"))
        head = f"{'':<{width}}  labels   misaligned  onset F1 of model   moved: median    p95   shift  own onset"
        rows = [_line(name, found, width) for name, found in self.done.items()]
        if len(self.done) > 1:
            rows.append(_line("all", self._pooled(), width))
        return "\n".join([head, *rows])

    def remarks(self) -> Iterator[str]:
        """A line for each piece that a person should look at."""
        for name, found in self.done.items():
            if found.misaligned_after > _BELIEVABLE:
                yield (
                    f"{name}: {found.misaligned_after:.0%} of the labels seem misaligned still; are they of this"
                    " recording? `musicnet align` lays a score onto one"
                )
            elif found.misaligned_after > found.misaligned_before + 0.01:
                yield f"{name}: more labels seem misaligned than before; keep those that were given"

    def _pooled(self) -> Scores:
        """Means over labels; of medians and percentiles too, which are no medians of all then."""
        weights = [found.labels for found in self.done.values()]
        columns = zip(*(dataclasses.astuple(found) for found in self.done.values()), strict=True)
        names = [field.name for field in dataclasses.fields(Scores)]
        means = {name: _mean(column, weights) for name, column in zip(names, columns, strict=True)}
        return Scores(**{**means, "labels": sum(weights)})  # type: ignore[arg-type]


def find_pairs(audio: str | Path, labels: str | Path) -> tuple[list[Pair], dict[str, str]]:
    """A pair of files, or the files of two folders that have the same name but for their suffix.

    Of label files alike in name the first kind in the order of `scores.READERS` is taken.

    Returns:
        The pairs by name, and for each label file without a recording the reason why it is left out.

    Raises:
        DatasetError: where one is a folder and the other is not, or the folders have no pair.
    """
    audio, labels = Path(audio), Path(labels)
    if not audio.is_dir() and not labels.is_dir():
        return [Pair(audio, labels)], {}
    if not (audio.is_dir() and labels.is_dir()):
        raise DatasetError(f"{audio} and {labels}: one is a folder, the other is none; give two files or two folders")
    recordings = _by_stem(audio, sounds.SUFFIXES)
    labelled = _by_stem(labels, tuple(scores.READERS))
    found = [Pair(recordings[stem], path) for stem, path in labelled.items() if stem in recordings]
    if not found:
        raise DatasetError(f"{audio} and {labels}: hold no recording and label file of the same name")
    missing = {stem: f"{path}: no recording {stem}.* in {audio}" for stem, path in labelled.items()}
    return found, {stem: why for stem, why in missing.items() if stem not in recordings}


def read_manifest(path: str | Path) -> list[Pair]:
    """The pairs of a CSV file with the columns `audio` and `labels`, paths relative to it.

    Raises:
        DatasetError: naming file and line, where it is no such table, holds no pair or an empty path, or two
            label files of one name.
    """
    path = Path(path)
    found: dict[str, Pair] = {}
    try:
        for line, row in pairs.read_rows(path, ("audio", "labels"), ()):
            if not (row["audio"] and row["labels"]):
                raise DatasetError(f"{path}: line {line}: a path is empty; give one of audio and one of labels")
            pair = Pair(*(path.parent / Path(row[column]).expanduser() for column in ("audio", "labels")))
            if pair.name in found:
                raise DatasetError(
                    f"{path}: line {line}: another line has labels called {pair.name!r}, and output is named after"
                    " them; rename one"
                )
            found[pair.name] = pair
    except FileNotFoundError as error:
        raise DatasetError(f"{path}: no such manifest") from error
    if not found:
        raise DatasetError(f"{path}: holds no pairs; each line after the header names one")
    return list(found.values())


def outputs(folder: str | Path, pair: Pair) -> tuple[Path, Path]:
    """Where labels and moves of a pair are written. Labels keep their form; those of MIDI files become MusicNet's CSV.

    Raises:
        OutputError: where that would take the place of an input.
    """
    suffix = pair.labels.suffix if pair.labels.suffix.lower() in _TABLES else ".csv"
    places = Path(folder) / f"{pair.name}{suffix}", Path(folder) / f"{pair.name}{MOVED_SUFFIX}"
    for place in places:
        if place.resolve() in (pair.audio.resolve(), pair.labels.resolve()):
            raise OutputError(f"{place}: is an input, and would be written over; choose another output folder")
    return places


def write(folder: str | Path, pair: Pair, refined: Refined) -> None:
    """Writes the labels with new times and all else as given, and `<name>.moved.csv`, row for row.

    Its columns are the onset as given and as moved and their distance in seconds, the pitch, the confidence,
    and whether the note took an onset of its own. Rows are in the order of the label file; those of a MIDI
    file, by new onset.
    """
    labels, moved = outputs(folder, pair)
    if pair.labels.suffix.lower() in _TABLES:
        rows, text = _retimed(pair.labels, refined)
    else:
        # As `Notes` sorts them, so that rows agree.
        rows = np.lexsort((refined.before.instrument, refined.before.pitch, refined.onset))
        text = scores.format_musicnet_csv(refined.notes)
    files.write_text(moved, _moved_table(refined, rows))
    files.write_text(labels, text)


def _moved_table(refined: Refined, rows: np.ndarray) -> str:
    columns = (refined.before.onset, refined.onset, refined.moved, refined.before.pitch, refined.confidence)
    cells = zip(*(column[rows].tolist() for column in (*columns, refined.snapped)), strict=True)
    lines = [f"{a:.6f},{b:.6f},{move:+.6f},{pitch},{sure:.4f},{int(own)}" for a, b, move, pitch, sure, own in cells]
    return "\n".join(["onset_before,onset,moved,note,confidence,own_onset", *lines]) + "\n"


def _retimed(path: Path, refined: Refined) -> tuple[np.ndarray, str]:
    """For each line of a table its index in the labels, and the table with their new times."""
    text = path.read_text(encoding="utf-8-sig")
    head, _, _ = text.partition("\n")
    delimiter = "," if path.suffix.lower() == ".csv" else "\t"
    names = [name.strip().removesuffix("Time").lower() for name in re.split(r"[,\t]", head.lstrip("# "))]
    table = [row for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True) if row][1:]
    start, end = (next(names.index(name) for name in pair if name in names) for pair in _TIME_COLUMNS)
    rows = _rows_of(table, names, start)
    if len(rows) != len(refined.before):
        raise ScoreError(f"{path}: was changed while it was refined; refine it again")
    as_text = _in_samples if names[start] == "start_time" else _in_seconds
    out = io.StringIO()
    writer = csv.writer(out, delimiter=delimiter, lineterminator="\n")
    for row, index in zip(table, rows.tolist(), strict=True):
        row[start], row[end] = as_text(refined.onset[index], refined.offset[index])
        writer.writerow(row)
    return rows, f"{head.rstrip()}\n{out.getvalue()}"


def _in_samples(onset: float, offset: float) -> tuple[str, str]:
    start = round(onset * SAMPLE_RATE)
    return str(start), str(max(round(offset * SAMPLE_RATE), start + 1))


def _in_seconds(onset: float, offset: float) -> tuple[str, str]:
    return f"{onset:.6f}", f"{offset:.6f}"


def _rows_of(table: list[list[str]], names: list[str], start: int) -> np.ndarray:
    """For each line of a table its index among `Notes`, which are sorted by onset, pitch and instrument."""
    columns = np.array(table, np.str_).reshape(len(table), len(names))
    pitch = next(names.index(name) for name in _PITCH_COLUMNS if name in names)
    keys = [columns[:, pitch].astype(np.float64), columns[:, start].astype(np.float64)]
    if "instrument" in names:
        keys.insert(0, columns[:, names.index("instrument")].astype(np.float64))
    order = np.lexsort(keys)
    rows = np.empty(len(order), np.int64)
    rows[order] = np.arange(len(order))
    return rows


def _by_stem(folder: Path, suffixes: tuple[str, ...]) -> dict[str, Path]:
    try:
        present = [path for path in folder.iterdir() if path.suffix.lower() in suffixes and path.name[0] != "."]
    except OSError as error:
        raise DatasetError(f"{folder}: cannot be listed ({error.strerror})") from error
    by_kind = sorted(present, key=lambda path: suffixes.index(path.suffix.lower()), reverse=True)
    found = {path.stem: path for path in by_kind if path.is_file()}  # the first kind last, so that it stays
    return dict(sorted(found.items()))


def _mean(values: tuple[float, ...], weights: list[int]) -> float:
    known = np.isfinite(values)
    return float(np.average(np.array(values)[known], weights=np.array(weights)[known])) if known.any() else math.nan


def _line(name: str, found: Scores, width: int) -> str:
    def percent(value: float) -> str:
        return "-" if math.isnan(value) else f"{100 * value:.1f}%"

    misaligned = f"{percent(found.misaligned_before)} → {percent(found.misaligned_after)}"
    f1 = f"{found.onset_f1_before:.3f} → {found.onset_f1_after:.3f}"
    moved = f"{1000 * found.moved_median:.0f} ms", f"{1000 * found.moved_p95:.0f} ms", f"{1000 * found.shift:+.0f} ms"
    return (
        f"{name:<{width}}  {found.labels:>6}  {misaligned:>11}  {f1:>17}  {moved[0]:>14}  {moved[1]:>6}  {moved[2]:>6}"
        f"  {percent(found.snapped):>9}"
    )
