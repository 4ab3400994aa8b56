"""Recordings whose labels `musicnet align` made from scores: the output of a batch, as a corpus."""

from __future__ import annotations

import functools
import hashlib
import logging
from pathlib import Path
from typing import ClassVar, cast

import numpy as np
import pydantic

from musicnet_tf import audio, scores, works
from musicnet_tf.alignment import report
from musicnet_tf.alignment.report import Row
from musicnet_tf.datasets import Dataset, Recording, Split, _layout, stable_split
from musicnet_tf.datasets._tagged import tags_of_music
from musicnet_tf.errors import DatasetError, ScoreError
from musicnet_tf.events import UNKNOWN, Beats, Notes, TagSpans
from musicnet_tf.registry import DATASETS

_KEYBOARDS = range(8)
_METADATA = ("composer", "composition", "movement", "ensemble", "licence")

_log = logging.getLogger(__name__)


@DATASETS.register("aligned")
class Aligned(Dataset):
    """Accepted pairs of `report.csv`, with the labels written for them, and audio from where the manifest had it.

    What a person wrote into `verdicts.csv` counts before what the program found. A split that the manifest
    gives holds for the whole work; else the work's name decides. Works that are tested or validated on
    (`works`) are left out, unless the manifest gives them to validation or test. Pairs without a work are
    one work where their composer and composition are, or their score is.

    Attributes:
        root: output folder of `musicnet align --manifest=…`.
        min_confidence: leave out pairs of which the alignment is less sure, but for those that a person accepted.
        include_rejected: take rejected pairs too, but none that a person rejected.
        validation_fraction: share of works that go to validation, of those to which the manifest gives no split.
    """

    description: ClassVar[str] = "recordings of your own with labels aligned from scores by `musicnet align`"
    licence: ClassVar[str] = "that of the recordings and scores aligned; each recording's metadata tells it where known"
    source: ClassVar[str] = "musicnet align --manifest=… over recordings and scores of your own"

    min_confidence: float = pydantic.Field(0.0, ge=0, le=1)
    include_rejected: bool = False
    validation_fraction: float = pydantic.Field(0.1, ge=0, le=1)

    def recordings(self) -> list[Recording]:
        rows = sorted(self._rows().values(), key=lambda row: row.id)
        names = _work_names(rows)
        given = _given_splits(rows, names)
        recordings, held_out = [], []
        for row in filter(self._wanted, rows):
            work = names[row.id]
            split = given.get(work) or stable_split(work, self.validation_fraction)
            recording = Recording(row.id, split, work, self._metadata(row))
            reason = None if given.get(work) in ("validation", "test") else self._held_out_reason(row)
            if reason:
                held_out.append(f"{row.id} ({reason})")
            else:
                recordings.append(recording)
        if held_out:
            _log.warning("%s: left out, as they are tested or validated on: %s", self.root, ", ".join(held_out))
        return recordings

    def load_audio(self, recording: Recording, sample_rate: int) -> np.ndarray:
        return audio.load(self.root / self._row(recording).audio, sample_rate)

    def load_notes(self, recording: Recording) -> Notes:
        return scores.read_musicnet_csv(self._labels(self._row(recording)))

    def load_beats(self, recording: Recording) -> Beats | None:
        return scores.beats_of_labels(self.load_notes(recording))

    def load_tags(self, recording: Recording) -> TagSpans:
        """Instruments where they sound, `ensemble/…` and `composer/…` of the whole as far as the manifest has them."""
        return tags_of_music(self.load_notes(recording), recording.metadata)

    def _rows(self) -> dict[str, Row]:
        _layout.need_root(self.root, self.name)
        return {row.id: row for row in report.read(self.root)}

    def _row(self, recording: Recording) -> Row:
        stamps = [_stamp(self.root / name) for name in (report.TABLE, report.VERDICTS)]
        rows = _cached_rows(self, *stamps)
        if recording.id not in rows:
            raise DatasetError(f"{self.root}: holds no recording {recording.id!r}")
        return rows[recording.id]

    def _wanted(self, row: Row) -> bool:
        taken = row.accepted or (self.include_rejected and row.status == "rejected" and row.verdict != "reject")
        return taken and (row.verdict == "accept" or row.confidence >= self.min_confidence)

    def _labels(self, row: Row) -> Path:
        if not row.labels:
            raise DatasetError(f"{self.root}: {row.id!r} has no labels; run musicnet align again with the format csv")
        return self.root / row.labels

    def _metadata(self, row: Row) -> dict[str, str]:
        labels = self._labels(row)
        try:  # so that records are built anew where the labels have changed
            digest = hashlib.sha256(labels.read_bytes()).hexdigest()[:16]
        except OSError as error:
            raise DatasetError(f"{labels}: cannot be read ({error.strerror}); run musicnet align again") from error
        return {name: getattr(row, name) for name in _METADATA if getattr(row, name)} | {"labels_sha256": digest}

    def _held_out_reason(self, row: Row) -> str | None:
        title = " ".join(filter(None, (row.work, row.composition)))
        composer = row.composer or works.composer_in(title) or works.composer_in(row.id)
        return works.held_out_reason(composer, title or row.id, row.movement, self._solo_piano(row))

    def _solo_piano(self, row: Row) -> bool:
        if row.ensemble:
            return works.normalise(row.ensemble) in ("solo piano", "piano", "piano solo", "solo harpsichord")
        try:
            programs = scores.read_musicnet_csv(self._labels(row)).instrument
        except ScoreError:  # told where it is loaded; until then it may be
            return True
        return bool(np.isin(programs, [UNKNOWN, *_KEYBOARDS]).all())


def _work_names(rows: list[Row]) -> dict[str, str]:
    """Id → one name for all recordings of a work, the same wherever the files lie."""
    first: dict[str, str] = {}
    names = {}
    for row in rows:
        by_score = first.setdefault(row.score, row.id)
        composition = works.work_name(row.composer, row.composition) if row.composition else ""
        names[row.id] = row.work or composition or f"score of {by_score}"
    return names


def _given_splits(rows: list[Row], names: dict[str, str]) -> dict[str, Split]:
    """Work → the split that the manifest gives to any recording of it. Raises DatasetError where it gives two."""
    given: dict[str, Row] = {}
    for row in rows:
        if row.split:
            first = given.setdefault(names[row.id], row)
            if first.split != row.split:
                raise DatasetError(
                    f"manifest: {first.id!r} is {first.split} and {row.id!r} {row.split}, but both are recordings"
                    f" of {names[row.id]!r}; give one split to a work"
                )
    return {work: cast(Split, row.split) for work, row in given.items()}


def _stamp(path: Path) -> int:
    return path.stat().st_mtime_ns if path.exists() else 0


@functools.lru_cache(maxsize=4)
def _cached_rows(dataset: Aligned, *stamps: int) -> dict[str, Row]:
    """The rows; the times of the files' last changes are taken so that a changed file is read anew."""
    return dataset._rows()
