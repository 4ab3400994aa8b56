"""The ground of a fault drill: models, recordings, what they become in process, and jobs that ask a server for it."""

from __future__ import annotations

import contextlib
import dataclasses
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from benchmarks import _serving as work
from benchmarks._serving import MODEL, SHORT, ServerProcess
from musicnet_tf import inference

SECOND = "second"
"""A model of other weights than the first, with short windows as it has."""
PATIENCE_SECONDS = 600.0

_WINDOWS = 16  # different ones that are asked for


@dataclasses.dataclass(frozen=True)
class Ground:
    """What drills work with.

    Attributes:
        folder: for what they write.
        exports: name → folder of versions of the first model with windows as they are, and short ones; of the second.
        windows: short ones, float32 `(number, window_length)`.
        heads: what the short model hears in each, and what the second does.
        recordings: folder of short recordings.
        notes: model → recording → bytes of its notes.
        scale: share of the numbers.
        kind: of the server.
    """

    folder: Path
    exports: Mapping[str, Path]
    windows: np.ndarray
    heads: Mapping[str, Sequence[Mapping[str, np.ndarray]]]
    recordings: Path
    notes: Mapping[str, Mapping[str, bytes]]
    scale: float
    kind: str

    def number(self, of_all: int) -> int:
        """So many at this scale; at least two."""
        return max(2, round(of_all * self.scale))

    def server(self, *names: str) -> ServerProcess:
        """One that serves these models."""
        return ServerProcess({name: self.exports[name] for name in names}, self.folder, self.kind)


def prepare(folder: Path, model: str, num_recordings: int, scale: float, kind: str) -> Ground:
    """Models, recordings, and what they become in process."""
    with work.process() as worker:
        exports = worker.submit(work.export_models, folder, model).result()
        exports[SECOND] = worker.submit(export_changed, folder, model).result()
        windows = work.music_windows(_WINDOWS, 32000)
        heads = {name: worker.submit(work.activations, exports[name], windows).result() for name in (SHORT, SECOND)}
    recordings = folder / "recordings"
    for index in range(num_recordings):
        work.write_audio(recordings / f"{index:03d}.wav", seconds=6 + index % 7 * 4, start=1.3 * index)
    notes = {
        name: _notes_in_process(exports[name], recordings, folder / f"direct-{name}") for name in (MODEL, SHORT, SECOND)
    }
    return Ground(folder, exports, windows, heads, recordings, notes, scale, kind)


def export_changed(folder: Path, model: str) -> Path:
    """Exports a model with other weights, so that it hears something else; run in a `process`."""
    from musicnet_tf import export, runs

    manifest, experiment, network = runs.load(inference.locate(model))
    network.set_weights([1.1 * weights for weights in network.get_weights()])
    run = folder / "changed"
    run.mkdir()
    network.save_weights(run / runs.WEIGHTS)
    experiment.write(run)
    manifest.write(run)
    export.export(run, folder / SECOND, 1, work.SHORT_FRAMES)
    return folder / SECOND


def _notes_in_process(export: Path, recordings: Path, output_dir: Path) -> dict[str, bytes]:
    verb = [sys.executable, "-m", "musicnet_tf", "transcribe", str(recordings), f"--model={export}"]
    subprocess.run(
        [*verb, f"--output_dir={output_dir}", "--formats=csv"], cwd=work.ROOT, check=True, capture_output=True
    )
    return {path.stem: path.read_bytes() for path in output_dir.glob("*.csv")}


def job(ground: Ground, address: str, output_dir: Path) -> list[str]:
    """The command of a batch job; its messages are of four windows, so that recordings take several."""
    verb = [sys.executable, "-m", "musicnet_tf", "transcribe_batch", str(ground.recordings)]
    return [*verb, f"--output_dir={output_dir}", f"--server={address}", "--formats=csv", "--batch_size=4"]


@contextlib.contextmanager
def running(command: Sequence[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A command meanwhile; killed at the end of the block where it still runs."""
    with log.open("ab") as file, subprocess.Popen(command, stdout=file, stderr=file, cwd=work.ROOT) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def until(condition: Callable[[], bool], seconds: float = PATIENCE_SECONDS) -> bool:
    """Waits for it; whether it came to hold in time."""
    deadline = time.monotonic() + seconds
    while not (holds := condition()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return holds
