"""What goes wrong on purpose around a server of models, and whether any output is lost, doubled or false.

    python -m benchmarks.fault_drill [--scale=0.1] [--drills=killed,swapped] [--server=development]

| drill | what happens |
|---|---|
| `killed` | the server is killed and started again 20 times while `musicnet transcribe_batch` asks it |
| `swapped` | 50 versions, of two models in turn, follow one another while that job and four clients ask |
| `malformed` | 1,000 requests that cannot be answered, over gRPC and REST, among good ones |
| `disconnected` | 100 clients go away in the middle of a request, among good ones |
| `full_disk` | the disk of the job's output is full, and the job runs again when there is room |
| `many` | 10,000 requests, and the server's memory after the first tenth of them and after all |

Every output is held to what the same model gives in this machine's own process: files of notes byte by byte,
activations within 1e-4, as sums are taken in another order in batches of another size. The exit status is 1 where one
is lost, comes twice or is wrong, where a process ends that should not, or memory grows.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from absl import app, flags

from benchmarks import _fault_drill_requests as requests
from benchmarks import _serving as work
from benchmarks._fault_drill_ground import SECOND, Ground, job, prepare, running, until
from benchmarks._fault_drill_ledger import Count, Folder, Ledger, close
from benchmarks._serving import MODEL, SHORT, ServerProcess
from musicnet_tf import inference
from musicnet_tf.errors import VersionGoneError
from serving import client

KILLS, SWAPS, MALFORMED, DISCONNECTS, MANY = 20, 50, 1000, 100, 10_000
CLIENTS = 4
MOST_GROWTH = 1.1
"""Times the memory after the first tenth of many requests that there may be after all."""
_NO_MOUNT = 77
_FULL_DISK = f"""
mount -t tmpfs -o size=$1 none "$2" || exit {_NO_MOUNT}
folder=$2 kept=$3; shift 3
"$@"; echo $? > "$kept/before.status"
cp -a "$folder" "$kept/before"
mount -o remount,size=256m "$folder" || exit {_NO_MOUNT}
"$@"; echo $? > "$kept/after.status"
cp -a "$folder" "$kept/after"
"""


def define_flags() -> None:
    """The command line. Importing the module defines no flag: one process has a single set of them."""
    flags.DEFINE_float("scale", 1.0, "Share of the numbers above.", 0.001, 100.0)
    flags.DEFINE_list("drills", list(DRILLS), "Which of them.")
    flags.DEFINE_enum("server", work.DEVELOPMENT, [work.DEVELOPMENT, work.TENSORFLOW], "The server that is tried.")
    flags.DEFINE_string("model", inference.DEFAULT_MODEL, "A shipped model or run, as for `musicnet export`.")


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What came of a drill.

    Attributes:
        done: what was done, in words.
        count: of the outputs.
        crashes: processes that ended and should not have, and requests that were taken in a way they should not.
        more: what else is to be told, such as memory.
        faults: each in a line.
    """

    done: str
    count: Count
    crashes: int = 0
    more: str = ""
    faults: tuple[str, ...] = ()

    @property
    def is_clean(self) -> bool:
        """Whether nothing was lost and nothing crashed."""
        return self.count.is_clean and not self.crashes


def killed(ground: Ground) -> Outcome:
    """The server is killed whenever the job has written another file."""
    out, log, kills = ground.folder / "killed", ground.folder / "killed.log", ground.number(KILLS)
    out.mkdir()
    done = 0
    with (
        ground.server(MODEL) as server,
        Folder(out, ".csv") as put,
        running(job(ground, server.address(), out), log) as process,
    ):
        while done < kills:
            until(lambda: put.num_files() > 2 * done or process.poll() is not None)  # noqa: B023
            if process.poll() is not None:
                break
            server.kill()
            server.start()
            done += 1
        status = process.wait()
    faults = _of_job(status, log) + (() if done == kills else (f"the job ended after {done} kills",))
    return Outcome(f"{done} kills", put.account(ground.notes[MODEL]), len(faults), faults=faults)


def _of_job(status: int, log: Path) -> tuple[str, ...]:
    return (f"the job ended with status {status}: {log.read_text()[-1000:]}",) if status else ()


def swapped(ground: Ground) -> Outcome:
    """Versions follow one another, the first model's and the second's in turn, under clients and jobs."""
    versions, log, swaps = ground.folder / "versions", ground.folder / "swapped.log", ground.number(SWAPS)
    sources = (ground.exports[SECOND] / "1", ground.exports[SHORT] / "1")  # even versions, odd ones
    heads, either = (ground.heads[SECOND], ground.heads[SHORT]), _either(ground)
    versions.mkdir()
    _publish(sources[1], versions, 1)
    count, faults, number_of_jobs = Count(0, 0, 0, 0), (), 0
    ground = dataclasses.replace(ground, exports={**ground.exports, "versions": versions})
    with (
        ground.server("versions") as server,
        asking(ground, server, "versions", heads) as ledger,
        ThreadPoolExecutor(1) as thread,
    ):
        address, ended, before = server.address("versions"), threading.Event(), server.process.memory_info().rss
        swapping = thread.submit(_swap, sources, versions, swaps, address, ended)
        while not ended.is_set():
            out = ground.folder / f"swapped-{number_of_jobs}"
            out.mkdir()
            with Folder(out, ".csv") as put, running(job(ground, address, out), log) as process:
                faults += _of_job(process.wait(), log)
            number_of_jobs += 1
            count += put.account(either, lambda content, wanted: content in wanted)
        swapping.result()
        grown = _grown(before, server)
    unlike = f"the models differ on {sum(len(notes) > 1 for notes in either.values())} of {len(either)} recordings"
    done = f"{swaps} swaps, {number_of_jobs} jobs"
    return Outcome(done, count + ledger.count(), len(faults), f"{grown}; {unlike}", faults)


def _either(ground: Ground) -> dict[str, set[bytes]]:
    """What a recording may become: what the one model makes of it, or the other, and no mixture."""
    first, second = ground.notes[SHORT], ground.notes[SECOND]
    return {name: {first[name], second[name]} for name in first}


def _publish(source: Path, versions: Path, number: int) -> None:
    part = versions / f".{number}.part"
    shutil.copytree(source, part)
    part.rename(versions / str(number))


def _swap(sources: Sequence[Path], versions: Path, swaps: int, address: str, ended: threading.Event) -> None:
    try:
        for number in range(2, 2 + swaps):
            _publish(sources[number % 2], versions, number)
            if not until(lambda: _version(address) == number):  # noqa: B023
                raise RuntimeError(f"the server did not take up version {number}")
            shutil.rmtree(versions / str(number - 1))
    finally:
        ended.set()


def _version(address: str) -> int | None:
    with client.connect(address) as predictor:
        return predictor.address.version


@contextlib.contextmanager
def asking(
    ground: Ground, server: ServerProcess, model: str, heads: Sequence[Sequence[Mapping[str, np.ndarray]]]
) -> Iterator[Ledger]:
    """Clients that ask for one window after the other until the block ends; the books of what they get.

    `heads` holds what even and what odd versions hear in each window.
    """
    ledger, ended = Ledger(close), threading.Event()

    def ask(who: int) -> None:
        with client.connect(server.address(model)) as predictor:
            for number in itertools.count():
                if ended.is_set():
                    return
                ask_one(predictor, ground.windows, heads, ledger, (who, number))

    with ThreadPoolExecutor(CLIENTS) as threads:
        asked = [threads.submit(ask, who) for who in range(CLIENTS)]
        try:
            yield ledger
        finally:
            ended.set()
        for each in asked:
            each.result()


def ask_one(
    predictor: Any,
    windows: np.ndarray,
    heads: Sequence[Sequence[Mapping[str, np.ndarray]]],
    ledger: Ledger,
    key: tuple[int, int],
) -> None:
    """Asks for a window until a version answers that is there to the end; notes both in the books."""
    which = sum(key) % len(windows)
    while True:
        ledger.ask(key, heads[(predictor.address.version or 0) % 2][which])
        try:
            ledger.take(key, predictor(windows[which : which + 1]))
            return
        except VersionGoneError:
            predictor.renew()


def malformed(ground: Ground) -> Outcome:
    """Requests that cannot be answered, while clients ask good ones."""
    number = ground.number(MALFORMED)
    with ground.server(SHORT) as server:
        before = server.process.memory_info().rss
        with asking(ground, server, SHORT, [ground.heads[SHORT]] * 2) as ledger:
            faults = send_malformed(server, number, ground.windows.shape[1])
        alive = server.is_alive
        grown = _grown(before, server) if alive else "ended"
    bad = [*faults, *([] if alive else ["the server ended"])]
    return Outcome(f"{number} malformed requests", ledger.count(), len(bad), grown, tuple(bad))


def send_malformed(server: ServerProcess, number: int, window_length: int, seed: int = 0) -> list[str]:
    """Sends them and gives those that were not refused as they should be."""
    sender = requests.Sender(*_targets(server))
    made = requests.malformed(np.random.default_rng(seed), SHORT, window_length)
    try:
        return [fault for request in itertools.islice(made, number) if (fault := sender.fault(request))]
    finally:
        sender.close()


def _targets(server: ServerProcess) -> tuple[str, str]:
    return tuple(server.address("x", scheme).split("/")[2] for scheme in ("grpc", "http"))  # type: ignore[return-value]


def _grown(before: float, server: ServerProcess) -> str:
    return f"{before / 2**20:.0f} → {server.process.memory_info().rss / 2**20:.0f} MiB"


def disconnected(ground: Ground) -> Outcome:
    """Clients go away: over gRPC at some time before the answer, over REST after some of the request."""
    number = ground.number(DISCONNECTS)
    with ground.server(SHORT) as server:
        grpc_target, rest_target = _targets(server)
        before, open_before = server.process.memory_info().rss, server.process.num_fds()
        with asking(ground, server, SHORT, [ground.heads[SHORT]] * 2) as ledger:
            for index in range(number):
                share = index / max(1, number - 1)
                if index % 2:
                    requests.leave_grpc(grpc_target, SHORT, ground.windows[:4], after=0.05 * share)
                else:
                    requests.leave_rest(rest_target, SHORT, ground.windows[:1], share)
        closed = until(lambda: not server.is_alive or server.process.num_fds() <= open_before, 60)
        alive = server.is_alive
        grown = _grown(before, server) if alive else "ended"
    faults = (*(() if alive else ("the server ended",)), *(() if closed else ("connections stay open",)))
    return Outcome(f"{number} clients gone", ledger.count(), len(faults), grown, faults)


def full_disk(ground: Ground) -> Outcome:
    """The job writes to a file system of its own that is too small, and once more when it is not."""
    kept, mounted = ground.folder / "full_disk", ground.folder / "full_disk/mounted"
    mounted.mkdir(parents=True)
    size = f"{4 * len(ground.notes[MODEL])}k"  # a block for every file, and there are notes of each and work aside
    log = ground.folder / "full_disk.log"
    with ground.server(MODEL) as server:
        command = ["unshare", "--mount", "--map-root-user", "sh", "-c", _FULL_DISK, "sh", size, str(mounted), str(kept)]
        with running([*command, *job(ground, server.address(), mounted)], log) as process:
            status = process.wait()
    if status or not (kept / "after").is_dir():
        return Outcome("no disk: mounting one is not allowed here", Count(0, 0, 0, 0), more="not run")
    wanted = ground.notes[MODEL]
    first, second = (_found(kept / name) for name in ("before", "after"))
    count = account(second, wanted)
    early = account(first, wanted)
    faults = [
        *([] if (kept / "before.status").read_text().strip() != "0" else ["the job did not notice the full disk"]),
        *_of_job(int((kept / "after.status").read_text()), log),
        *(f"half-written or strange: {name}" for name in first if first[name] != wanted.get(name)),
    ]
    more = f"{early.wanted - early.lost} of {early.wanted} before it was full"
    return Outcome("a full disk", count, len(faults), more, tuple(faults))


def _found(folder: Path) -> dict[str, bytes]:
    """What a person would see there."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {
        str(below.with_suffix("")): path.read_bytes()
        for path in files
        if not (below := path.relative_to(folder)).parts[0].startswith(".")
    }


def account(found: Mapping[str, bytes], wanted: Mapping[str, bytes]) -> Count:
    """What is there, held to what is wanted."""
    ledger = Ledger()
    for name, content in wanted.items():
        ledger.ask(name, content)
    for name, content in found.items():
        ledger.take(name, content)
    return ledger.count()


def many(ground: Ground) -> Outcome:
    """Many requests, one in fifty over REST, and the server's memory."""
    number, ledger = ground.number(MANY), Ledger(close)
    heads = [ground.heads[SHORT]] * 2
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(ground.server(SHORT))
        threads = stack.enter_context(ThreadPoolExecutor(2 * CLIENTS))
        grpc, rest = (
            stack.enter_context(client.connect(server.address(SHORT, scheme), client.Options(in_flight=2 * CLIENTS)))
            for scheme in ("grpc", "http")
        )

        def ask(index: int) -> None:
            ask_one(rest if index % 50 == 0 else grpc, ground.windows, heads, ledger, (0, index))

        list(threads.map(ask, range(number // 10)))
        before = server.process.memory_info().rss
        list(threads.map(ask, range(number // 10, number)))
        after, grown = server.process.memory_info().rss, _grown(before, server)
    faults = () if after <= MOST_GROWTH * before else (f"memory grew: {grown}",)
    return Outcome(f"{number} requests", ledger.count(), len(faults), grown, faults)


DRILLS: dict[str, Callable[[Ground], Outcome]] = {
    drill.__name__: drill for drill in (killed, swapped, malformed, disconnected, full_disk, many)
}
HEADER = ("drill", "done", "outputs", "lost", "twice", "wrong", "crashes", "the server's memory, and more", "minutes")


def main(argv: list[str]) -> int:
    """Prints a table, and gives 1 where anything was lost."""
    if argv[1:]:
        raise app.UsageError(f"unexpected argument {argv[1]!r}; everything is named by a flag")
    values = flags.FLAGS
    if unknown := set(values.drills) - set(DRILLS):
        raise app.UsageError(f"no drill is called {sorted(unknown)[0]!r}; choose from {', '.join(DRILLS)}")
    clean = True
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        recordings = max(12, round(3 * KILLS * values.scale))
        ground = prepare(Path(folder), values.model, recordings, values.scale, values.server)
        print(work.table(HEADER, []), flush=True)
        for name in values.drills:
            began = time.monotonic()
            outcome = DRILLS[name](ground)
            clean = clean and outcome.is_clean
            for fault in outcome.faults:
                print(f"{name}: {fault}", file=sys.stderr)
            minutes = f"{(time.monotonic() - began) / 60:.1f}"
            count = dataclasses.astuple(outcome.count)
            print(work.line((name, outcome.done, *count, outcome.crashes, outcome.more, minutes)), flush=True)
    return 0 if clean else 1


if __name__ == "__main__":
    define_flags()
    app.run(main)
