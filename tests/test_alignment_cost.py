"""What the benchmark of alignment measures: the right cut, the right memory, the right place of a path."""

from __future__ import annotations

import json
import mmap
import os
import subprocess
import sys
import time
from pathlib import Path

import librosa
import mido
import numpy as np
import pytest

from benchmarks import _alignment_cost_pairs as pairs
from benchmarks import _alignment_cost_worker as worker
from benchmarks import alignment_cost as cost
from benchmarks.alignment_truth import Pair
from musicnet_tf import scores
from musicnet_tf.events import Notes, Score
from musicnet_tf.timebase import FrameClock

MIB = 2**20
HOLD = "import sys; held = b'x' * ({} << 20); print(flush=True); sys.stdin.read()"


@pytest.fixture
def job(tmp_path):
    """Unit frames of a sequence and of the same at another tempo, and what a worker is told of them."""
    rng = np.random.default_rng(0)
    frames = rng.random((300, 12)).astype(np.float32)
    frames /= np.linalg.norm(frames, axis=1, keepdims=True)
    slow = frames[np.repeat(np.arange(300), rng.integers(1, 4, 300))]
    np.save(tmp_path / "recording.npy", slow)
    np.save(tmp_path / "score.npy", frames)
    return {
        "recording": str(tmp_path / "recording.npy"),
        "score": str(tmp_path / "score.npy"),
        "path": str(tmp_path / "path.npy"),
        "norm": "cosine",
        "step_weights": [1, 1, 1],
        "max_memory_gib": 1.0,
        "frame_rate": 86.0,
    }


@pytest.mark.parametrize(
    ("seconds", "beat"), [(0.5, 0.0), (1.05, 1.0), (2.5, 2.0), (3.9, 3.0), (4.5, float("inf"))], ids=str
)
def test_the_score_is_cut_at_the_first_chord_that_is_played_too_late(seconds: float, beat: float) -> None:
    start_beat = np.array([0.0, 1, 1, 1, 2, 2, 3])
    truth = np.array([1.0, 1.9, 2.1, 9.0, 2.9, np.nan, 4.0])  # one note of the second chord is matched wrongly
    assert pairs.first_unplayed(start_beat, truth, seconds) == beat


def test_a_midi_file_that_is_cut_keeps_its_tempi_and_ends_what_sounds(tmp_path) -> None:
    midi = mido.MidiFile(ticks_per_beat=480)
    conductor, track = mido.MidiTrack(), mido.MidiTrack()
    conductor += [
        mido.MetaMessage("time_signature", numerator=3, denominator=4),
        mido.MetaMessage("set_tempo", tempo=1_000_000),
        mido.MetaMessage("set_tempo", tempo=500_000, time=480),
        mido.MetaMessage("set_tempo", tempo=250_000, time=2000),
    ]
    track += [
        mido.Message("note_on", note=60, velocity=80),
        mido.Message("note_on", note=60, velocity=0, time=480),  # a quarter note at 60 a minute
        mido.Message("note_on", note=64, velocity=80),
        mido.Message("note_on", note=67, velocity=80, time=240),
        mido.Message("note_on", note=72, velocity=80, time=240),  # on the cut
        mido.Message("note_off", note=64, time=480),
        mido.Message("note_off", note=67),
        mido.Message("note_off", note=72),
    ]
    midi.tracks += [conductor, track]
    midi.save(tmp_path / "whole.mid")
    pairs.cut_midi(tmp_path / "whole.mid", 2.0, tmp_path / "cut.mid")
    notes = scores.read_score(tmp_path / "cut.mid").notes
    assert notes.pitch.tolist() == [60, 64, 67]
    np.testing.assert_allclose(notes.onset, [0, 1, 1.25])
    np.testing.assert_allclose(notes.offset, [1, 1.5, 1.5])


def test_a_midi_file_that_is_not_cut_stays_as_it_is(tmp_path) -> None:
    midi = mido.MidiFile()
    midi.tracks.append(mido.MidiTrack([mido.Message("note_on", note=60), mido.Message("note_off", note=60, time=99)]))
    midi.save(tmp_path / "whole.mid")
    pairs.cut_midi(tmp_path / "whole.mid", float("inf"), tmp_path / "cut.mid")
    assert list(mido.MidiFile(tmp_path / "cut.mid"))[:2] == list(mido.MidiFile(tmp_path / "whole.mid"))[:2]


@pytest.mark.parametrize("way", [cost.EXACT, cost.MULTISCALE, cost.LIBROSA])
@pytest.mark.parametrize("norm", ["cosine", "l2"])
def test_all_ways_find_a_path_of_the_cost_that_librosa_finds(job, way, norm) -> None:
    told = worker.run({**job, "way": way, "norm": norm})
    path = np.load(job["path"])
    x, y = np.load(job["recording"]).astype(float), np.load(job["score"]).astype(float)
    costs = 1 - x @ y.T if norm == "cosine" else np.linalg.norm(x[:, np.newaxis] - y, axis=2)
    least = librosa.sequence.dtw(C=costs, backtrack=False)[-1, -1]
    assert costs[path[:, 0], path[:, 1]].sum() == pytest.approx(least, abs=2e-3)
    assert path[0].tolist() == [0, 0] and path[-1].tolist() == [len(x) - 1, len(y) - 1]
    assert told["cpu"] > 0 and told["wall"] > 0


def test_exact_refuses_beforehand_with_the_size_that_it_needs(job) -> None:
    np.save(job["recording"], np.zeros((40000, 1), np.float32))
    np.save(job["score"], np.zeros((30000, 1), np.float32))
    told = worker.run({**job, "way": cost.EXACT})
    assert "needs 1.1 GiB" in told["refused"] and "cpu" not in told  # 1.2e9 cells of a byte


def test_a_worker_of_its_own_tells_what_the_warp_held(job, tmp_path) -> None:
    rng = np.random.default_rng(0)
    for side in ("recording", "score"):
        np.save(job[side], rng.random((3000, 2), dtype=np.float32))
    row = cost.Row("any", 1.0, (3000, 3000), cost.LIBROSA)
    cost.warp(row, job, sys.executable)
    needed = cost.BYTES_A_CELL[cost.LIBROSA] * 9e6
    assert len(row.cpu) == len(row.wall) == 1 and not row.refused
    assert 0.95 * needed < row.peak < 1.2 * needed


def test_a_worker_that_fails_is_told_with_its_last_word(job) -> None:
    row = cost.Row("any", 1.0, (1, 1), cost.EXACT)
    cost.warp(row, {**job, "recording": "nowhere.npy"}, sys.executable)
    assert row.refused.startswith("failed with status 1") and "nowhere.npy" in row.refused
    assert not row.cpu


def test_ways_take_turns_and_a_long_one_takes_but_one(monkeypatch, tmp_path) -> None:
    spent = {cost.EXACT: 30.0, cost.MULTISCALE: 1.0}
    order = []

    def run(command, **_):
        way = json.loads(Path(command[2]).read_text())["way"]
        order.append(way)
        told = {"cpu": spent[way], "wall": 1.0, "peak": len(order)}
        return subprocess.CompletedProcess(command, 0, json.dumps(told), "")

    monkeypatch.setattr(cost.subprocess, "run", run)
    ways = (cost.EXACT, cost.MULTISCALE, cost.SYNCTOOLBOX)
    rows = [cost.Row("any", 1.0, (1, 1), way) for way in ways]
    paths = [tmp_path / f"{i}.npy" for i in range(3)]
    cost.take_turns(rows, paths, {}, {cost.EXACT: "python", cost.MULTISCALE: "python"}, 3)
    assert order == [cost.EXACT, cost.MULTISCALE, cost.MULTISCALE, cost.MULTISCALE]
    assert [row.cpu for row in rows] == [[30.0], [1.0, 1.0, 1.0], []]
    assert [row.peak for row in rows] == [1, 4, 0]
    assert rows[2].refused == "not installed"


def test_what_does_not_fit_is_refused_by_arithmetic() -> None:
    frames = (2**16, 2**16)  # 2^32 cells: 80 GiB for librosa at 20 bytes a cell
    assert cost.over_memory(cost.LIBROSA, frames, 79.0) == "needs 80.0 GiB, of 79.0 GiB free"
    assert cost.over_memory(cost.LIBROSA, frames, 80.0) == ""
    assert cost.over_memory(cost.MULTISCALE, frames, 0.1) == ""


def test_the_peak_of_work_is_that_of_what_it_held_for_a_while() -> None:
    def work() -> np.ndarray:
        with mmap.mmap(-1, 32 * MIB) as held:  # malloc might give memory that the process holds already
            for _ in range(32):
                held.write(b"x" * MIB)
            return np.zeros(1)

    _, spent = worker.measured(work)
    assert 31 * MIB < spent.peak < 48 * MIB
    _, again = worker.measured(lambda: np.zeros(1))
    assert again.peak < 4 * MIB  # the peak before is forgotten
    assert again.wall < spent.wall


def test_waiting_takes_time_on_the_clock_alone() -> None:
    def work() -> np.ndarray:
        time.sleep(0.3)
        return np.zeros(1)

    _, spent = worker.measured(work)
    assert spent.wall >= 0.3 > 0.1 > spent.cpu


def test_memory_of_a_tree_counts_children_of_children() -> None:
    inner = [sys.executable, "-c", HOLD.format(64)]
    outer = f"import subprocess; held = b'x' * (32 << 20); subprocess.run({inner!r})"
    before, _ = cost.tree_memory(os.getpid())
    with subprocess.Popen([sys.executable, "-c", outer], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdin is not None
        process.stdout.readline()
        together, most = cost.tree_memory(process.pid)
        after, _ = cost.tree_memory(os.getpid())
        process.stdin.close()
    assert 96 * MIB < together < 140 * MIB  # two interpreters beside
    assert 64 * MIB < most < 90 * MIB
    assert after - before > 96 * MIB
    assert cost.tree_memory(process.pid) == (0, 0)


def test_a_command_is_watched_to_its_end() -> None:
    code = "import sys, time; held = b'x' * (64 << 20); time.sleep(0.4); sys.exit('this is why')"
    start = time.perf_counter()
    status, said, spent = cost.watch([sys.executable, "-c", code])
    assert (status, said) == (1, "this is why")
    assert 0.4 <= spent.wall <= time.perf_counter() - start
    assert 64 * MIB < spent.peak < 100 * MIB


def test_the_time_of_a_command_counts_what_it_starts() -> None:
    spin = "import time; end = time.process_time() + 0.3\nwhile time.process_time() < end: pass"
    _, _, spent = cost.watch(
        [sys.executable, "-c", f"import subprocess, sys; subprocess.run([sys.executable, '-c', {spin!r}])"]
    )
    assert 0.3 <= spent.cpu < 1.5


def test_a_path_is_judged_where_it_lays_the_notes() -> None:
    onset = np.array([1.0, 2.0, 3.0])
    zero = np.zeros(3, np.int64)
    notes = Notes(onset, onset + 0.5, zero + 60, zero + 80, zero)
    pair = Pair("", "", "", Score(notes), notes, np.array([2.0, 4.07, np.nan]))
    clock = FrameClock(100, 1)
    frames = np.arange(601)
    told = cost.accuracy(np.stack([frames, frames], axis=1), clock, pair, 2.0)  # laid at 2, 4 and 6 seconds
    assert told["notes"] == 2
    assert (told["over_50"], told["over_100"]) == (50.0, 0.0)
    assert told["median"] == pytest.approx(0.0, abs=1e-6)


def test_the_table_tells_the_quickest_turn_against_ours() -> None:
    judged = {"over_50": 12.34, "over_100": 5.0, "median": 9.99}
    rows = [
        cost.Row("chroma", 5.0, (10, 20), cost.MULTISCALE, [3.0, 2.0], [3.5, 4.5], 3 * MIB, "", judged),
        cost.Row("chroma", 5.0, (10, 20), cost.LIBROSA, [5.0], [6.0], 2560 * MIB, "", judged),
        cost.Row("chroma", 5.0, (10, 20), cost.EXACT, refused="needs 7 GiB"),
    ]
    ours, peer, refused = cost.lines(rows)
    assert ours == "| chroma | 5 | 10 × 20 | ours, multiscale | 2.00 | 1.00 | 3.50 | 3 MiB | 12.3% | 5.0% | 10.0 ms |"
    assert (
        peer
        == "| chroma | 5 | 10 × 20 | librosa.sequence.dtw | 5.00 | 2.50 | 6.00 | 2.50 GiB | 12.3% | 5.0% | 10.0 ms |"
    )
    assert "refused: needs 7 GiB" in refused
    assert {line.count("|") for line in (ours, peer, refused)} == {cost.HEADER.splitlines()[0].count("|")}


def test_a_whole_run_is_told_against_the_length_of_the_recording() -> None:
    told = {"config": "best", "cpu": 54.0, "wall": 60.0, "peak": 600 * MIB}
    judged = {"over_50": 1.0, "over_100": 0.5, "median": 6.0}
    done = cost.verb_line({**told, "accuracy": judged}, 18)
    assert done == "| best | 54.0 | 0.050 | 60.0 | 600 MiB | 1.0% | 0.5% | 6.0 ms |"
    refused = cost.verb_line({**told, "refused": "too large"}, 18)
    assert "refused: too large" in refused
    assert {line.count("|") for line in (done, refused)} == {cost.VERB_HEADER.splitlines()[0].count("|")}


def test_importing_the_benchmark_defines_no_flag() -> None:
    code = (
        "from absl import app, flags; before = set(flags.FLAGS); import benchmarks.alignment_cost;"
        " import json; print(json.dumps(sorted(set(flags.FLAGS) - before)))"
    )
    root = Path(__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=True)
    assert json.loads(done.stdout) == []
