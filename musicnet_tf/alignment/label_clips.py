"""The MusicNet paper's appendix A made repeatable: which clips are judged, and what was found in them.

The paper drew 30 clips of 30 seconds over instruments, ensembles and durations; two musicians marked the labels that
were off, on sound slowed to a quarter. Here a seed draws the clips and `label_check` judges the labels. What it
learns of chance and of true onsets, it learns from the whole recording; what is told is of the clips.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import itertools
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from musicnet_tf import files
from musicnet_tf.alignment import label_check, label_evidence, sonify
from musicnet_tf.alignment.label_check import VERDICTS, CheckSettings, Judged
from musicnet_tf.errors import DatasetError, ScoreError
from musicnet_tf.events import Notes
from musicnet_tf.statistics import instrument_name

JSON_NAME, CSV_NAME = "label_check.json", "label_check.csv"
SLOW_RATE = 0.25
_RESAMPLES = 2000
_INTERVAL = (2.5, 97.5)
_LEAST_CLIPS = 4  # fewer say nothing of how clips differ


class Clip(NamedTuple):
    """Seconds of a recording whose labels are told of: those that begin in `[start, stop)`."""

    start: float
    stop: float


@dataclasses.dataclass(frozen=True)
class Checked:
    """One recording: its labels as judged, whether each peaks at its fundamental, and the clips to tell of."""

    judged: Judged
    has_fundamental: np.ndarray
    clips: tuple[Clip, ...]

    def rows(self, clip: Clip) -> np.ndarray:
        """Indices of the labels that begin in a clip."""
        onset = self.judged.notes.onset
        return np.flatnonzero((onset >= clip.start) & (onset < clip.stop))


class Tally(NamedTuple):
    """Counts of labels, which add up.

    `told` of `labels` have a probability, and `expected` sums them; `misaligned` and `undecided` count verdicts,
    `fundamental` the labels whose first 0.1 s have a spectral peak at the fundamental.
    """

    labels: int = 0
    told: int = 0
    expected: float = 0.0
    misaligned: int = 0
    undecided: int = 0
    fundamental: int = 0

    @classmethod
    def of(cls, checked: Checked, rows: np.ndarray) -> Tally:
        probability, verdict = checked.judged.probability[rows], checked.judged.verdict[rows]
        misaligned, undecided = (int(np.sum(verdict == VERDICTS.index(v))) for v in ("misaligned", "undecided"))  # type: ignore[arg-type]
        told = int(np.isfinite(probability).sum())
        fundamental = int(checked.has_fundamental[rows].sum())
        return cls(len(rows), told, float(np.nansum(probability)), misaligned, undecided, fundamental)

    @classmethod
    def total(cls, tallies: list[Tally]) -> Tally:
        return cls(*(sum(column) for column in zip(*tallies, strict=True))) if tallies else cls()

    def to_dict(self) -> dict[str, Any]:
        """Counts and shares; a share of nothing is None."""

        def share(part: float, whole: int) -> float | None:
            return round(part / whole, 5) if whole else None

        return {
            "labels": self.labels,
            "error_rate": share(self.expected, self.told),
            "optimistic": share(self.misaligned, self.labels),
            "pessimistic": share(self.misaligned + self.undecided, self.labels),
            "undecided": share(self.undecided, self.labels),
            "fundamental": share(self.fundamental, self.labels),
        }


def check(
    audio: np.ndarray,
    sample_rate: int,
    notes: Notes,
    clips: tuple[Clip, ...],
    settings: CheckSettings | None = None,
) -> Checked:
    """Judges the labels of a recording, to tell of them in some clips.

    Raises:
        AudioError: for a silent recording.
        ScoreError: where there are no labels, or none in any clip.
    """
    if not len(notes):
        raise ScoreError("no labels to check: give a label file with at least one note")
    peaks = label_evidence.onset_peaks(audio, sample_rate)
    judged = label_check.judge(peaks, notes, len(audio) / sample_rate, settings)
    found = label_evidence.has_fundamental(audio, sample_rate, notes.onset + judged.offset, notes.pitch)
    checked = Checked(judged, found, clips)
    if not any(len(checked.rows(clip)) for clip in clips):
        raise ScoreError("no label begins in the clips that were drawn; draw more, or another seed")
    return checked


def whole(notes: Notes, duration: float, seconds: float = 30.0) -> tuple[Clip, ...]:
    """A recording cut into clips one after the other, which hold every label.

    The last clip may be shorter or half as long again, and goes on to the last label where that is beyond the sound.
    """
    count = max(1, round(duration / seconds))
    first = min(0.0, float(notes.onset.min(initial=0.0)))
    last = max(duration, float(np.nextafter(notes.onset.max(initial=0.0), np.inf)))
    edges = [first, *(k * seconds for k in range(1, count)), last]
    return tuple(Clip(start, stop) for start, stop in itertools.pairwise(edges))


def draw(
    rng: np.random.Generator, notes: Notes, duration: float, count: int, seconds: float = 30.0
) -> tuple[Clip, ...]:
    """Up to `count` clips that do not overlap, uniform over the labelled part of the recording."""
    first = float(notes.onset.min(initial=duration))
    length = max(0.0, min(duration, notes.end) - max(0.0, first))
    count = max(1, min(count, int(length / seconds)))
    starts = max(0.0, first) + np.sort(rng.uniform(0, max(0.0, length - count * seconds), count))
    starts += np.arange(count) * seconds
    return tuple(Clip(float(start), min(float(start) + seconds, duration)) for start in starts)


def spread(rng: np.random.Generator, groups: Mapping[str, Hashable], count: int) -> dict[str, int]:
    """How many clips to draw from which recording, so that rare ensembles are heard as often as common ones.

    Groups take turns in random order, and within a group its recordings.

    Args:
        rng: draws.
        groups: recording → what it is alike in, such as its ensemble and instruments.
        count: clips in all.
    """
    if not groups:
        raise DatasetError("no recording to draw clips from")
    members: dict[Hashable, list[str]] = {}
    for name in sorted(groups):
        members.setdefault(groups[name], []).append(name)
    queues = [list(rng.permutation(names)) for _, names in sorted(members.items(), key=lambda item: str(item[0]))]
    queues = [queues[k] for k in rng.permutation(len(queues))]
    drawn: dict[str, int] = {}
    for turn in range(count):
        queue = queues[turn % len(queues)]
        name = str(queue[turn // len(queues) % len(queue)])
        drawn[name] = drawn.get(name, 0) + 1
    return drawn


@dataclasses.dataclass
class LabelReport:
    """What was found, by recording."""

    settings: dict[str, Any]
    checked: dict[str, Checked] = dataclasses.field(default_factory=dict)
    failed: dict[str, str] = dataclasses.field(default_factory=dict)

    def tallies(self, name: str) -> list[Tally]:
        """One a clip."""
        checked = self.checked[name]
        return [Tally.of(checked, checked.rows(clip)) for clip in checked.clips]

    def to_json(self) -> dict[str, Any]:
        """Everything but the single labels, in plain types."""
        clips = {name: self.tallies(name) for name in self.checked}
        return {
            "settings": self.settings,
            "pooled": self._summary([tally for tallies in clips.values() for tally in tallies]),
            "instruments": {name: tally.to_dict() for name, tally in self._by_instrument().items()},
            "recordings": {
                name: {"offset_seconds": round(self.checked[name].judged.offset, 4), **self._summary(tallies)}
                for name, tallies in clips.items()
            },
            "clips": [
                {"recording": name, "start": round(clip.start, 3), "stop": round(clip.stop, 3), **tally.to_dict()}
                for name, tallies in clips.items()
                for clip, tally in zip(self.checked[name].clips, tallies, strict=True)
            ],
            "failed": self.failed,
        }

    def table(self) -> str:
        """Rows of recordings, instruments and the whole, as text."""
        found = self.to_json()
        rows: list[tuple[str, dict[str, Any]]] = list(found["recordings"].items())
        rows += [(f"[{name}]", row) for name, row in found["instruments"].items()]
        rows.append(("all", found["pooled"]))
        width = max(len(name) for name, _ in rows)
        head = f"{'':<{width}}  labels  misaligned  {'95% interval':>14}  optimistic  pessimistic  undecided  offset"
        return "\n".join([head, *(_line(name, row, width) for name, row in rows)])

    def remarks(self) -> list[str]:
        """A line for every constant shift worth telling, and for every recording that failed."""
        tolerance = self.settings["tolerance"]
        shifted = {name: c.judged.offset for name, c in self.checked.items() if abs(c.judged.offset) > tolerance / 2}
        lines = [
            f"{name}: the sound comes {abs(offset) * 1000:.0f} ms {'later' if offset > 0 else 'earlier'} than the"
            " labels throughout; labels were judged with that removed"
            for name, offset in shifted.items()
        ]
        return lines + [f"{name}: not checked: {reason}" for name, reason in self.failed.items()]

    def write(self, folder: Path) -> list[Path]:
        """Writes the JSON, and a CSV with a row for each label that was told of."""
        files.write_json(folder / JSON_NAME, self.to_json())
        files.write_text(folder / CSV_NAME, self._csv())
        return [folder / JSON_NAME, folder / CSV_NAME]

    def _summary(self, tallies: list[Tally]) -> dict[str, Any]:
        rates = [tally.expected / tally.told for tally in tallies if tally.told]
        by_clip = round(float(np.mean(rates)), 5) if rates else None
        low_high = interval(tallies)
        return {
            "clips": len(tallies),
            **Tally.total(tallies).to_dict(),
            "mean_of_clips": by_clip,
            "interval": [round(x, 5) for x in low_high] if low_high else None,
        }

    def _by_instrument(self) -> dict[str, Tally]:
        parts: dict[str, list[Tally]] = {}
        for checked in self.checked.values():
            instrument = checked.judged.notes.instrument
            rows = _unique([checked.rows(clip) for clip in checked.clips])
            for program in np.unique(instrument[rows]).tolist():
                part = Tally.of(checked, rows[instrument[rows] == program])
                parts.setdefault(instrument_name(program), []).append(part)
        return {name: Tally.total(tallies) for name, tallies in sorted(parts.items())}

    def _csv(self) -> str:
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        columns = ("onset", "offset", "note", "instrument", "verdict", "probability", "displacement", "fundamental")
        writer.writerow(("recording", "clip", *columns))
        for name, checked in self.checked.items():
            for number, clip in enumerate(checked.clips):
                for row in checked.rows(clip).tolist():
                    writer.writerow((name, number, *_cells(checked, row)))
        return out.getvalue()


def interval(tallies: list[Tally], seed: int = 0) -> tuple[float, float] | None:
    """95% bootstrap interval of the share of misaligned labels: clips are drawn anew, with replacement.

    None for fewer than four clips. It tells how clips differ, not how far the judge itself may be wrong.
    """
    parts = np.array([(tally.expected, tally.told) for tally in tallies if tally.told])
    if len(parts) < _LEAST_CLIPS:
        return None
    drawn = np.random.default_rng(seed).integers(0, len(parts), (_RESAMPLES, len(parts)))
    expected, told = parts[drawn].sum(axis=1).T
    low, high = np.percentile(expected / told, _INTERVAL)
    return float(low), float(high)


def write_sounds(
    folder: Path,
    name: str,
    audio: np.ndarray,
    sample_rate: int,
    checked: Checked,
    slow: bool = False,
) -> list[Path]:
    """Writes each clip as stereo FLAC, the recording left and a sine at each label right; `slow` at quarter speed.

    Raises:
        OutputError: where that is not possible.
    """
    paths = []
    for number, clip in enumerate(checked.clips):
        sound = audio[max(0, round(clip.start * sample_rate)) : round(clip.stop * sample_rate)]
        notes = checked.judged.notes[checked.rows(clip)].shift(-clip.start)
        if slow:
            sound, notes = _slowed(sound, notes)
        path = folder / f"{name}_{number:02d}_{clip.start:.0f}s.flac"
        sonify.write(path, sound, sample_rate, notes)
        paths.append(path)
    return paths


def _slowed(sound: np.ndarray, notes: Notes) -> tuple[np.ndarray, Notes]:
    import librosa  # takes a second to import, and only this needs it

    stretched = librosa.effects.time_stretch(np.asarray(sound, np.float32), rate=SLOW_RATE)
    return stretched, dataclasses.replace(notes, onset=notes.onset / SLOW_RATE, offset=notes.offset / SLOW_RATE)


def _unique(rows: list[np.ndarray]) -> np.ndarray:
    return np.unique(np.concatenate(rows)) if rows else np.zeros(0, np.int64)


def _cells(checked: Checked, row: int) -> tuple[Any, ...]:
    notes, judged = checked.judged.notes, checked.judged
    probability, displacement = float(judged.probability[row]), float(judged.displacement[row])
    return (
        f"{notes.onset[row]:.4f}",
        f"{notes.offset[row]:.4f}",
        int(notes.pitch[row]),
        instrument_name(int(notes.instrument[row])),
        VERDICTS[judged.verdict[row]],
        "" if np.isnan(probability) else f"{probability:.4f}",
        "" if np.isnan(displacement) else f"{displacement:.4f}",
        int(checked.has_fundamental[row]),
    )


def _line(name: str, row: dict[str, Any], width: int) -> str:
    def percent(key: str) -> str:
        return "-" if row[key] is None else f"{100 * row[key]:.1f}%"

    low_high = row.get("interval")
    between = f"{100 * low_high[0]:.1f}–{100 * low_high[1]:.1f}%" if low_high else "-"
    offset = f"{1000 * row['offset_seconds']:+.0f} ms" if "offset_seconds" in row else "-"
    return (
        f"{name:<{width}}  {row['labels']:>6}  {percent('error_rate'):>10}  {between:>14}  {percent('optimistic'):>10}"
        f"  {percent('pessimistic'):>11}  {percent('undecided'):>9}  {offset:>6}"
    )
