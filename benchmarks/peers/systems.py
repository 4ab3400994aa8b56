"""Transcribers and beat trackers, each run in a process of its own over recordings that it has not heard yet."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

import musicnet_tf
from benchmarks.peers import environments
from benchmarks.peers.pieces import Sound
from musicnet_tf import files, inference
from musicnet_tf.errors import ModelError

DRIVER = Path(__file__).with_name("driver.py")
"""Of transcribers. Another kind's imports it."""
ABOUT = "system.json"
"""What the driver writes of the system itself."""

WARM_UP_SECONDS = 10.0


@dataclasses.dataclass(frozen=True)
class System:
    """A transcriber or beat tracker that can be started.

    Attributes:
        name: in tables, and of its folder of outputs.
        ours: whether it is a model of this project.
        command: that is given the path of a job, as the drivers take it.
        kind, model: what the driver loads.
        identity: fingerprint of all that its outputs depend on; where it changes, recordings are heard again.
    """

    name: str
    ours: bool
    command: tuple[str, ...]
    kind: str
    model: str
    identity: str


def own(model: str, driver: Path = DRIVER) -> System:
    """A model of this project. Raises ModelError where there is none of that name or folder."""
    folder = inference.locate(model)
    # Its notes depend on the code as well. Which of it, is not told here.
    sources = [*_drivers(driver), *sorted(Path(musicnet_tf.__file__).parent.rglob("*.py"))]
    parts = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.suffix != ".md"]
    name = model if model in inference.shipped() else _name_of(folder)
    return System(name, True, (sys.executable, "-I", str(driver)), "ours", str(folder), _fingerprint(sources + parts))


def of_peer(
    name: str, folder: Path, among: Mapping[str, environments.Peer] | None = None, driver: Path = DRIVER
) -> System:
    """A peer, installed below `folder` if need be.

    Args:
        name: in `environments.PEERS`, or among others.
        folder: of environments.
        among: name → peer.
        driver: that runs it.

    Raises:
        ConfigError: for an unknown name.
        ModelError: where it cannot be installed.
    """
    peer = environments.peer(name, among)
    python = environments.install(peer.environment, folder)
    steps = peer.environment.steps if peer.environment else ()
    identity = _fingerprint(_drivers(driver), json.dumps([steps, peer.model]))
    return System(name, False, (str(python), "-I", str(driver)), peer.kind, peer.model, identity)


def _drivers(driver: Path) -> list[Path]:
    return sorted({DRIVER, driver})


def run(system: System, pieces: Sequence[Sound], folder: Path, fresh: bool = False) -> int:
    """Has a system hear the pieces that it has not heard yet; its outputs are in `folder`.

    Args:
        system: to run.
        pieces: all that it is to hear. The first one's beginning, heard once for nothing, is its warm-up.
        folder: of its outputs alone.
        fresh: whether to hear again what has been heard.

    Returns:
        How many it heard now.

    Raises:
        ModelError: where it fails, in one line with what it said last. What it heard before stays.
    """
    fresh = fresh or not (folder / ABOUT).is_file()
    waiting = [piece for piece in pieces if fresh or not is_heard(system, piece, folder)]
    if not waiting:
        return 0
    files.make_folder(folder)
    job = {
        "kind": system.kind,
        "model": system.model,
        "folder": str(folder.resolve()),
        "warm_up": str(min(pieces, key=lambda piece: abs(piece.seconds - WARM_UP_SECONDS)).audio.resolve()),
        "recordings": [
            {
                "id": piece.id,
                "audio": str(piece.audio.resolve()),
                "seconds": piece.seconds,
                "identity": _identity(system, piece),
            }
            for piece in waiting
        ],
    }
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "job.json"
        path.write_text(json.dumps({**job, "launched": time.time()}), encoding="utf-8")
        _watch([*system.command, str(path)], system.name, len(waiting), Path(scratch) / "stderr")
    missing = [piece.id for piece in waiting if not is_heard(system, piece, folder)]
    if missing:
        raise ModelError(f"{system.name}: ended without an error, but did not hear {', '.join(missing)}")
    return len(waiting)


def _watch(command: list[str], name: str, count: int, log: Path) -> None:
    with log.open("w", encoding="utf-8") as errors, tqdm(total=count, desc=name, disable=None, leave=False) as bar:
        try:
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, errors="replace")
        except OSError as error:
            raise ModelError(f"{name}: {command[0]} cannot be started ({error.strerror})") from error
        with process:
            assert process.stdout is not None
            for line in process.stdout:
                bar.update(line.startswith("heard "))
    if process.returncode:
        said = environments.last_line(log.read_text(encoding="utf-8", errors="replace"))
        raise ModelError(f"{name}: failed with status {process.returncode} ({said}); it is left out")


def is_heard(system: System, piece: Sound, folder: Path) -> bool:
    """Whether the system's notes of this very sound are there."""
    return measured(piece, folder).get("identity") == _identity(system, piece)


def measured(piece: Sound, folder: Path) -> dict[str, Any]:
    """What the driver wrote of a piece beside its notes; empty where either is missing or damaged."""
    told = folder / f"{piece.id}.json"
    if not told.is_file() or not estimate_path(piece, folder).is_file():
        return {}
    try:
        return json.loads(told.read_text(encoding="utf-8"))
    except ValueError:
        return {}


def times(piece: Sound, folder: Path) -> dict[str, float]:
    """Of a piece that was heard: its `seconds`, and those of each part of the work."""
    took = measured(piece, folder)
    return {name: took[name] for name in ("seconds", "read", "inference", "cpu_seconds", "decoding")}


def estimate_path(piece: Sound, folder: Path) -> Path:
    """Where the notes that a system found in a piece are."""
    return folder / f"{piece.id}.csv"


def about(folder: Path) -> dict[str, Any]:
    """What the driver wrote of a system: parameters, how it runs, seconds of start-up."""
    return json.loads((folder / ABOUT).read_text(encoding="utf-8"))


def _identity(system: System, piece: Sound) -> str:
    return f"{piece.identity} {system.identity}"


def _name_of(folder: Path) -> str:
    """A run's or export's folder: its own name, or its parent's where that is the number of a version."""
    folder = folder.resolve()
    return folder.parent.name if folder.name.isdigit() else folder.name


def _fingerprint(paths: Iterable[Path], told: str = "") -> str:
    digest = hashlib.sha256(told.encode())
    for path in paths:
        digest.update(path.name.encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]
