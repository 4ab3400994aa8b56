"""The benchmark of starting up: what it reads and what it measures."""

from __future__ import annotations

import sys

import pytest
import soundfile

from benchmarks import cold_start


def test_imports_are_summed_by_package_without_what_they_import_in_turn() -> None:
    told = (
        "import time: self [us] | cumulative | imported package\n"
        "import time:      1500 |       1500 |   numpy.linalg\n"
        "import time:       500 |       2000 | numpy\n"
        "a line of the program's own\n"
        "import time:   3000000 |    3000100 |       tensorflow.python.ops\n"
    )
    assert cold_start.by_package(told) == pytest.approx({"numpy": 0.002, "tensorflow": 3.0})


def test_a_command_is_measured_and_its_failure_told() -> None:
    busy = cold_start.measure([sys.executable, "-IS", "-c", "sum(range(10**6))"])
    assert 0 < busy.cpu < 60
    assert busy.wall > 0
    with pytest.raises(RuntimeError, match="failed with status 3"):
        cold_start.measure([sys.executable, "-IS", "-c", "raise SystemExit(3)"])


def test_the_best_of_the_turns_after_the_first_is_told(monkeypatch) -> None:
    taken = iter([(0.1, 0.1), (0.2, 0.1), (5, 3), (9, 8), (4, 4), (7, 9)])
    monkeypatch.setattr(cold_start, "measure", lambda command: cold_start.Time(*next(taken)))
    assert cold_start.best({"a": [], "b": []}, repeats=2) == {"a": (4, 3), "b": (7, 8)}


def test_the_sound_is_one_second(tmp_path) -> None:
    cold_start.write_tone(tmp_path / "tone.wav")
    assert soundfile.info(tmp_path / "tone.wav").duration == 1.0
