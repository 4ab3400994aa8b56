"""Manifest of pairs → labels, pictures, sound and a report, as an Apache Beam job; `musicnet align` runs it.

A pair is the unit of work. Each is aligned in a process of its own, so that one which hangs, explodes or
crashes fails alone. A later run skips the pairs that are done and tries again those that failed.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import apache_beam as beam
from apache_beam.metrics import Metrics
from apache_beam.options.pipeline_options import PipelineOptions

from musicnet_tf import files
from musicnet_tf.alignment import output, report
from musicnet_tf.alignment.pairs import Pair, read_manifest
from musicnet_tf.alignment.report import Report, Row
from musicnet_tf.alignment.settings import Settings
from musicnet_tf.errors import AlignmentError, MusicNetError, OutputError
from pipelines import _isolated
from pipelines._align_pair import Job, align_pair
from pipelines._beam import PARTS, Progress, own_errors
from pipelines._beam import beam_options as beam_options

_SCHEMA = 1  # of the notes; a change aligns everything again
_LIBRARIES_GIB = 4.0  # that a pair may take beside its DTW: the sound, the features, the synthesiser


class AlignPair(beam.DoFn):
    """Aligns one pair and, once its files stand, writes the note that says so. Yields nothing."""

    def __init__(self, work: Callable[[Job], dict[str, Any]], timeout: float) -> None:
        self._work = work
        self._timeout = timeout

    def process(self, job: Job) -> Iterator[None]:
        note = _read_note(job)
        if _finished(job, note):
            Metrics.counter("align", "resumed").inc()
            return
        _remove_files(job, note)
        known = {"fingerprint": fingerprint(job), "formats": job.formats, "keep_rejected": job.keep_rejected}
        result = {**known, **self._align(job)}
        Metrics.counter("align", result["status"]).inc()
        files.write_json(_note_path(job.folder, job.pair), result)
        yield from ()

    def _align(self, job: Job) -> dict[str, Any]:
        memory = job.settings.max_memory_gib + _LIBRARIES_GIB
        try:
            return _isolated.call(self._work, job, timeout=self._timeout, memory_gib=memory)
        except OutputError:  # would be met by every other pair too
            raise
        except MusicNetError as error:
            logging.warning("%s failed: %s", job.pair.id, error)
            _remove_parts(job)
            return {"status": "failed", "findings": [str(error)]}


def align_pairs(
    manifest: str | Path,
    output_dir: str | Path,
    settings: Settings,
    *,
    options: PipelineOptions,
    timeout: float,
    formats: Sequence[str] = output.FORMATS,
    keep_rejected: bool = False,
    work: Callable[[Job], dict[str, Any]] = align_pair,
) -> Report:
    """Runs the job and writes `report.csv` and `report.html`; gives what they say.

    Args:
        manifest: CSV of pairs (`musicnet_tf.alignment.pairs`).
        output_dir: folder for the files of each pair, named by its id, and for the report.
        settings: how to align.
        options: of Beam; `beam_options` makes them.
        timeout: seconds after which a pair is given up.
        formats: what to write of each pair, any of `output.FORMATS`.
        keep_rejected: write labels of rejected pairs as any others, not to `<id>.rejected.csv`.
        work: what is done with a pair, at the top level of an importable module.

    Raises:
        AlignmentError: where every pair failed; reasons are in the message, and all in the report.
        DatasetError: where the manifest or the verdicts cannot be read.
        ConfigError: for an unknown format.
        OutputError: where the folder cannot be written to, would have an input written over, or its disk is
            full; finished pairs stay.
    """
    pairs = read_manifest(manifest)
    formats = tuple(output.check_formats(formats))
    folder = files.make_folder(output_dir)
    _check_places(Path(manifest), pairs, folder, formats)
    files.make_folder(folder / PARTS)
    jobs = [Job(pair, _others(pair, pairs), settings, folder, formats, keep_rejected, timeout) for pair in pairs]
    _isolated.preload(["pipelines._align_pair", "musicnet_tf.alignment.aligner", "musicnet_tf.alignment.output"])
    progress = Progress([_note_path(folder, pair) for pair in pairs], "pair")
    with progress, own_errors(), beam.Pipeline(options=options) as pipeline:
        _ = (
            pipeline
            | "Pairs" >> beam.Create(jobs)
            | "Spread" >> beam.Reshuffle()
            | "Align" >> beam.ParDo(AlignPair(work, timeout))
        )
    told = report.write([_row(job) for job in jobs], folder, len(pairs) - progress.num_written())
    if told.counts()["failed"] == len(pairs):
        reasons = "; ".join(f"{row.id}: {row.findings[0]}" for row in told.rows[:3])
        raise AlignmentError(f"{folder}: none of {len(pairs)} pairs could be aligned ({reasons})")
    return told


def _check_places(manifest: Path, pairs: Sequence[Pair], folder: Path, formats: Sequence[str]) -> None:
    inputs = [manifest, *(path for pair in pairs for path in (pair.audio, pair.score))]
    resolved = [path.resolve() for path in inputs]
    for pair in pairs:
        output.check_place(folder, pair.id, formats, resolved)
    for name in (report.TABLE, report.PAGE):
        if (folder / name).resolve() in resolved:
            raise OutputError(f"{folder / name}: is an input, and would be written over; choose another output folder")


def fingerprint(job: Job) -> str:
    """Changes whenever the labels might: with the settings and with either file."""
    content = [_SCHEMA, job.settings.model_dump(mode="json"), *map(_identity, (job.pair.audio, job.pair.score))]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _identity(path: Path) -> list[int]:
    """Size and time of the last change, which tell a changed file without reading hours of audio."""
    try:
        stat = path.stat()
    except OSError:  # is told by what reads it
        return []
    return [stat.st_size, stat.st_mtime_ns]


def _others(pair: Pair, pairs: Sequence[Pair]) -> tuple[Pair, ...]:
    """Pairs whose score this recording may be of instead: of the same work, or of the same composer."""
    key = "work" if pair.work else "composer"
    value = getattr(pair, key)
    alike = [other for other in pairs if value and getattr(other, key) == value and other.score != pair.score]
    return tuple({other.score: other for other in alike}.values())


def _note_path(folder: Path, pair: Pair) -> Path:
    return folder / PARTS / f"{pair.id}.json"


def _read_note(job: Job) -> dict[str, Any]:
    """What an earlier run left of a pair, empty where it left nothing."""
    try:
        note = json.loads(_note_path(job.folder, job.pair).read_text())
    except (OSError, ValueError):
        return {}
    return note if isinstance(note, dict) else {}


def _finished(job: Job, note: dict[str, Any]) -> bool:
    if note.get("fingerprint") != fingerprint(job) or note["status"] == "failed":
        return False
    if note["status"] == "rejected" and note["keep_rejected"] != job.keep_rejected:
        return False
    there = all((job.folder / name).is_file() for name in note["outputs"])
    return there and set(job.formats) <= set(note["formats"])


def _remove_files(job: Job, note: dict[str, Any]) -> None:
    """Removes what an earlier run wrote, so that nothing of it stands beside what this one writes."""
    for name in note.get("outputs", ()):
        (job.folder / Path(name).name).unlink(missing_ok=True)
    _remove_parts(job)


def _remove_parts(job: Job) -> None:
    """Removes what a child that was killed had begun to write."""
    for part in job.folder.glob(f".{job.pair.id}.*.part*"):
        part.unlink(missing_ok=True)


def _row(job: Job) -> Row:
    note, pair = _read_note(job), job.pair
    told: dict[str, Any] = {key: note[key] for key in ("confidence", "num_notes", "duration") if key in note}
    return Row(
        id=pair.id,
        status=note["status"],
        audio=os.path.relpath(pair.audio.resolve(), job.folder.resolve()),
        score=os.path.relpath(pair.score.resolve(), job.folder.resolve()),
        findings=tuple(note["findings"]),
        outputs=tuple(note.get("outputs", ())),
        labels=note.get("labels", ""),
        **(told | pair.known()),
    )
