"""The books of the fault drill see what is lost, doubled and false; and its requests are what they say they are."""

from __future__ import annotations

import collections
import itertools
import json
import os
import shutil
import subprocess
import sys
import threading

import numpy as np
import pytest
from conftest import ROOT

from benchmarks import _fault_drill_requests as requests
from benchmarks import _serving as work
from benchmarks import fault_drill, serving
from benchmarks._fault_drill_ledger import Count, Folder, Ledger, close
from musicnet_tf.errors import VersionGoneError

pytest_plugins = ["tiny_models"]


def booked(asked, came):
    ledger = Ledger()
    for key, wanted in asked.items():
        ledger.ask(key, wanted)
    for key, output in came:
        ledger.take(key, output)
    return ledger.count()


WANTED = {"a": b"1", "b": b"2", "c": b"3"}
RIGHT = list(WANTED.items())


@pytest.mark.parametrize(
    ("came", "count"),
    [
        (RIGHT, Count(3, 0, 0, 0)),
        (RIGHT[:2], Count(3, lost=1, duplicated=0, wrong=0)),
        ([], Count(3, lost=3, duplicated=0, wrong=0)),
        ([*RIGHT, RIGHT[0]], Count(3, lost=0, duplicated=1, wrong=0)),
        ([*RIGHT, *RIGHT, RIGHT[0]], Count(3, lost=0, duplicated=4, wrong=0)),
        ([*RIGHT, ("d", b"4")], Count(3, lost=0, duplicated=1, wrong=0)),
        ([("a", b"2"), *RIGHT[1:]], Count(3, lost=0, duplicated=0, wrong=1)),
        ([("a", b"2"), ("a", b"1"), RIGHT[1]], Count(3, lost=1, duplicated=1, wrong=1)),
    ],
)
def test_the_books_see_what_is_lost_doubled_and_wrong(came, count):
    assert booked(WANTED, came) == count
    assert count.is_clean == (came == RIGHT)


def test_counts_add_up():
    total = Count(3, 1, 0, 0) + Count(4, 0, 2, 3)
    assert total == Count(7, 1, 2, 3)
    assert not total.is_clean


def test_activations_are_the_same_but_for_the_order_of_sums():
    wanted = {"frame": np.full((1, 2, 3), 0.5, np.float32)}
    assert close({"frame": wanted["frame"] + 5e-5}, wanted)
    assert not close({"frame": wanted["frame"] + 5e-4}, wanted)
    assert not close({"frame": wanted["frame"][:, :1]}, wanted)
    assert not close({"onset": wanted["frame"]}, wanted)
    assert not close({}, wanted)
    assert not close({"frame": np.full((1, 2, 3), np.nan, np.float32)}, wanted)


def put(path, content):
    """As outputs are put into place."""
    aside = path.with_name(f".{path.name}")
    aside.write_bytes(content)
    aside.replace(path)


def wait_for(folder, number):
    """Until the watch has seen so many puttings."""
    assert fault_drill.until(lambda: sum(folder.put().values()) >= number, 30)


def test_a_folder_tells_a_file_that_is_put_there_twice(tmp_path):
    with Folder(tmp_path, ".csv") as folder:
        (tmp_path / "below").mkdir()
        put(tmp_path / "below/a.csv", b"1")
        put(tmp_path / "b.csv", b"2")
        wait_for(folder, 2)
        assert folder.account({"below/a": b"1", "b": b"2"}).is_clean
        put(tmp_path / "b.csv", b"2")
        wait_for(folder, 3)
        assert folder.num_files() == 2
    assert folder.put() == {"below/a": 1, "b": 2}
    assert folder.account({"below/a": b"1", "b": b"2"}) == Count(2, 0, 1, 0)
    (tmp_path / "b.csv").unlink()
    assert folder.account({"below/a": b"0", "b": b"2"}) == Count(2, 1, 0, 1), "what is gone again is lost"


def test_a_folder_looks_once_more_at_the_end_and_leaves_alone_what_is_hidden(tmp_path):
    with Folder(tmp_path, ".csv") as folder:
        (tmp_path / ".parts").mkdir()
        put(tmp_path / ".parts/a.csv", b"1")
        put(tmp_path / "a.csv", b"1")
    assert folder.put() == {"a": 1}


def test_a_disk_is_held_to_what_is_wanted(tmp_path):
    (tmp_path / "below").mkdir()
    (tmp_path / ".parts").mkdir()
    for name, content in {"below/a.csv": b"1", "b.csv": b"", "x.csv": b"2", ".parts/c.csv": b"3"}.items():
        (tmp_path / name).write_bytes(content)
    found = fault_drill._found(tmp_path)
    assert found == {"below/a": b"1", "b": b"", "x": b"2"}
    assert fault_drill.account(found, {"below/a": b"1", "b": b"2", "c": b"3"}) == Count(3, 1, 1, 1)


class Swapping:
    """A predictor whose version is swapped away on the calls that are named; hears its version's number."""

    def __init__(self, gone, answers=None):
        self.address = collections.namedtuple("Address", "version")(1)
        self.gone, self.answers, self.calls, self.renewals = set(gone), answers, 0, 0

    def __call__(self, windows):
        self.calls += 1
        if self.calls in self.gone:
            raise VersionGoneError("gone")
        version = self.address.version if self.answers is None else self.answers
        return {"frame": np.full((1, 1, 1), version % 2, np.float32)}

    def renew(self):
        self.address = self.address._replace(version=self.address.version + 1)


HEADS = [[{"frame": np.full((1, 1, 1), which, np.float32)}] * 2 for which in (0, 1)]
WINDOWS = np.zeros((2, 4), np.float32)


def test_a_window_is_asked_again_where_versions_are_swapped_and_held_to_the_one_that_answers():
    ledger, predictor = Ledger(close), Swapping(gone=[2, 3])
    for number in range(3):
        fault_drill.ask_one(predictor, WINDOWS, HEADS, ledger, (0, number))
    assert (predictor.calls, predictor.address.version) == (5, 3)
    assert ledger.count() == Count(3, 0, 0, 0)
    fault_drill.ask_one(Swapping([], answers=2), WINDOWS, HEADS, ledger, (1, 0))
    assert ledger.count() == Count(4, 0, 0, 1), "the other version's answer is wrong"


def test_a_table_says_where_too_little_was_reached():
    rows = [serving.row("a", "1 s", "0.90", "≥ 0.85", True), serving.row("b", "2 s", "0.80", "≥ 0.85", False)]
    lines = work.table(serving.HEADER, [*rows, serving.row("c", "3 s")]).splitlines()
    assert lines[0] == "| what | measured | ratio | wanted | reached |"
    assert lines[2:] == [
        "| a | 1 s | 0.90 | ≥ 0.85 | yes |",
        "| b | 2 s | 0.80 | ≥ 0.85 | **no** |",
        "| c | 3 s |  |  |  |",
    ]


def test_turns_are_taken_in_both_orders():
    order = []

    class Worker:
        def __init__(self, name):
            self.name = name

        def submit(self, call, *args):
            order.append(self.name)
            return self

        def result(self):
            return self.name

    assert serving.turns([Worker("a"), Worker("b")], 3, print) == [["a"] * 3, ["b"] * 3]
    assert "".join(order) == "abbaab"


def test_a_fresh_process_tells_its_own_peak():
    held = np.ones(60 * 2**20, np.int8)  # must not be counted for the child
    spent, small = work.fresh("pass")
    _, large = work.fresh("kept = b'x' * (100 * 2**20)")
    assert large - small == pytest.approx(100, abs=10)
    assert small < 40 < len(held)
    assert spent.cpu > 0 and spent.wall > 0
    with pytest.raises(RuntimeError, match="status 3"):
        work.fresh("import sys; sys.exit(3)")


def test_music_is_cut_and_repeated_to_the_wanted_length(tmp_path):
    import soundfile

    samples, rate = soundfile.read(work.SOURCE)
    path = work.write_audio(tmp_path / "deep/a.wav", 2 * len(samples) / rate)
    written, its_rate = soundfile.read(path)
    assert its_rate == work.RATE
    half = len(written) // 2
    np.testing.assert_array_equal(written[:1000], written[half : half + 1000])
    windows = work.music_windows(3, 400)
    assert windows.shape == (3, 400)
    assert len({window.tobytes() for window in windows}) == 3


# Requests


LENGTH = 32000


def test_malformed_requests_are_of_many_kinds_over_both_protocols():
    made = list(itertools.islice(requests.malformed(np.random.default_rng(0), "short", LENGTH), 200))
    kinds = collections.Counter(request.kind for request in made)
    assert len(kinds) > 40
    assert {bool(request.method) for request in made} == {False, True}
    contents = collections.defaultdict(set)
    for request in made:
        contents[request.kind].add((request.content, request.path))
    assert sum(len(different) > 1 for different in contents.values()) > 0.8 * len(kinds), "others each time"


@pytest.fixture(scope="module")
def server(tiny_export, tmp_path_factory):
    from serving.server import ModelConfig, Server, Settings

    folder = tmp_path_factory.mktemp("served") / "tiny"
    shutil.copytree(tiny_export, folder / "1")
    with Server(Settings((ModelConfig(fault_drill.SHORT, folder),), port=0, rest_api_port=0)) as server:
        server.address = lambda model, scheme="grpc": (
            f"{scheme}://localhost:{server.rest_port if scheme == 'http' else server.grpc_port}/{model}"
        )
        server.length = json.loads((folder / "1/assets.extra/manifest.json").read_text())["spec"]["window_length"]
        yield server


def test_the_server_refuses_what_is_malformed_and_loses_nothing_else(server, monkeypatch):
    from musicnet_tf import inference
    from serving import client

    windows = work.music_windows(2, server.length)
    with client.connect(server.address(fault_drill.SHORT)) as predictor:
        heads = [[predictor(window[np.newaxis]) for window in windows]] * 2
        ledger, ended = Ledger(close), threading.Event()

        def ask():
            for number in itertools.count():
                fault_drill.ask_one(predictor, windows, heads, ledger, (0, number))
                if ended.is_set():
                    return

        asking = threading.Thread(target=ask)
        asking.start()
        assert not fault_drill.send_malformed(server, 60, server.length)
        for share in (0.0, 0.5, 1.0):
            requests.leave_rest(f"localhost:{server.rest_port}", fault_drill.SHORT, windows, share)
            requests.leave_grpc(f"localhost:{server.grpc_port}", fault_drill.SHORT, windows, share / 100)
        ended.set()
        asking.join()
        assert ledger.count().wanted > 0
        assert ledger.count().is_clean

    sender = requests.Sender(f"localhost:{server.grpc_port}", f"localhost:{server.rest_port}")
    well_formed = requests.Malformed(
        "not malformed",
        json.dumps({"inputs": [0], "signature_name": inference.DESCRIBE}).encode(),
        f"/v1/models/{fault_drill.SHORT}:predict",
        "POST",
    )
    assert sender.fault(well_formed).startswith("not malformed: 200"), "what is answered is told"
    monkeypatch.setattr(sender, "_send_rest", lambda request: ("400", 'Traceback: File "x"'))
    assert "Traceback" in sender.fault(well_formed)
    sender.close()


@pytest.mark.slow
def test_a_short_drill_is_clean():
    command = [sys.executable, "-m", "benchmarks.fault_drill", "--scale=0.01", "--drills=killed,many"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env={**os.environ})
    assert done.returncode == 0, done.stderr[-2000:]
    assert "| killed | 2 kills | 12 | 0 | 0 | 0 | 0 |" in done.stdout
    assert "| many | 100 requests | 100 | 0 | 0 | 0 | 0 |" in done.stdout
