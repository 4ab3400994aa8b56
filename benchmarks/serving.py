"""What a model on a server gives and takes, beside the same model in this process.

    python -m benchmarks.serving [--seconds=3600] [--rounds=5] [--calls=200] [--model=NAME]

The model is exported as it is, and, where its family lets them vary, with windows of two seconds, and served over
loopback by a server in a process of its own, on the same cores: the development server, and TensorFlow Serving too
where one is on the PATH. Both ways take turns, so that other load on the machine concerns them alike; medians are told,
and CPU seconds of client and server together, which other load disturbs less.

- **Throughput**: `transcription.transcribe_file` on a long recording, as `musicnet transcribe` runs it.
- **Latency**: of one such window at a time, all calls of all rounds together.
- **Concurrency**: windows a second that 32 threads, or coroutines, get together, beside one; and in process, by calls
  of 32 windows beside one, which is what this machine gains by batches.
- **Start-up**: a fresh Python process, from its start to the end of its first answer.
"""

from __future__ import annotations

import asyncio
import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from absl import app, flags

from benchmarks import _serving as work
from benchmarks._serving import MODEL, SHORT, ServerProcess, Spent
from musicnet_tf import inference, transcription
from serving import aio, client

CROWD = 32
"""Requests at once where many are compared with one."""
LEAST_THROUGHPUT, MOST_LATENCY, LATENCY_MS, LEAST_CROWD = 0.85, 1.5, 2.0, 1.5
MOST_START_SECONDS, MOST_START_MIB = 1.0, 150.0

_FIRST_ANSWER = """
import sys, numpy
from serving import client
with client.connect(sys.argv[1]) as predictor:
    predictor(numpy.zeros((1, predictor.manifest.geometry.window_length), numpy.float32))
"""
_IMPORT = "import numpy, serving.client, serving.grpc_transport"

_predictor: Any = None  # of a process that works for the benchmark


def define_flags() -> None:
    """The command line. Importing the module defines no flag: one process has a single set of them."""
    flags.DEFINE_float("seconds", 3600.0, "Length of the recording that is transcribed.", 1.0)
    flags.DEFINE_integer("rounds", 5, "Turns of each way.", lower_bound=1)
    flags.DEFINE_integer("calls", 200, "Single windows a turn.", lower_bound=1)
    flags.DEFINE_string("model", inference.DEFAULT_MODEL, "A model, as for `musicnet export`.")


def open_here(folder: Path) -> None:
    """Loads an export into a worker, and warms it up."""
    global _predictor
    _predictor = inference.load(folder)
    _warm_up()


def open_there(address: str) -> None:
    """Connects a worker to a model on a server."""
    global _predictor
    _predictor = client.connect(address, client.Options(in_flight=CROWD if address.endswith(SHORT) else 4))
    _warm_up()


def _warm_up() -> None:
    for windows in (_window(), np.repeat(_window(), CROWD, axis=0)):
        for _ in range(3):
            _predictor(windows)


def _window() -> np.ndarray:
    return work.music_windows(1, _predictor.manifest.geometry.window_length)


def transcribe(path: Path, output_dir: Path) -> Spent:
    """What it takes a worker to turn a recording into a table of events."""
    kinds = transcription.chosen_formats(_predictor.manifest.task, ["csv"])
    wall, cpu = time.perf_counter(), time.process_time()
    transcription.transcribe_file(path, _predictor, output_dir, kinds)
    return Spent(time.perf_counter() - wall, time.process_time() - cpu)


def latencies(calls: int) -> list[float]:
    """Milliseconds of each of so many calls with one window."""
    window, taken = _window(), []
    for _ in range(calls):
        began = time.perf_counter()
        _predictor(window)
        taken.append(1000 * (time.perf_counter() - began))
    return taken


def rate(calls: int, at_once: int) -> float:
    """Windows a second, of so many threads that ask for one at a time."""
    window = _window()
    with ThreadPoolExecutor(at_once) as threads:
        began = time.perf_counter()
        list(threads.map(lambda _: _predictor(window), range(calls)))
        return calls / (time.perf_counter() - began)


def rate_of_batches(calls: int, size: int) -> float:
    """Windows a second, of calls with so many windows each."""
    windows = np.repeat(_window(), size, axis=0)
    began = time.perf_counter()
    number = max(1, calls // size)
    for _ in range(number):
        _predictor(windows)
    return number * size / (time.perf_counter() - began)


def coroutines(address: str, calls: int, at_once: int) -> tuple[list[float], float]:
    """As `latencies` and `rate`, with `serving.aio`: milliseconds of each call, and windows a second."""
    return asyncio.run(_coroutines(address, calls, at_once))


async def _coroutines(address: str, calls: int, at_once: int) -> tuple[list[float], float]:
    async with await aio.connect(address, client.Options(in_flight=at_once)) as predictor:
        window, taken, left = work.music_windows(1, predictor.manifest.geometry.window_length), [], iter(range(calls))
        await predictor(window)

        async def ask() -> None:
            for _ in left:
                began = time.perf_counter()
                await predictor(window)
                taken.append(1000 * (time.perf_counter() - began))

        began = time.perf_counter()
        await asyncio.gather(*(ask() for _ in range(at_once)))
        return taken, calls / (time.perf_counter() - began)


Row = tuple[str, str, str, str, str]
HEADER = ("what", "measured", "ratio", "wanted", "reached")


def row(what: str, measured: str, ratio: str = "", wanted: str = "", reached: bool | None = None) -> Row:
    """A line of the table; `reached` is None where nothing was wanted."""
    return what, measured, ratio, wanted, "" if reached is None else "yes" if reached else "**no**"


@contextmanager
def workers(*openers: tuple[Callable[[Any], None], Any]) -> Iterator[list[ProcessPoolExecutor]]:
    """A process for each, with its predictor."""
    with ExitStack() as stack:
        executors = [stack.enter_context(work.process()) for _ in openers]
        for executor, (open_predictor, where) in zip(executors, openers, strict=True):
            executor.submit(open_predictor, where).result()
        yield executors


def turns(executors: Sequence[ProcessPoolExecutor], rounds: int, call: Callable[..., Any], *args: Any) -> list[list]:
    """What each worker gives in each round, one after the other, every other round in reverse."""
    given: list[list] = [[] for _ in executors]
    for number in range(rounds):
        order = list(zip(given, executors, strict=True))
        for results, executor in order if number % 2 == 0 else order[::-1]:
            results.append(executor.submit(call, *args).result())
    return given


def throughput(server: ServerProcess, exported: Path, folder: Path, seconds: float, rounds: int) -> list[Row]:
    """Transcribing a long recording here, over gRPC, and a thirtieth of it over REST."""
    path = work.write_audio(folder / "long.wav", seconds)
    with workers((open_here, exported), (open_there, server.address())) as executors:
        here, there = turns(executors, rounds, transcribe, path, folder)
        server_cpu = sum(server.process.cpu_times()[:2])
        executors[1].submit(transcribe, path, folder).result()
        server_cpu = sum(server.process.cpu_times()[:2]) - server_cpu
        short = work.write_audio(folder / "short.wav", seconds / 30)
        executors[1].submit(open_there, server.address(scheme="http")).result()
        here_short, rest = turns(executors, rounds, transcribe, short, folder)
    (wall, cpu), (wall_there, cpu_there) = work.median(here), work.median(there)
    ratio, cpu_ratio = wall / wall_there, cpu / (cpu_there + server_cpu)
    rest_ratio = work.median(here_short).wall / work.median(rest).wall
    return [
        row(f"{seconds:g} s of music, in process", f"{wall:.1f} s; CPU {cpu:.1f} s"),
        row(
            "the same over gRPC",
            f"{wall_there:.1f} s; CPU {cpu_there:.1f} s and the server's {server_cpu:.1f} s",
            f"{ratio:.2f} of the throughput; {cpu_ratio:.2f} by CPU",
            f"≥ {LEAST_THROUGHPUT}",
            ratio >= LEAST_THROUGHPUT,
        ),
        row(f"{seconds / 30:g} s of it over REST", f"{work.median(rest).wall:.1f} s", f"{rest_ratio:.2f}"),
    ]


def latency(server: ServerProcess, exported: Path, rounds: int, calls: int) -> list[Row]:
    """One window at a time."""
    schemes = [(open_there, server.address(SHORT, scheme)) for scheme in ("grpc", "http")]
    with workers((open_here, exported), *schemes) as executors:
        here, grpc, rest = (np.concatenate(given) for given in turns(executors, rounds, latencies, calls))
        asked = executors[1].submit(coroutines, server.address(SHORT), rounds * calls, 1)
        by_aio = np.array(asked.result()[0])
    most = MOST_LATENCY * np.percentile(here, 99) + LATENCY_MS
    p99 = np.percentile(grpc, 99)
    return [
        row(f"{_seconds(exported)}, one at a time, in process", _percentiles(here)),
        row(
            "the same over gRPC",
            _percentiles(grpc),
            f"p99 {p99 / np.percentile(here, 99):.2f} times, median {np.median(grpc) / np.median(here):.2f} times",
            f"p99 ≤ {MOST_LATENCY:g} times + {LATENCY_MS:g} ms = {most:.1f} ms",
            bool(p99 <= most),
        ),
        row("over gRPC with asyncio", _percentiles(by_aio)),
        row("over REST", _percentiles(rest), f"median {np.median(rest) / np.median(here):.2f} times"),
    ]


def _seconds(exported: Path) -> str:
    """How long a window is."""
    spec = inference.read_manifest(exported).geometry
    return f"{spec.window_length / spec.clock.sample_rate:.2g} s"


def _percentiles(taken: np.ndarray) -> str:
    middle, p99 = np.percentile(taken, [50, 99])
    return f"median {middle:.1f} ms, p99 {p99:.1f} ms"


def concurrency(server: ServerProcess, exported: Path, rounds: int, calls: int) -> list[Row]:
    """Many who ask for one window each, beside one; threads, coroutines, and REST; and batches in process."""
    address = server.address(SHORT)
    ways = [(open_there, address), (open_there, server.address(SHORT, "http")), (open_here, exported)]
    with workers(*ways) as (grpc, rest, here):
        rates: dict[str, list[float]] = {}
        for _ in range(rounds):
            for number in (1, CROWD):
                batches = here.submit(rate_of_batches, calls, number).result()
                rates.setdefault(f"batches in process, {number}", []).append(batches)
                rates.setdefault(f"threads, {number}", []).append(grpc.submit(rate, calls, number).result())
                by_aio = grpc.submit(coroutines, address, calls, number).result()[1]
                rates.setdefault(f"coroutines, {number}", []).append(by_aio)
                rates.setdefault(f"REST, {number}", []).append(rest.submit(rate, calls, number).result())
    middle = {name: float(np.median(found)) for name, found in rates.items()}
    rows = []
    for name in ("threads", "coroutines", "REST", "batches in process"):
        one, many = middle[f"{name}, 1"], middle[f"{name}, {CROWD}"]
        wanted = (f"≥ {LEAST_CROWD:g}", many >= LEAST_CROWD * one) if name == "threads" else ()
        measured = f"{one:.1f} and {many:.1f} windows a second"
        rows.append(row(f"{_seconds(exported)}, 1 and {CROWD} at once, {name}", measured, f"{many / one:.2f}", *wanted))
    return rows


def start_up(server: ServerProcess, rounds: int) -> list[Row]:
    """A fresh process's first answer."""
    rows = []
    for scheme in ("grpc", "http"):
        address = server.address(SHORT, scheme)
        spent, peaks = zip(*(work.fresh(_FIRST_ANSWER, address) for _ in range(rounds)), strict=True)
        (wall, cpu), peak = work.median(spent), float(np.median(peaks))
        rows.append(
            row(
                f"start of a process to its first answer, {scheme}",
                f"{wall:.2f} s; CPU {cpu:.2f} s; peak {peak:.0f} MiB",
                "",
                f"< {MOST_START_SECONDS:g} s, < {MOST_START_MIB:g} MiB",
                wall < MOST_START_SECONDS and peak < MOST_START_MIB,
            )
        )
    return rows


def machine() -> str:
    """What it is measured on."""
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    return f"{len(os.sched_getaffinity(0))} cores, {platform.machine()}; load average before: {load}"


def main(argv: list[str]) -> None:
    """Prints a table for each server."""
    if argv[1:]:
        raise app.UsageError(f"unexpected argument {argv[1]!r}; everything is named by a flag")
    values = flags.FLAGS
    print(machine(), flush=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with work.process() as exporter:
            exports = exporter.submit(work.export_models, folder, values.model).result()
        for kind in work.servers():
            with ServerProcess(exports, folder, kind) as server:
                rows = start_up(server, values.rounds)
                rows += latency(server, exports[SHORT], values.rounds, values.calls)
                rows += concurrency(server, exports[SHORT], values.rounds, values.calls)
                rows += throughput(server, exports[MODEL], folder, values.seconds, values.rounds)
            print(f"\n{kind}:\n\n{work.table(HEADER, rows)}", flush=True)


if __name__ == "__main__":
    define_flags()
    app.run(main)
