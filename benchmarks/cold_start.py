"""What a person waits for who starts `musicnet transcribe` on one second of sound, beside `import tensorflow`.

    python -m benchmarks.cold_start [--model=NAME] [--repeats=5] [--top=15]

Commands take turns, each from its start to its end in a process of its own, and the best of their times is told, of the
wall clock and of the CPU: the latter moves little where the machine does other work too. What imports cost is told by
the interpreter itself (`-X importtime`), package by package, without what each imports in its turn.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
from absl import app, flags
from tqdm import tqdm

from musicnet_tf import inference

SAMPLE_RATE = 16000
_IMPORTED = re.compile(r"^import time:\s+(\d+) \|\s+\d+ \|\s+(\S+)$", re.MULTILINE)


class Time(NamedTuple):
    """Seconds by the wall clock and of the CPU, in this process's children or in the system for them."""

    wall: float
    cpu: float


def measure(command: list[str]) -> Time:
    """Seconds from the start of a command to its end. Raises RuntimeError where it fails."""
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} failed with status {process.returncode}")
    return Time(wall, usage.ru_utime + usage.ru_stime)


def best(commands: dict[str, list[str]], repeats: int) -> dict[str, Time]:
    """The least seconds of each; the commands take turns. The first turn, which fills caches of files, is one more."""
    taken: dict[str, list[Time]] = {name: [] for name in commands}
    for _ in tqdm(range(repeats + 1), desc="turns", disable=None, leave=False):
        for name, command in commands.items():
            taken[name].append(measure(command))
    return {name: Time(*(min(column) for column in zip(*times[1:], strict=True))) for name, times in taken.items()}


def by_package(importtime: str) -> Counter[str]:
    """Seconds that each package's own modules took to import, from what `-X importtime` writes."""
    seconds: Counter[str] = Counter()
    for microseconds, module in _IMPORTED.findall(importtime):
        seconds[module.partition(".")[0]] += int(microseconds) / 1e6
    return seconds


def write_tone(path: Path) -> None:
    """One second of an a' of 440 Hz that fades, as 16-bit WAV."""
    times = np.arange(SAMPLE_RATE) / SAMPLE_RATE
    soundfile.write(path, 0.5 * np.sin(2 * np.pi * 440 * times) * np.exp(-2 * times), SAMPLE_RATE, subtype="PCM_16")


def define_flags() -> None:
    """The command line. Importing the module defines no flag: one process has a single set of them."""
    flags.DEFINE_string("model", inference.DEFAULT_MODEL, "Model, as for `musicnet transcribe`.")
    flags.DEFINE_integer("repeats", 5, "Turns, of which the best counts.", lower_bound=1)
    flags.DEFINE_integer("top", 15, "Packages whose import is told.", lower_bound=0)


def main(argv: list[str]) -> None:
    """Prints a table of commands and one of packages."""
    values = flags.FLAGS
    musicnet = ["-m", "musicnet_tf"]
    with tempfile.TemporaryDirectory() as folder:
        sound = Path(folder) / "one_second.wav"
        write_tone(sound)
        transcribe = [*musicnet, "transcribe", str(sound), f"--output_dir={folder}", f"--model={values.model}"]
        arguments = {
            "python -c 'import tensorflow'": ["-c", "import tensorflow"],
            "python -c pass": ["-c", "pass"],
            "musicnet --help": [*musicnet, "--help"],
            "musicnet transcribe --help": [*musicnet, "transcribe", "--help"],
            "musicnet transcribe --formats=midi": [*transcribe, "--formats=midi"],
            "musicnet transcribe": transcribe,
        }
        times = best({name: [sys.executable, *rest] for name, rest in arguments.items()}, values.repeats)
        unit = next(iter(times.values()))
        print("| command | wall clock | CPU | of `import tensorflow` | by CPU |\n|---|---|---|---|---|")
        for name, taken in times.items():
            ratios = f"{taken.wall / unit.wall:.2f} | {taken.cpu / unit.cpu:.2f}"
            print(f"| `{name}` | {taken.wall:.2f} s | {taken.cpu:.2f} s | {ratios} |")
        told = subprocess.run([sys.executable, "-X", "importtime", *transcribe], capture_output=True, text=True).stderr
    seconds = by_package(told)
    print(f"\nImports of the last, {seconds.total():.2f} s together:\n\n| package | seconds | share |\n|---|---|---|")
    for package, taken in seconds.most_common(values.top):
        print(f"| {package} | {taken:.2f} | {taken / seconds.total():.0%} |")


if __name__ == "__main__":
    define_flags()
    app.run(main)
