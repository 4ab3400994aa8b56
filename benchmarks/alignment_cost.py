"""Time and peak memory of the warp, ours and peers', on the same features; accuracy beside, then the whole verb.

    OMP_NUM_THREADS=1 python -m benchmarks.alignment_cost --asap=FOLDER --cache=FOLDER --output=FOLDER
        [--minutes=1,5,18] [--piece=Schubert-Wanderer_fantasie] [--repeat=3]

The first minutes of a rendered performance (`alignment_truth`) and the part of its score that is played in them are
turned into frames once, at the MusicNet paper's stride of 512 samples at 44.1 kHz: its spectrogram of 50 bins, and
chroma. Each way then warps the same two files of frames in a process of its own, on one core, one after the other;
it has compiled beforehand, and what counts is the warp alone. Ratios are of CPU seconds, which other load disturbs
less than the clock, and of up to `--repeat` turns the quickest is told. What would not fit in memory is told by
arithmetic and not tried. At the end `musicnet align` runs on the longest pair as a user starts it. Writes `cost.md`
and `cost.json`; needs Linux.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from absl import app, flags
from tqdm import tqdm

from benchmarks import _alignment_cost_worker as worker
from benchmarks import _alignment_peers as ways
from benchmarks import alignment_truth
from benchmarks._alignment_cost_pairs import cut
from benchmarks.alignment_accuracy import errors, summary
from benchmarks.alignment_truth import Pair
from musicnet_tf import audio, files, scores
from musicnet_tf.alignment import features
from musicnet_tf.alignment.settings import load_settings
from musicnet_tf.errors import AlignmentError
from musicnet_tf.timebase import FrameClock

EXACT, MULTISCALE, LIBROSA, SYNCTOOLBOX = worker.WAYS

BYTES_A_CELL = {LIBROSA: 20}
"""Of ways that hold the whole matrix and say nothing beforehand: costs and sums in float64, steps in int32."""

COMPARED = {
    "chroma": ("chroma", ["features.hop_length=256", "step_weights=[1,1,1]"]),
    "spectrogram": ("paper_multiscale", []),
}
"""Config and changes of it. Chroma is at half the paper's sample rate, so that 256 samples last as long as its 512;
the step weights are librosa's."""

VERB_CONFIGS = ("paper_multiscale", "best")

_SPARE_GIB = 4.0
_SHORT_SECONDS = 20.0
_POLL_SECONDS = 0.05
_GIB = 2**30
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")


@dataclasses.dataclass
class Row:
    """One way at one length.

    Attributes:
        features, minutes, frames, way: what was warped, `frames` of recording and score.
        cpu, wall: seconds of each turn.
        peak: bytes beyond those of the frames, the most of all turns.
        refused: why there is no result.
        accuracy: as `alignment_accuracy.summary`.
    """

    features: str
    minutes: float
    frames: tuple[int, int]
    way: str
    cpu: list[float] = dataclasses.field(default_factory=list)
    wall: list[float] = dataclasses.field(default_factory=list)
    peak: int = 0
    refused: str = ""
    accuracy: dict[str, float] = dataclasses.field(default_factory=dict)


def over_memory(way: str, frames: tuple[int, int], limit_gib: float) -> str:
    """Why a way that holds the whole matrix is not tried; empty where it fits, or looks after itself."""
    needed = BYTES_A_CELL.get(way, 0) * frames[0] * frames[1] / _GIB
    return f"needs {needed:.1f} GiB, of {limit_gib:.1f} GiB free" if needed > limit_gib else ""


def free_gib() -> float:
    """Memory that may be used without pressing others on the machine."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    available = next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
    return max(0.0, available * 1024 / _GIB - _SPARE_GIB)


def warp(row: Row, job: dict[str, Any], python: str) -> None:
    """One turn of a way in a process of its own, told in the row."""
    row.refused = row.refused or over_memory(row.way, row.frames, free_gib())
    if row.refused or (row.cpu and row.cpu[0] > _SHORT_SECONDS):
        return
    request = Path(job["path"]).with_suffix(".json")
    files.write_json(request, {**job, "way": row.way})
    done = subprocess.run(
        [python, worker.__file__, str(request)], capture_output=True, text=True, env={**os.environ, **_ONE_THREAD}
    )
    if done.returncode:
        said = done.stderr.strip().splitlines()
        row.refused = f"failed with status {done.returncode}: {said[-1] if said else 'no reason given'}"
        return
    told = json.loads(done.stdout.splitlines()[-1])
    row.refused = told.get("refused", "")
    if not row.refused:
        row.cpu.append(told["cpu"])
        row.wall.append(told["wall"])
        row.peak = max(row.peak, told["peak"])


def accuracy(path: np.ndarray, clock: FrameClock, pair: Pair, stretch: float) -> dict[str, float]:
    """How far a path of frames `(p, 2)` lays the notes from the truth; the score's frames are `stretch` times slow."""
    onsets = ways.along(clock.frame_to_time(path), pair.score.notes.onset * stretch)
    return summary(errors(pair.truth, onsets))


def compare(pair: Pair, minutes: float, folder: Path, pythons: dict[str, str], repeat: int) -> Iterator[list[Row]]:
    """All ways on one pair; the rows of each kind of features."""
    recording = audio.load(alignment_truth.render(pair, folder), alignment_truth.SAMPLE_RATE)
    stretch = len(recording) / alignment_truth.SAMPLE_RATE / pair.score.notes.end
    score = audio.load(ways.score_sound(pair, stretch, folder), alignment_truth.SAMPLE_RATE)
    for name, (config, changes) in COMPARED.items():
        settings = load_settings(config, changes)
        clock = features.clock(settings.features)
        job: dict[str, Any] = {
            "norm": settings.norm,
            "step_weights": settings.step_weights,
            "max_memory_gib": settings.max_memory_gib,
            "frame_rate": clock.frame_rate,
        }
        lengths = []
        for side, sound in (("recording", recording), ("score", score)):
            frames = features.extract(sound, alignment_truth.SAMPLE_RATE, settings.features).tonal
            job[side] = str(folder / f"{pair.id}-{name}-{side}.npy")
            np.save(job[side], frames)
            lengths.append(len(frames))
        rows = [Row(name, minutes, (lengths[0], lengths[1]), way) for way in worker.WAYS]
        paths = [folder / f"{pair.id}-{name}-{i}.npy" for i in range(len(rows))]
        take_turns(rows, paths, job, pythons, repeat)
        for row, path in zip(rows, paths, strict=True):
            if row.cpu:
                row.accuracy = accuracy(np.load(path, allow_pickle=False), clock, pair, stretch)
        yield rows


def take_turns(
    rows: Sequence[Row], paths: Sequence[Path], job: dict[str, Any], pythons: dict[str, str], repeat: int
) -> None:
    """Each way once, then each again: what else runs on the machine meanwhile concerns all alike."""
    turns = [(row, path) for _ in range(repeat) for row, path in zip(rows, paths, strict=True)]
    for row, path in tqdm(turns, desc=paths[0].stem, disable=None, leave=False):
        if row.way not in pythons:
            row.refused = "not installed"
        warp(row, {**job, "path": str(path)}, pythons.get(row.way, ""))


def tree_memory(pid: int) -> tuple[int, int]:
    """Bytes that a process and its descendants hold together, and the most that any one of them held."""
    together = most = 0
    waiting = [pid]
    while waiting:
        folder = Path("/proc") / str(waiting.pop())
        with contextlib.suppress(OSError):  # it has ended meanwhile
            status = (folder / "status").read_text()
            together += worker.resident(status)
            most = max(most, worker.resident(status, "VmHWM"))
            for children in folder.glob("task/*/children"):
                waiting += map(int, children.read_text().split())
    return together, most


def watch(command: Sequence[str]) -> tuple[int, str, worker.Spent]:
    """Exit status and last line of standard error of a command, and what it and all that it starts took.

    The peak is read from /proc: a child's `ru_maxrss` begins with what its parent held.
    """
    cpu, wall, peak = _children(), time.perf_counter(), 0
    environment = {**os.environ, **_ONE_THREAD}
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        while True:
            peak = max(peak, *tree_memory(process.pid))
            with contextlib.suppress(subprocess.TimeoutExpired):
                _, said = process.communicate(timeout=_POLL_SECONDS)
                break
    lines = said.strip().splitlines()
    spent = worker.Spent(_children() - cpu, time.perf_counter() - wall, peak)
    return process.returncode, lines[-1] if lines else "", spent


def _children() -> float:
    """CPU seconds of all processes that were started and have ended."""
    times = os.times()
    return times.children_user + times.children_system


def verb(config: str, pair: Pair, score: Path, folder: Path) -> dict[str, Any]:
    """`musicnet align` as a user starts it: what it cost, and how far its labels lie from the truth."""
    target = folder / f"align-{config}"
    font = alignment_truth.soundfont(ways.SCORE_PLAYED_ON)
    options = [f"--output_dir={target}", f"--config={config}", f"--soundfont={font}", "--keep_rejected"]
    status, said, spent = watch(
        [sys.executable, "-m", "musicnet_tf", "align", str(pair.recording), str(score), *options]
    )
    told = {"config": config, **spent._asdict()}
    if status:
        return {**told, "refused": said}
    labels = scores.read_musicnet_csv(target / f"{pair.id}.csv")
    onsets, extra = ways.of_score(pair.score.notes, labels)
    accepted = json.loads((target / f"{pair.id}.json").read_text(encoding="utf-8"))["accepted"]
    return {**told, "accepted": accepted, "extra": extra, "accuracy": summary(errors(pair.truth, onsets))}


HEADER = (
    "| features | minutes | frames | way | CPU s | to multiscale | clock s | peak | > 50 ms | > 100 ms | median |\n"
    "|---|---|---|---|---|---|---|---|---|---|---|"
)


def lines(rows: Sequence[Row]) -> list[str]:
    """Lines of the table, of one length and kind of features, of the quickest turn of each way."""
    base = next((min(row.cpu) for row in rows if row.way == MULTISCALE and row.cpu), float("nan"))
    told = []
    for row in rows:
        begin = f"| {row.features} | {row.minutes:g} | {row.frames[0]} × {row.frames[1]} | {row.way} |"
        if row.refused:
            told.append(f"{begin} refused: {row.refused} | | | | | | |")
            continue
        seconds, size = min(row.cpu), _size(row.peak)
        spent = f"{seconds:.2f} | {seconds / base:.2f} | {min(row.wall):.2f} | {size}"
        told.append(f"{begin} {spent} | {_accuracy(row.accuracy)} |")
    return told


VERB_HEADER = (
    "| `musicnet align --config=` | CPU s | of its length | clock s | peak | > 50 ms | > 100 ms | median |\n"
    "|---|---|---|---|---|---|---|---|"
)


def verb_line(told: dict[str, Any], minutes: float) -> str:
    """A line of the table of whole runs."""
    spent = f"{told['cpu']:.1f} | {told['cpu'] / (60 * minutes):.3f} | {told['wall']:.1f} | {_size(told['peak'])}"
    end = f"refused: {told['refused']} | | |" if "refused" in told else f"{_accuracy(told['accuracy'])} |"
    return f"| {told['config']} | {spent} | {end}"


def _size(count: float) -> str:
    return f"{count / 2**20:.0f} MiB" if count < _GIB else f"{count / _GIB:.2f} GiB"


def _accuracy(told: dict[str, float]) -> str:
    return f"{told['over_50']:.1f}% | {told['over_100']:.1f}% | {told['median']:.1f} ms"


def machine() -> dict[str, Any]:
    """What the numbers hang on."""
    return {
        "cores": os.cpu_count(),
        "architecture": platform.machine(),
        "free_gib": round(free_gib() + _SPARE_GIB, 1),
        "python": platform.python_version(),
        "librosa": metadata.version("librosa"),
        "numba": metadata.version("numba"),
        "synctoolbox": ways.SYNCTOOLBOX,
    }


def define_flags() -> None:
    """The command line. Importing the module defines no flag: one process has a single set of them."""
    flags.DEFINE_string("asap", None, "Folder of ASAP.", required=True)
    flags.DEFINE_string("cache", None, "Folder of what is rendered, and of synctoolbox's environment.", required=True)
    flags.DEFINE_string(
        "output", None, "Folder for the table and what is computed; sounds of scores are kept there.", required=True
    )
    flags.DEFINE_list("minutes", ["1", "5", "18"], "Lengths to measure.")
    flags.DEFINE_string("piece", "Schubert-Wanderer_fantasie", "Piece of ASAP, its folder's parts joined by hyphens.")
    flags.DEFINE_integer("repeat", 3, "Turns of each way that takes less than 20 s.", lower_bound=1)


def _pythons(cache: Path) -> dict[str, str]:
    pythons = dict.fromkeys((EXACT, MULTISCALE, LIBROSA), sys.executable)
    try:
        pythons[SYNCTOOLBOX] = str(ways.install_synctoolbox(cache / "peers"))
    except AlignmentError as error:
        print(error, file=sys.stderr)
    return pythons


def main(argv: list[str]) -> int:
    """Exit status: 1 where the piece is not known."""
    if argv[1:]:
        raise app.UsageError(f"unexpected argument {argv[1]!r}; folders are named by flags")
    values = flags.FLAGS
    entries = {entry.id: entry for entry in alignment_truth.asap_entries(Path(values.asap))}
    if values.piece not in entries:
        print(f"--piece: {values.piece!r} is no piece of {values.asap} with annotated beats", file=sys.stderr)
        return 1
    cache, folder = files.make_folder(values.cache), files.make_folder(values.output)
    pythons, told, rows = _pythons(cache), machine(), []
    table = [f"{values.piece}, one run; {json.dumps(told)}", "", HEADER]
    print("\n".join(table))
    for minutes in map(float, values.minutes):
        pair, score = cut(entries[values.piece], minutes, cache, folder)
        for part in compare(pair, minutes, folder, pythons, values.repeat):
            rows += part
            table += lines(part)
            print("\n".join(table[-len(part) :]), flush=True)
    table += ["", f"The whole, on {minutes:g} minutes:", "", VERB_HEADER]
    print("\n".join(table[-4:]))
    verbs = []
    for config in VERB_CONFIGS:
        verbs.append(verb(config, pair, score, folder))
        table.append(verb_line(verbs[-1], minutes))
        print(table[-1], flush=True)
    files.write_text(folder / "cost.md", "\n".join(table) + "\n")
    files.write_json(
        folder / "cost.json", {"machine": told, "warps": [dataclasses.asdict(row) for row in rows], "align": verbs}
    )
    return 0


if __name__ == "__main__":
    define_flags()
    app.run(main)
