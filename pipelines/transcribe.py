"""Recordings → files of events, as an Apache Beam job; `musicnet transcribe_batch` runs it.

A recording is the unit of work. Its files are made aside, put into place together, and then a note says that it is
done; a later run skips those and tries again what failed. What is wrong with one recording ends in `failed.csv`; what
would stop every other one too, as a full disk, stops the job.
"""

from __future__ import annotations

import csv
import functools
import io
import os
import shutil
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import apache_beam as beam
from apache_beam.metrics import Metrics
from apache_beam.ml.inference.base import ModelHandler, RunInference
from apache_beam.options.pipeline_options import PipelineOptions

from musicnet_tf import files, inference, transcription
from musicnet_tf.decode import decoding_of
from musicnet_tf.errors import OutputError
from musicnet_tf.manifest import Manifest
from pipelines._beam import PARTS, Progress, alone, own_errors
from pipelines._beam import beam_options as beam_options
from pipelines._recordings import COLUMNS, Recording, read_list, write_list
from pipelines._transcribe_one import WORK, Job, Transcriber, is_done, note_path, read_note

FAILED = "failed.csv"
"""The recordings that failed and why; a manifest, by which they can be tried again."""

_LIST = "recordings.jsonl"


class Model(NamedTuple):
    """A model, and how a worker opens it."""

    manifest: Manifest
    open: Callable[[], transcription.Predictor]


def local_model(name: str = inference.DEFAULT_MODEL) -> Model:
    """A model that each worker loads; `name` as of `inference.load`. Raises ModelError."""
    folder = inference.locate(name)
    place = name if name in inference.shipped() else str(folder.absolute())
    return Model(inference.read_manifest(folder), functools.partial(inference.load, place))


def remote_model(connect: Callable[[], Any]) -> Model:
    """A model on a server, by what connects to it; each worker has a connection of its own. Raises ServingError."""
    with connect() as predictor:
        return Model(predictor.manifest, connect)


def threads_of_each(num_workers: int) -> int | None:
    """What each of several processes may use of this machine; None for one alone, which uses what it likes."""
    return max(1, len(os.sched_getaffinity(0)) // num_workers) if num_workers > 1 else None


class TranscriptionHandler(ModelHandler[Recording, dict[str, Any], Transcriber]):
    """Beam's way to one model a process, here with all that turns a recording into files."""

    def __init__(
        self, open_predictor: Callable[[], transcription.Predictor], job: Job, threads: int | None = None
    ) -> None:
        """`threads` is what TensorFlow may use in each of several processes; by default as many as it likes."""
        ways = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
        env_vars = {way: str(threads) for way in ways} if threads else {}
        super().__init__(min_batch_size=1, max_batch_size=1, env_vars=env_vars)
        self._open, self._job = open_predictor, job

    def load_model(self) -> Transcriber:
        return Transcriber(self._open, self._job)

    def run_inference(
        self, batch: Sequence[Recording], model: Transcriber, inference_args: dict[str, Any] | None = None
    ) -> list[dict[str, Any]]:
        return [model.work(recording) for recording in batch]


class Count(beam.DoFn):
    """Counts what the notes tell, for whoever watches the job: recordings, events, length of audio."""

    def process(self, note: Mapping[str, Any]) -> None:
        Metrics.counter("transcribe", note["status"]).inc()
        Metrics.counter("transcribe", "events").inc(note.get("events", 0))
        Metrics.counter("transcribe", "audio_milliseconds").inc(round(1000 * note.get("audio_seconds", 0.0)))


def transcribe(
    recordings: Sequence[Recording],
    output_dir: str | Path,
    model: Model,
    *,
    options: PipelineOptions,
    formats: Sequence[str] | None = None,
    overrides: Mapping[str, Any] | None = None,
    batch_size: int | None = None,
    skip_existing: bool = True,
    threads: int | None = None,
) -> list[transcription.Result]:
    """Runs the job, and writes `failed.csv` where recordings failed.

    Args:
        recordings: `_recordings.find` or `_recordings.read_manifest` lists them.
        output_dir: folder for `<name><suffix>` of each recording. Workers must see it, and the recordings, by the
            same paths.
        model: `local_model` or `remote_model`.
        options: of Beam; `beam_options` makes them.
        formats: names of the kinds of files; those of the task by default.
        overrides: parameters of the task's decoder.
        batch_size: windows that the model hears at once.
        skip_existing: leave recordings alone that are done: by this model with these parameters, as long as neither
            the recording has changed nor an output is lost.
        threads: for TensorFlow in each process.

    Returns:
        What became of each recording, in their order.

    Raises:
        ConfigError: for an unknown format or parameter.
        ModelError: where the model cannot be loaded, its task is unknown, or it lacks what a format needs.
        ServingError: where the server is gone for longer than the client waits; finished recordings stay.
        OutputError: where the folder cannot be written to, another job writes there, an input would be written over,
            or its disk is full; finished recordings stay.
    """
    decoding = decoding_of(model.manifest, **(overrides or {}))
    names = tuple(dict.fromkeys(formats or decoding.default_formats))
    kinds = transcription.chosen_formats(model.manifest.task, names)
    transcription.check_heads(kinds, model.manifest)
    folder = files.make_folder(output_dir).absolute()
    _check_places(recordings, folder, [kind.suffix for kind in kinds])
    files.make_folder(folder / PARTS)
    job = Job(folder, names, dict(overrides or {}), batch_size, uuid.uuid4().hex)
    with alone(folder):
        shutil.rmtree(folder / PARTS / WORK, ignore_errors=True)  # of a run that was killed
        (folder / FAILED).unlink(missing_ok=True)
        pending = [r for r in recordings if not (skip_existing and is_done(r, job, model.manifest))]
        if pending:
            _run(pending, TranscriptionHandler(model.open, job, threads), options, folder)
        new = set(pending)
        results = [_result(recording, job, recording in new) for recording in recordings]
        _write_failed(recordings, results, folder)
    return results


def _run(pending: Sequence[Recording], handler: TranscriptionHandler, options: PipelineOptions, folder: Path) -> None:
    listed = folder / PARTS / _LIST
    write_list(listed, pending)
    progress = Progress([note_path(folder, recording) for recording in pending], "recording")
    with progress, own_errors(), beam.Pipeline(options=options) as pipeline:
        _ = (
            pipeline
            | "List" >> beam.Create([str(listed)])  # not the recordings themselves: services limit a job's description
            | "Recordings" >> beam.FlatMap(read_list)
            | "Spread" >> beam.Reshuffle()
            | "Transcribe" >> RunInference(handler)
            | "Count" >> beam.ParDo(Count())
        )


def _check_places(recordings: Sequence[Recording], folder: Path, suffixes: Sequence[str]) -> None:
    """Refuses to write over a recording, or over the list of failed ones."""
    taken = {str(recording.path) for recording in recordings}
    for recording in recordings:
        for output in (str(folder / f"{recording.name}{suffix}") for suffix in suffixes):
            if output in taken:
                raise OutputError(
                    f"{files.printable(output)}: is a recording, and would be written over; choose another folder"
                )
            if output == str(folder / FAILED):
                raise OutputError(f"{output}: is where failed recordings are listed; rename {recording.path.name}")


def _result(recording: Recording, job: Job, new: bool) -> transcription.Result:
    note = read_note(job.folder, recording)
    if new and note.get("run") != job.run:
        return transcription.Result(recording.path, error="its worker left no note; does it see this output folder?")
    if note["status"] == "failed":
        return transcription.Result(recording.path, error=note["reason"])
    told = {name: note[name] for name in ("events", "audio_seconds", "seconds")}
    return transcription.Result(recording.path, skipped=not new, **told)


def _write_failed(recordings: Sequence[Recording], results: Sequence[transcription.Result], folder: Path) -> None:
    rows = [
        (result.name, files.printable(recording.name), result.error)
        for recording, result in zip(recordings, results, strict=True)
        if result.error
    ]
    if rows:
        table = io.StringIO()
        csv.writer(table, lineterminator="\n").writerows([COLUMNS, *rows])
        files.write_text(folder / FAILED, table.getvalue())
