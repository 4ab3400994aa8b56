"""Warps two files of frames in one way and tells what it cost; a process of its own for each: JOB.json.

Writes the path beside the job and prints one line of JSON: of the warp alone `cpu` and `wall` seconds and `peak`
bytes beyond what the process held before, or `refused` with the reason. Runs in any environment that has the way's
library.
"""

from __future__ import annotations

import gc
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

_WARM_UP = 1200  # frames: enough for synctoolbox to use, and compile, all its levels


class RefusedError(Exception):
    """The way says beforehand that it cannot do the job."""


class Spent(NamedTuple):
    """Seconds of all threads, seconds on the clock, and the most bytes held beyond those held before."""

    cpu: float
    wall: float
    peak: int


def resident(status: str, key: str = "VmRSS") -> int:
    """Bytes that a process holds (`VmRSS`) or held at most (`VmHWM`), from the text of its /proc/PID/status.

    A process that has ended holds none.
    """
    for line in status.splitlines():
        if line.startswith(f"{key}:"):
            return 1024 * int(line.split()[1])
    return 0


def measured(work: Callable[[], np.ndarray]) -> tuple[np.ndarray, Spent]:
    """What `work` gives, and what it took."""
    status = Path("/proc/self/status")
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # forgets the peak of imports and of the warm-up
    before = resident(status.read_text())
    cpu, wall = time.process_time(), time.perf_counter()
    result = work()
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    return result, Spent(cpu, wall, resident(status.read_text(), "VmHWM") - before)


def _costs(x: np.ndarray, y: np.ndarray, job: dict[str, Any]) -> Any:
    from musicnet_tf.alignment import dtw

    no_onsets, none_either = (np.zeros((len(frames), 0), np.float32) for frames in (x, y))
    return dtw.Costs(x, y, no_onsets, none_either, norm=job["norm"], step_weights=tuple(job["step_weights"]))


def _exact(x: np.ndarray, y: np.ndarray, job: dict[str, Any]) -> np.ndarray:
    from musicnet_tf.alignment import dtw
    from musicnet_tf.errors import AlignmentError

    try:
        return dtw.exact(_costs(x, y, job), job["max_memory_gib"])[0]
    except AlignmentError as error:
        raise RefusedError(str(error)) from error


def _multiscale(x: np.ndarray, y: np.ndarray, job: dict[str, Any]) -> np.ndarray:
    from musicnet_tf.alignment import dtw

    return dtw.multiscale(_costs(x, y, job))[0]


def _librosa(x: np.ndarray, y: np.ndarray, job: dict[str, Any]) -> np.ndarray:
    import librosa

    metric = {"cosine": "cosine", "l2": "euclidean"}[job["norm"]]
    _, path = librosa.sequence.dtw(X=x.T, Y=y.T, metric=metric)
    return path[::-1]


def _synctoolbox(x: np.ndarray, y: np.ndarray, job: dict[str, Any]) -> np.ndarray:
    from _alignment_peers_synctoolbox import STEP_WEIGHTS, THRESHOLD_REC  # beside this file
    from synctoolbox.dtw.mrmsdtw import sync_via_mrmsdtw

    if job["norm"] != "cosine":
        raise RefusedError(f"it compares by cosine, not by {job['norm']}")
    path = sync_via_mrmsdtw(
        f_chroma1=x.T,
        f_chroma2=y.T,
        input_feature_rate=job["frame_rate"],
        step_weights=STEP_WEIGHTS,
        threshold_rec=THRESHOLD_REC,
    )
    return path.T


WAYS: dict[str, Callable[[np.ndarray, np.ndarray, dict[str, Any]], np.ndarray]] = {
    "ours, exact": _exact,
    "ours, multiscale": _multiscale,
    "librosa.sequence.dtw": _librosa,
    "synctoolbox MrMsDTW": _synctoolbox,
}


def run(job: dict[str, Any]) -> dict[str, Any]:
    """One job: `way`, `recording`, `score`, `path` (files), `norm`, `step_weights`, `max_memory_gib`, `frame_rate`."""
    x, y = (np.load(job[key], allow_pickle=False) for key in ("recording", "score"))
    way = WAYS[job["way"]]
    try:
        way(x[:_WARM_UP], y[:_WARM_UP], job)
        path, spent = measured(lambda: way(x, y, job))
    except RefusedError as error:
        return {"refused": str(error)}
    np.save(job["path"], path)
    return spent._asdict()


if __name__ == "__main__":
    print(json.dumps(run(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))))
