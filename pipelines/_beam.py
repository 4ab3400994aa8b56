"""What the jobs have in common: their options, their progress bar, and errors told as they were raised."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import re
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import tqdm
from apache_beam.options.pipeline_options import PipelineOptions

from musicnet_tf import errors

PARTS = ".parts"
"""Folder of the notes that each finished piece of work leaves, from which a later run resumes."""

_LOCK = "lock"
_LOOK_SECONDS = 0.5  # between two looks at the notes

_TRACEBACK_LOGGERS = ("apache_beam.runners.common", "apache_beam.runners.direct.executor")
"""Loggers that write the traceback of an error which is raised as well."""

_log = logging.getLogger(__name__)


def beam_options(runner: str, num_workers: int = 1, more: Sequence[str] = ()) -> PipelineOptions:
    """Options of a run: the runner, processes of the in-process one, and any other as `key=value`."""
    arguments = [f"--runner={runner}"]
    if num_workers > 1:
        arguments += ["--direct_running_mode=multi_processing", f"--direct_num_workers={num_workers}"]
    return PipelineOptions([*arguments, *(f"--{option.lstrip('-')}" for option in more)])


@contextlib.contextmanager
def own_errors() -> Iterator[None]:
    """Raises our own errors as they were: runners add where they were running, or send the traceback as text."""
    levels = {logger: logger.level for logger in map(logging.getLogger, _TRACEBACK_LOGGERS)}
    for logger in levels:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    except Exception as error:
        text = f"{type(error).__module__}.{type(error).__name__}: {error}"
        told = re.findall(r"^musicnet_tf\.errors\.(\w+): (.+?)(?: \[while running .*)?$", text, re.MULTILINE)
        if not told and re.match(r"KeyboardInterrupt\b", str(error)):  # the runner makes an error of it
            raise KeyboardInterrupt from None
        if not told:
            raise
        name, message = told[-1]
        raise getattr(errors, name)(message) from error
    finally:
        for logger, level in levels.items():
            logger.setLevel(level)


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Holds an output folder for one job, however it ends: a lock goes with its process.

    Raises:
        OutputError: where another job holds it.
    """
    with (folder / PARTS / _LOCK).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise errors.OutputError(f"{folder}: another job writes there; let it end, or choose another") from error
        except OSError:  # a file system that knows no locks
            _log.warning("%s: cannot be locked; see that no other job writes there", folder)
        yield


class Progress:
    """A bar over notes that are written. Watching files works for every runner that shares the file system."""

    def __init__(self, notes: Sequence[Path], unit: str) -> None:
        self._notes = notes
        self._unit = unit
        self._before = {note: self._stamp(note) for note in notes}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    @staticmethod
    def _stamp(note: Path) -> int:
        return note.stat().st_mtime_ns if note.exists() else 0

    def num_written(self) -> int:
        """How many notes are new or changed since this was made."""
        return sum(self._stamp(note) != self._before[note] for note in self._notes)

    def _watch(self) -> None:
        with tqdm.tqdm(total=len(self._notes), unit=self._unit, disable=None) as bar:
            ended, pause = bool(bar.disable), _LOOK_SECONDS
            while not ended:  # once more after the end, so that the bar is full
                ended = self._stop.wait(pause)
                began = time.perf_counter()
                bar.n = self.num_written()
                bar.refresh()
                pause = max(_LOOK_SECONDS, 20 * (time.perf_counter() - began))  # many notes far away take long
