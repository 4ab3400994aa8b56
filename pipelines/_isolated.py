"""One call in a process of its own, which may hang, run out of memory or crash without taking the job along."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import multiprocessing
import os
import resource
import signal
import tempfile
import traceback
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

from musicnet_tf import errors
from musicnet_tf.errors import AlignmentError, MusicNetError

T = TypeVar("T")

_START_SECONDS = 120.0  # for a busy machine to start Python and import the libraries
_GIB = 2**30

_log = logging.getLogger(__name__)


def preload(modules: Sequence[str]) -> None:
    """Imports modules once in the server that later children are forked from: they take seconds to import."""
    multiprocessing.get_context("forkserver").set_forkserver_preload(list(modules))


def call(function: Callable[[T], Any], argument: T, *, timeout: float, memory_gib: float) -> Any:
    """`function(argument)`, found anew in a child by its module and name; what it returns must be plain JSON values.

    The child and all that it started are killed at the deadline, and its temporary files are removed.

    Args:
        function: of a module's top level.
        argument: can be pickled.
        timeout: seconds that the call may take once the child is up.
        memory_gib: of data that the child may allocate, as far as the system limits it.

    Raises:
        MusicNetError: as the function raised it.
        AlignmentError: where it took too long, ran out of memory, crashed, or raised anything else.
    """
    context = multiprocessing.get_context("forkserver")
    receiver, sender = context.Pipe(duplex=False)
    with tempfile.TemporaryDirectory(prefix="musicnet-", ignore_cleanup_errors=True) as folder:
        arguments = (function, argument, sender, folder, timeout, memory_gib)
        child = context.Process(target=_child, args=arguments, daemon=True)  # ends with the job, not after it
        child.start()
        sender.close()  # so that the end of the child is the end of the pipe
        try:
            return _result(_receive(receiver, child, timeout), memory_gib)
        finally:
            receiver.close()
            _kill(child)


def _receive(receiver: Connection, child: BaseProcess, timeout: float) -> dict[str, Any]:
    try:
        if not receiver.poll(_START_SECONDS):
            raise AlignmentError(f"no process could be started within {_START_SECONDS:g} s; is the machine overloaded?")
        receiver.recv_bytes()
        if not receiver.poll(timeout):
            raise AlignmentError(f"gave up after {timeout:g} s; allow more time, or align a shorter piece")
        return json.loads(receiver.recv_bytes())
    except (EOFError, OSError):
        child.join(_START_SECONDS)
        raise AlignmentError(_obituary(child.exitcode)) from None


def _result(answer: dict[str, Any], memory_gib: float) -> Any:
    if "result" in answer:
        return answer["result"]
    name, message = answer["error"], answer["message"]
    error = getattr(errors, name, None)
    if isinstance(error, type) and issubclass(error, MusicNetError):
        raise error(message)
    if name == "MemoryError":
        raise AlignmentError(f"needs more than the {memory_gib:g} GiB of memory that a pair may take")
    _log.warning("an error that nobody expected:\n%s", answer["traceback"])
    raise AlignmentError(f"stopped on an error that nobody expected ({name}: {message})")


def _obituary(exitcode: int | None) -> str:
    if exitcode is None or exitcode >= 0:
        return f"its process ended without an answer (status {exitcode})"
    name = signal.Signals(-exitcode).name
    because = ", perhaps for want of memory" if name == "SIGKILL" else ""
    return f"its process crashed ({name}{because})"


def _kill(child: BaseProcess) -> None:
    """Ends the child and the programs that it started."""
    assert child.pid, "killpg(0) would be our own group"
    with contextlib.suppress(ProcessLookupError):  # not yet a group of its own, or no longer there
        os.killpg(child.pid, signal.SIGKILL)
    child.kill()
    child.join()


def _child(
    function: Callable[[T], Any], argument: T, sender: Connection, folder: str, timeout: float, memory_gib: float
) -> None:
    os.setsid()  # a group of its own, so that the programs it starts end with it
    signal.alarm(math.ceil(timeout) + 5)  # where the job itself was killed and nobody is left to watch the time
    tempfile.tempdir = folder
    _limit_memory(memory_gib)
    sender.send_bytes(b"up")
    sender.send_bytes(json.dumps(_answer(function, argument)).encode())


def _answer(function: Callable[[T], Any], argument: T) -> dict[str, Any]:
    try:
        return {"result": function(argument)}
    except MemoryError:
        return {"error": "MemoryError", "message": "", "traceback": ""}
    except Exception as error:  # whatever it is, the pair has failed and the job goes on
        return {"error": type(error).__name__, "message": str(error), "traceback": traceback.format_exc()}


def _limit_memory(memory_gib: float) -> None:
    """Of private data alone: address space would count the libraries' code and what they merely reserve."""
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    wanted = round(memory_gib * _GIB)
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    try:
        resource.setrlimit(resource.RLIMIT_DATA, (wanted, hard))
    except (OSError, ValueError):
        _log.warning("this system sets no limit to a process's memory")
