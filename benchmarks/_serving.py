"""What the benchmarks of serving share: servers and models in processes of their own, exports, and audio."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil
import soundfile

from benchmarks._alignment_cost_worker import resident
from musicnet_tf import audio
from musicnet_tf.errors import ServingError
from serving import client

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "examples/bach_bwv866_fugue.ogg"
"""The recording that is repeated or cut to the wanted lengths."""
RATE = 16000
MODEL, SHORT = "notes", "short"
"""Names under which the shipped model is served: as it is, and with windows of two seconds."""
SHORT_FRAMES = 100
DEVELOPMENT, TENSORFLOW = "development", "tensorflow_model_server"

_START_SECONDS = 180.0  # for a busy machine to start a server
_LOOK_SECONDS = 0.05


class Spent(NamedTuple):
    """Seconds on the clock, and of all threads and processes that took part."""

    wall: float
    cpu: float


def servers() -> list[str]:
    """Kinds of servers that there are: the development server, and TensorFlow Serving where it is on the PATH."""
    return [DEVELOPMENT, *([TENSORFLOW] if shutil.which(TENSORFLOW) else [])]


class ServerProcess:
    """A server of models in a process of its own, which can be killed and started again on the same ports.

    Attributes:
        starts: how often it was started.
    """

    def __init__(self, models: dict[str, Path], folder: Path, kind: str = DEVELOPMENT) -> None:
        """Starts nothing yet.

        Args:
            models: name → folder of its versions, of which the newest is served.
            folder: for the configuration, and for what the server says.
            kind: one of `servers()`.
        """
        self.starts = 0
        self._names = list(models)
        self._ports = free_ports(2)
        self._log = folder / f"{kind}.log"
        config = folder / f"{kind}.config"
        config.write_text(_configuration(models), encoding="utf-8")
        ports = [f"--port={self._ports[0]}", f"--rest_api_port={self._ports[1]}"]
        program = [sys.executable, "-m", "musicnet_tf", "serve"] if kind == DEVELOPMENT else [TENSORFLOW]
        batching = f"--batching_parameters_file={ROOT / 'serving/batching.config'}"
        more = [] if kind == DEVELOPMENT else ["--enable_batching", batching, "--file_system_poll_wait_seconds=1"]
        self._command = [*program, *ports, f"--model_config_file={config}", *more]
        self._process: subprocess.Popen[bytes] | None = None

    def address(self, model: str = MODEL, scheme: str = "grpc") -> str:
        """Of a model on it."""
        return f"{scheme}://localhost:{self._ports[scheme == 'http']}/{model}"

    @property
    def process(self) -> psutil.Process:
        """Its process, to be measured. Raises RuntimeError where it has ended."""
        if not self.is_alive:
            raise RuntimeError(f"the server has ended; it said:\n{self.said()[-2000:]}")
        assert self._process
        return psutil.Process(self._process.pid)

    @property
    def is_alive(self) -> bool:
        """Whether its process runs."""
        return self._process is not None and self._process.poll() is None

    def said(self) -> str:
        """What it has written so far, in all its lives."""
        return self._log.read_text(encoding="utf-8", errors="replace") if self._log.exists() else ""

    def start(self) -> None:
        """Starts it, and waits until every model answers. Raises RuntimeError where it does not."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log, cwd=ROOT)
        self.starts += 1
        for name in self._names:
            self._wait_for(name)

    def kill(self) -> None:
        """Ends it at once, as a crash would."""
        assert self._process
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def stop(self) -> None:
        """Ends it in an orderly way."""
        if self._process and self.is_alive:
            self._process.terminate()
            self._process.wait()

    def __enter__(self) -> ServerProcess:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _wait_for(self, name: str) -> None:
        until, options = time.monotonic() + _START_SECONDS, client.Options(connect_timeout=1.0)
        while self.is_alive and time.monotonic() < until:
            with contextlib.suppress(ServingError), client.connect(self.address(name), options):
                return
            time.sleep(_LOOK_SECONDS)
        self.stop()
        raise RuntimeError(f"{' '.join(self._command)}: does not answer; it said:\n{self.said()[-2000:]}")


def free_ports(number: int) -> list[int]:
    """Ports of this machine that nobody listens on."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for taken in sockets:
            taken.bind(("localhost", 0))
        return [taken.getsockname()[1] for taken in sockets]


def _configuration(models: dict[str, Path]) -> str:
    def config(name: str, folder: Path) -> str:
        return f'config {{ name: "{name}" base_path: "{folder.resolve()}" model_platform: "tensorflow" }}'

    return f"model_config_list {{ {' '.join(config(*model) for model in models.items())} }}\n"


@contextlib.contextmanager
def process() -> Iterator[ProcessPoolExecutor]:
    """A fresh Python process that does one call after the other, and in which TensorFlow says errors alone."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with ProcessPoolExecutor(1, get_context("spawn")) as executor:
        yield executor


def export_models(folder: Path, model: str) -> dict[str, Path]:
    """Exports a model with windows as they are and with short ones; run in a `process`, as it takes TensorFlow.

    Of a family whose windows have one length, both are the same.
    """
    from musicnet_tf import export, inference

    short = SHORT_FRAMES if "window_frames" in inference.read_manifest(model).experiment["model"] else None
    for name, frames in ((MODEL, None), (SHORT, short)):
        export.export(model, folder / name, 1, frames)
    return {name: folder / name for name in (MODEL, SHORT)}


def activations(folder: Path, windows: np.ndarray) -> list[dict[str, np.ndarray]]:
    """What an export hears in each window alone; run in a `process`."""
    from musicnet_tf import inference

    predictor = inference.load(folder)
    return [predictor(windows[index : index + 1]) for index in range(len(windows))]


def write_audio(path: Path, seconds: float, start: float = 0.0, source: Path = SOURCE) -> Path:
    """Writes so many seconds of a recording from a start on, over and over, as 16-bit WAV at `RATE`."""
    samples = np.roll(audio.load(source, RATE), -round(start * RATE))
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.resize(samples, round(seconds * RATE)), RATE, "PCM_16")
    return path


def music_windows(number: int, length: int) -> np.ndarray:
    """Windows of music, each another: float32 `(number, length)`."""
    samples = audio.load(SOURCE, RATE)
    starts = np.linspace(0, len(samples) - length, number).astype(int)
    return np.stack([samples[start : start + length] for start in starts])


def fresh(program: str, *arguments: str) -> tuple[Spent, float]:
    """What a Python program of a few lines takes in a process of its own, and its peak of resident memory in MiB.

    (`ru_maxrss` would not do: it counts what the parent held when it forked.)

    Raises:
        RuntimeError: where it fails.
    """
    code = f"{program}\nprint(open('/proc/self/status').read())"
    began = time.perf_counter()
    child = subprocess.Popen([sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert child.stdout
    status = child.stdout.read()
    _, code_, usage = os.wait4(child.pid, 0)
    wall = time.perf_counter() - began
    child.returncode = os.waitstatus_to_exitcode(code_)
    child.stdout.close()
    if child.returncode:
        raise RuntimeError(f"a fresh process ended with status {child.returncode}")
    return Spent(wall, usage.ru_utime + usage.ru_stime), resident(status, "VmHWM") / 2**20


def median(turns: Sequence[Spent]) -> Spent:
    """The middle turn by the clock and by CPU seconds, each for itself."""
    return Spent(*(statistics.median(values) for values in zip(*turns, strict=True)))


def table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Rows as a table in Markdown."""
    return "\n".join(map(line, [header, ["---"] * len(header), *rows]))


def line(cells: Sequence[Any]) -> str:
    """A row of such a table."""
    return f"| {' | '.join(map(str, cells))} |"
