"""Systems one after the other over the same recordings, those that fail told and left out."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from benchmarks.peers import environments, systems
from benchmarks.peers.outcome import Outcome
from benchmarks.peers.pieces import Sound
from benchmarks.peers.systems import System
from musicnet_tf.errors import ModelError, MusicNetError

AnySound = TypeVar("AnySound", bound=Sound)
AnyResult = TypeVar("AnyResult", bound=Outcome[Any])


def chosen(
    peers: Sequence[str],
    models: Sequence[str],
    folder: Path,
    among: Mapping[str, environments.Peer] | None = None,
    driver: Path = systems.DRIVER,
) -> tuple[list[System], dict[str, str]]:
    """The systems that can be run, ours first, and why each of the other peers cannot.

    Args:
        peers: names in `environments.PEERS`, or among others.
        models: of ours: names, or folders.
        folder: of environments.
        among: name → peer.
        driver: that runs all.

    Raises:
        ConfigError: for a peer that is not known.
        ModelError: where one of our models is not there.
    """
    for name in peers:
        environments.peer(name, among)  # a misspelt name is told before anything is installed
    found, failed = [systems.own(model, driver) for model in models], {}
    for name in peers:
        try:
            found.append(systems.of_peer(name, folder, among, driver))
        except ModelError as error:
            failed[name] = str(error)
            print(error, file=sys.stderr, flush=True)
    return found, failed


def compare(
    found: Sequence[System],
    heard: Sequence[AnySound],
    folder: Path,
    failed: dict[str, str],
    judge: Callable[[System, Sequence[AnySound], Path], AnyResult],
    fresh: bool = False,
) -> tuple[list[AnyResult], list[str]]:
    """Runs the systems one after the other, and gives what came out, and notes on it.

    Args:
        found: the systems.
        heard: the pieces.
        folder: of outputs, one folder a system.
        failed: system → reason; those that fail here are added.
        judge: system, pieces and the folder of its outputs → what came out.
        fresh: whether to hear anew what has been heard.
    """
    results, kept = [], 0
    for system in found:
        place = folder / system.name
        try:
            kept += len(heard) - systems.run(system, heard, place, fresh)
            results.append(judge(system, heard, place))
        except ModelError as error:
            failed[system.name] = str(error)
            print(error, file=sys.stderr, flush=True)
    return results, _notes(results, kept, len(heard) * len(results))


def reported(program: str, work: Callable[[], int]) -> int:
    """The exit status of a benchmark's work; a fault that a person can act on is told in one line, and gives 1."""
    try:
        return work()
    except MusicNetError as error:
        print(f"{program}: error: {error}", file=sys.stderr)
        return 1


def _notes(results: Sequence[Outcome[Any]], kept: int, outputs: int) -> list[str]:
    cores = os.cpu_count() or 1
    notes = [f"{cores} cores, all of them for each; `load` is that of the machine when a system began"]
    if any(result.load > 1.25 * cores for result in results):
        notes.append("the machine had other work: times tell little, those of CPU a little more; run it with --fresh")
    if kept:
        notes.append(f"{kept} of {outputs} outputs were there already, with times of an earlier run")
    return notes
