"""One recording → its files and the note that says so: what a worker does, on whatever runner."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import json
import logging
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from musicnet_tf import files, transcription
from musicnet_tf.decode import Decoding, decoding_of
from musicnet_tf.errors import MusicNetError, OutputError, ServingError, VersionGoneError
from musicnet_tf.manifest import Manifest
from musicnet_tf.registry import DECODERS
from pipelines._beam import PARTS
from pipelines._recordings import Recording

WORK = "work"
"""Folder beside the notes in which outputs are made before they are put into place."""

_SCHEMA = 1  # of the notes; a change transcribes everything again
_SWAPS, _ATTEMPTS = 50, 3
"""How often a recording begins again because its model's version was swapped away, or the server did not answer."""
_OF_THE_NAME = {errno.ENAMETOOLONG, errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.EILSEQ}
"""Errors of writing that other recordings do not meet."""
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
"""Errors that are of writing, whoever raises them."""

_Opened: TypeAlias = tuple[transcription.Predictor, Decoding]

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Job:
    """What is the same for all recordings of a run.

    Attributes:
        folder: for the outputs, absolute.
        formats: names of the kinds of files.
        overrides: parameters of the decoder in place of the model's.
        batch_size: windows that the model hears at once, None for what suits it.
        run: unlike that of any other run.
    """

    folder: Path
    formats: tuple[str, ...]
    overrides: Mapping[str, Any]
    batch_size: int | None
    run: str


def note_path(folder: Path, recording: Recording) -> Path:
    """Where the note of a recording lies; names hold `/` and anything else, so not by the name itself."""
    name = recording.name.encode("utf-8", "surrogateescape")
    return folder / PARTS / f"{hashlib.sha256(name).hexdigest()[:32]}.json"


def read_note(folder: Path, recording: Recording) -> dict[str, Any]:
    """What was noted of a recording, empty where nothing was."""
    try:
        note = json.loads(note_path(folder, recording).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return note if isinstance(note, dict) else {}


def is_done(recording: Recording, job: Job, manifest: Manifest) -> bool:
    """Whether the outputs are what this model would give: as noted, with the recording unchanged and none lost."""
    note = read_note(job.folder, recording)
    if note.get("fingerprint") != fingerprint(recording, job, manifest) or note["status"] != "transcribed":
        return False
    there = all(output.is_file() for output in _outputs(recording, job.folder, manifest.task, job.formats))
    return there and set(job.formats) <= set(note["formats"])


def fingerprint(recording: Recording, job: Job, manifest: Manifest) -> str:
    """Changes whenever the outputs might: with the model, the decoder's parameters and the recording."""
    try:
        stat = recording.path.stat()
        identity = [stat.st_size, stat.st_mtime_ns]  # tell a changed file without reading hours of audio
    except OSError:  # is told by what reads it
        identity = []
    content = [_SCHEMA, manifest.model_dump(mode="json"), dict(job.overrides), identity]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


class Transcriber:
    """A model with what it takes to turn recordings into files. Threads of a process share one."""

    def __init__(self, open_predictor: Callable[[], transcription.Predictor], job: Job) -> None:
        self._open, self._job = open_predictor, job
        self._lock = threading.Lock()
        self._opened = self._open_model()

    def work(self, recording: Recording) -> dict[str, Any]:
        """Transcribes one recording and gives the note that it leaves: `status` is transcribed, skipped or failed.

        Raises:
            OutputError: where other recordings could not be written either.
            ServingError: where the server is gone for good.
        """
        before = read_note(self._job.folder, recording)
        if before.get("run") == self._job.run:  # runners do a bundle again after a fault in one part of it
            return {"status": "skipped"}
        note = {"audio": files.printable(recording.path), "formats": self._job.formats, "run": self._job.run}
        try:
            note |= self._outcome(recording, before.get("formats", ()))
            files.write_json(note_path(self._job.folder, recording), note)
        except OutputError as error:
            raise OutputError(f"{_unwritten(error, self._job.folder, recording)}; run again to go on") from error
        return note

    def _outcome(self, recording: Recording, formats_before: Sequence[str]) -> dict[str, Any]:
        try:
            return self._transcribe(recording, formats_before)
        except ServingError:
            raise
        except OutputError as error:
            if getattr(error.__cause__, "errno", None) not in _OF_THE_NAME:
                raise
            return _failure(_unwritten(error, self._job.folder, recording))
        except MusicNetError as error:
            return _failure(str(error))
        except Exception as error:
            if isinstance(error, OSError) and error.errno in _NO_ROOM:
                raise OutputError(str(error)) from error
            # Whatever it is, this recording has failed and the job goes on.
            _log.warning("%s: an error that nobody expected", files.printable(recording.path), exc_info=True)
            return _failure(f"stopped on an error that nobody expected ({type(error).__name__}: {error})")

    def _transcribe(self, recording: Recording, formats_before: Sequence[str]) -> dict[str, Any]:
        """Begins again where the server let the model's version go, or did not answer."""
        stale: _Opened | None = None
        swaps = failures = 0
        while True:
            try:
                stale = self._current(stale)
                return self._attempt(recording, *stale, formats_before)
            except ServingError as error:
                gone = isinstance(error, VersionGoneError)
                swaps, failures = swaps + gone, failures + (not gone)
                if swaps > _SWAPS or failures >= _ATTEMPTS:
                    self._current(stale)  # raises where the server is away, which other recordings would meet too
                    return _failure(str(error))
                _log.warning("%s: begins again: %s", files.printable(recording.path), error)

    def _current(self, stale: _Opened | None) -> _Opened:
        """The model, opened anew if it is the stale one still, which is not closed: other threads may yet use it."""
        with self._lock:
            if self._opened is stale:
                self._opened = self._open_model()
            return self._opened

    def _attempt(
        self,
        recording: Recording,
        predictor: transcription.Predictor,
        decoding: Decoding,
        formats_before: Sequence[str],
    ) -> dict[str, Any]:
        """Makes the files aside and puts them into place, so that a recording which fails leaves all as it was."""
        job, manifest = self._job, predictor.manifest
        known = fingerprint(recording, job, manifest)  # of what is about to be read
        kinds = transcription.chosen_formats(manifest.task, job.formats)
        outputs = _outputs(recording, job.folder, manifest.task, job.formats)
        with _folder_aside(job.folder) as aside:
            result = transcription.transcribe_file(recording.path, predictor, aside, kinds, decoding, job.batch_size)
            for made, output in zip(transcription.outputs(recording.path, aside, kinds), outputs, strict=True):
                _put(made, output)
        for output in _outputs(recording, job.folder, manifest.task, formats_before):
            if output not in outputs:  # of another model, or another state of the recording
                output.unlink(missing_ok=True)
        return {
            "status": "transcribed",
            "fingerprint": known,
            "model": manifest.name,
            "events": result.events,
            "audio_seconds": result.audio_seconds,
            "seconds": result.seconds,
        }

    def _open_model(self) -> _Opened:
        predictor = self._open()
        return predictor, decoding_of(predictor.manifest, **self._job.overrides)


def _outputs(recording: Recording, folder: Path, task: str, formats: Sequence[str]) -> list[Path]:
    kinds = DECODERS.get(task).formats()
    return [folder / f"{recording.name}{kinds[name].suffix}" for name in formats if name in kinds]


def _failure(reason: str) -> dict[str, Any]:
    return {"status": "failed", "reason": " ".join(files.printable(reason).split())}


def _unwritten(error: OutputError, folder: Path, recording: Recording) -> str:
    """Which outputs could not be written, in place of the file aside, and why."""
    reason = getattr(error.__cause__, "strerror", None) or str(error)
    return files.printable(f"{folder / recording.name}.*: cannot be written ({reason})")


def _folder_aside(folder: Path) -> tempfile.TemporaryDirectory[str]:
    try:
        (folder / PARTS / WORK).mkdir(parents=True, exist_ok=True)
        return tempfile.TemporaryDirectory(dir=folder / PARTS / WORK, ignore_cleanup_errors=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot write there ({error.strerror})") from error


def _put(made: Path, output: Path) -> None:
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        made.replace(output)
    except OSError as error:
        raise OutputError(f"{output}: cannot be written ({error.strerror})") from error
