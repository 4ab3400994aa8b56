"""Corpus → sharded TFRecords and dataset_info.json, as an Apache Beam job; `musicnet build_records` runs it.

A shard is the unit of work: written whole or not at all, by one worker, in an order that depends on
nothing but the corpus. A later run skips the shards that are done and tries again those with failures.
"""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apache_beam as beam
import tensorflow as tf
from apache_beam.metrics import Metrics
from apache_beam.options.pipeline_options import PipelineOptions

import musicnet_tf
from musicnet_tf import files, record_info, records
from musicnet_tf.datasets import SPLITS, Dataset, Recording, Split
from musicnet_tf.errors import MusicNetError, OutputError, RecordError
from musicnet_tf.events import Notes
from pipelines._beam import PARTS, Progress, own_errors
from pipelines._beam import beam_options as beam_options


@dataclasses.dataclass(frozen=True)
class Settings:
    """What decides the bytes of a record set, but for where the corpus lies."""

    dataset: Dataset
    sample_rate: int
    excerpt_seconds: float
    encoding: records.Encoding
    recordings_per_shard: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values, the same on every machine: no root, and of other paths the file names alone."""
        options = self.dataset.model_dump(exclude={"root"})
        return {
            "dataset": json.loads(json.dumps(options, default=lambda path: path.name)),
            "sample_rate": self.sample_rate,
            "excerpt_seconds": self.excerpt_seconds,
            "encoding": self.encoding,
            "recordings_per_shard": self.recordings_per_shard,
        }


@dataclasses.dataclass(frozen=True)
class ShardPlan:
    """One file to write and the recordings that go into it."""

    file: str
    split: Split
    recordings: tuple[Recording, ...]

    def fingerprint(self, settings: Settings) -> str:
        """Changes whenever the bytes of the shard would."""
        content = [record_info.SCHEMA_VERSION, settings.to_dict(), [dataclasses.asdict(r) for r in self.recordings]]
        more = settings.dataset.annotations()[1:]
        content += [more] if more else []  # sets of notes alone keep the fingerprint from before there was more
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def plan(recordings: list[Recording], recordings_per_shard: int) -> list[ShardPlan]:
    """Deals the recordings of each split to its shards in turn, so that shards stay even."""
    plans = []
    for split in SPLITS:
        chosen = [r for r in recordings if r.split == split]
        count = -(-len(chosen) // recordings_per_shard)
        for i in range(count):
            plans.append(ShardPlan(f"{split}-{i:05d}-of-{count:05d}.tfrecord", split, tuple(chosen[i::count])))
    return plans


class WriteShard(beam.DoFn):
    """Writes one shard and, once it stands whole, the note that says so. Yields nothing."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self._settings = settings
        self._folder = folder

    def process(self, shard: ShardPlan) -> Iterator[None]:
        if _finished(shard, self._settings, self._folder):
            Metrics.counter("build_records", "shards_resumed").inc()
            return
        path = self._folder / shard.file
        try:
            done, failed = self._write_shard(shard, path)
            note = {
                "fingerprint": shard.fingerprint(self._settings),
                "num_bytes": path.stat().st_size,
                "recordings": done,
                "failed": failed,
            }
            files.write_json(_note_path(self._folder, shard), note)
        except (OSError, tf.errors.OpError) as error:  # a full disk, as Python and as TensorFlow tell it
            reason = " ".join(getattr(error, "message", str(error)).split())
            raise OutputError(f"{path}: cannot be written ({reason}); run again to go on") from error
        yield from ()

    def _write_shard(self, shard: ShardPlan, path: Path) -> tuple[dict[str, Any], dict[str, str]]:
        """Id → what is told of a recording that is written, and id → why one is not."""
        done: dict[str, Any] = {}
        failed: dict[str, str] = {}
        with files.atomic(path) as part, tf.io.TFRecordWriter(str(part)) as writer:
            for recording in shard.recordings:
                try:
                    done[recording.id] = self._write(recording, writer)
                    Metrics.counter("build_records", "recordings_written").inc()
                except MusicNetError as error:
                    failed[recording.id] = str(error)
                    Metrics.counter("build_records", "recordings_failed").inc()
                    logging.warning("%s left out: %s", recording.id, error)
        return done, failed

    def _write(self, recording: Recording, writer: tf.io.TFRecordWriter) -> dict[str, Any]:
        settings, dataset = self._settings, self._settings.dataset
        audio = dataset.load_audio(recording, settings.sample_rate)
        notes = dataset.load_notes(recording)
        beats, tags = dataset.load_beats(recording), dataset.load_tags(recording)
        rate, seconds = settings.sample_rate, settings.excerpt_seconds
        excerpts = records.cut(recording, dataset.name, audio, notes, rate, seconds, beats, tags)
        # All are made before the first is written: a recording is in the shard whole or not at all.
        for serialised in [records.serialise(e, settings.encoding) for e in excerpts]:
            writer.write(serialised)
        heard = Notes.concatenate([records.begun(e.notes, e.index) for e in excerpts])
        return {
            "split": recording.split,
            "work": recording.work,
            "seconds": len(audio) / settings.sample_rate,
            "num_excerpts": len(excerpts),
            **({"num_notes": len(heard)} if "notes" in dataset.annotations() else {}),
            **({} if beats is None else {"num_beats": sum(len(e.beats or ()) for e in excerpts)}),
            **({} if tags is None else _told(excerpts)),
            "instruments": {str(k): v for k, v in sorted(collections.Counter(heard.instrument.tolist()).items())},
            **{f"metadata/{key}": value for key, value in recording.metadata.items()},
        }


def _told(excerpts: list[records.Excerpt]) -> dict[str, Any]:
    """How many tags a recording bears, and for how many seconds each."""
    seconds: dict[str, float] = {}
    for tags in (excerpt.tags for excerpt in excerpts if excerpt.tags is not None):
        for name, length in zip(tags.tag.tolist(), (tags.stop - tags.start).tolist(), strict=True):
            seconds[name] = seconds.get(name, 0.0) + length
    return {"num_tags": len(seconds), "tags": {name: round(seconds[name], 3) for name in sorted(seconds)}}


def build(settings: Settings, folder: str | Path, options: PipelineOptions) -> record_info.DatasetInfo:
    """Runs the job and writes `dataset_info.json` last, so that it stands only beside a whole set.

    Raises:
        RecordError: where no recording could be written; each reason is in the message.
        OutputError: where the folder cannot be written to, or its disk is full; whole shards stay.
    """
    folder = files.make_folder(folder)
    files.make_folder(folder / PARTS)
    shards = plan(settings.dataset.recordings(), settings.recordings_per_shard)
    (folder / record_info.INFO).unlink(missing_ok=True)
    for part in folder.glob(".*.part.tfrecord"):  # of a run that was killed
        part.unlink()
    notes = [_note_path(folder, shard) for shard in shards]
    with Progress(notes, "shard"), own_errors(), beam.Pipeline(options=options) as pipeline:
        _ = (
            pipeline
            | "Shards" >> beam.Create(shards)
            | "Spread" >> beam.Reshuffle()
            | "Write" >> beam.ParDo(WriteShard(settings, folder))
        )
    info = _summarise(shards, settings, folder)
    if not info.recordings:
        reasons = "; ".join(f"{name}: {why}" for name, why in list(info.failed.items())[:3]) or "no recordings found"
        raise RecordError(f"{folder}: nothing was written ({reasons})")
    _remove_strangers(shards, folder)
    info.write(folder)
    return info


def _note_path(folder: Path, shard: ShardPlan) -> Path:
    return folder / PARTS / f"{shard.file}.json"


def _finished(shard: ShardPlan, settings: Settings, folder: Path) -> bool:
    try:
        note = json.loads(_note_path(folder, shard).read_text())
        size = (folder / shard.file).stat().st_size
    except (OSError, ValueError):
        return False
    same = note.get("fingerprint") == shard.fingerprint(settings) and note.get("num_bytes") == size
    return same and not note["failed"]


def _summarise(shards: list[ShardPlan], settings: Settings, folder: Path) -> record_info.DatasetInfo:
    notes = [json.loads(_note_path(folder, shard).read_text()) for shard in shards]
    recordings = {name: entry for note in notes for name, entry in note["recordings"].items()}
    recordings = dict(sorted(recordings.items()))
    composers: collections.Counter[str] = collections.Counter()
    instruments: collections.Counter[str] = collections.Counter()
    for entry in recordings.values():
        composers[entry.get("metadata/composer", "unknown")] += entry.get("num_notes", 0)
        instruments.update(entry["instruments"])
    sides = json.dumps([[name, entry["split"]] for name, entry in recordings.items()])
    return record_info.DatasetInfo(
        library_version=musicnet_tf.__version__,
        corpus=settings.dataset.name,
        licence=settings.dataset.licence,
        sample_rate=settings.sample_rate,
        encoding=settings.encoding,
        config=settings.to_dict(),
        shards=tuple(
            record_info.Shard(
                file=shard.file,
                split=shard.split,
                num_excerpts=sum(entry["num_excerpts"] for entry in note["recordings"].values()),
                num_bytes=note["num_bytes"],
            )
            for shard, note in zip(shards, notes, strict=True)
        ),
        recordings=recordings,
        splits={split: _totals(recordings, split) for split in SPLITS},
        composers=dict(sorted(composers.items())),
        instruments=dict(sorted(instruments.items(), key=lambda item: int(item[0]))),
        split_hash=hashlib.sha256(sides.encode()).hexdigest(),
        failed={name: why for note in notes for name, why in note["failed"].items()},
    )


def _totals(recordings: dict[str, Any], split: Split) -> dict[str, float]:
    chosen = [entry for entry in recordings.values() if entry["split"] == split]
    told = {what for what in ("num_beats", "tags") if any(what in entry for entry in recordings.values())}
    return {
        "recordings": len(chosen),
        "excerpts": sum(entry["num_excerpts"] for entry in chosen),
        "notes": sum(entry.get("num_notes", 0) for entry in chosen),
        **({"beats": sum(entry.get("num_beats", 0) for entry in chosen)} if "num_beats" in told else {}),
        **({"tags": len({tag for entry in chosen for tag in entry.get("tags", ())})} if "tags" in told else {}),
        "hours": round(sum(entry["seconds"] for entry in chosen) / 3600, 6),
    }


def _remove_strangers(shards: list[ShardPlan], folder: Path) -> None:
    """Removes the shards of an earlier run with other settings, which no `dataset_info.json` names any more.

    They are known by the notes that they left, so that files of another origin stay.
    """
    wanted = {shard.file for shard in shards}
    for note in (folder / PARTS).glob("*.tfrecord.json"):
        if note.stem not in wanted:
            (folder / note.stem).unlink(missing_ok=True)
            note.unlink()
