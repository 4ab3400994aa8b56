"""What `make` hands on to the programs it runs, whatever a file is called."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import ROOT

pytestmark = pytest.mark.skipif(not shutil.which("make"), reason="make is not installed")


@pytest.fixture
def make(tmp_path: Path):
    """Calls `make` with programs that print what they are given, an argument a line; returns those lines."""
    tools = tmp_path / "venv/bin"
    tools.mkdir(parents=True)
    for name in ("musicnet", "python"):
        (tools / name).write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
        (tools / name).chmod(0o755)
    installed = tmp_path / "installed"
    installed.touch()  # later than the lock: nothing is to be installed

    def call(target: str, **variables: str) -> list[str]:
        given = [f"{key}={value}" for key, value in variables.items()]
        places = [f"BIN={tools}", f"INSTALLED={installed}"]
        done = subprocess.run(["make", "-s", target, *places, *given], cwd=ROOT, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout.splitlines()

    return call


@pytest.mark.parametrize(
    ("audio", "files"),
    [
        ("it's missing.wav", ["it's missing.wav"]),
        ('a "quote.wav', ['a "quote.wav']),
        ("one.wav two.mp3", ["one.wav", "two.mp3"]),
        ("'my song.wav' other.flac", ["my song.wav", "other.flac"]),
        ("examples/README.md", ["examples/README.md"]),
    ],
)
def test_transcribe_takes_names_as_they_are_meant(make, audio, files):
    assert make("transcribe", AUDIO=audio, OUT="my notes") == ["transcribe", *files, "--output_dir=my notes"]


def test_a_file_that_is_there_is_one_name_with_spaces_and_apostrophe(make, tmp_path):
    path = tmp_path / "it's a song.wav"
    path.touch()
    assert make("transcribe", AUDIO=str(path), MODEL="x", FORMATS="csv") == [
        *("transcribe", str(path), "--output_dir=out", "--model=x", "--formats=csv")
    ]


def test_benchmark_runs_the_one_list_of_benchmarks(make):
    assert make("benchmark") == ["-m", "benchmarks"]
    assert make("benchmark", CORPUS="it's mine", RECORDS="a b") == [
        *("-m", "benchmarks", "--corpus=it's mine", "--records=a b")
    ]
