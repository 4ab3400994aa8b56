"""A model in TensorFlow beside the same model as TFLite files: start, speed, size, and how far activations differ.

    python -m benchmarks.inference [--model=NAME] [--window_frames=1000] [--seconds=60] [--rounds=3]

All exports are made and run in this one process, which hears the same stretch of music by each in turn; CPU time
counts, as it depends less on what else the machine does. Each also starts in a process of its own, to its first answer.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from absl import app, flags

EXAMPLE = Path(__file__).parents[1] / "examples/bach_bwv866_fugue.ogg"
FLAGS = flags.FLAGS
_START = """
import sys, time
began = time.perf_counter()
from musicnet_tf import inference
import numpy as np
model = inference.load(sys.argv[1], sys.argv[2])
model(np.zeros((1, model.manifest.geometry.window_length), np.float32))
wall, cpu = time.perf_counter() - began, time.process_time()
with open("/proc/self/status") as file:  # what getrusage tells may be the peak of the process that began this one
    peak = next(int(line.split()[1]) for line in file if line.startswith("VmHWM"))
print(wall, cpu, peak / 1024)
"""


def define_flags() -> None:
    """The command line. Importing the module defines no flag: one process has a single set of them."""
    flags.DEFINE_string("model", "notes_harmonic_cnn", "A shipped model's name, or a run's folder.")
    flags.DEFINE_integer("window_frames", 1000, "Frames in the longer windows.", lower_bound=1)
    flags.DEFINE_integer("seconds", 60, "Music to hear.", lower_bound=1)
    flags.DEFINE_integer("rounds", 3, "Turns; the median counts.", lower_bound=1)


def exports(folder: Path) -> Iterator[tuple[str, str, Path]]:
    """What is compared: its name, its runtime and its folder, the SavedModel first."""
    from musicnet_tf import export
    from musicnet_tf.lite import predictor

    runtime = "lite" if predictor.runtime() else "tensorflow"
    model, longer = FLAGS.model, FLAGS.window_frames
    yield "SavedModel", "tensorflow", export.export(model, folder / "saved")
    yield "SavedModel, longer windows", "tensorflow", export.export(model, folder / "long", None, longer)
    yield "TFLite", runtime, export.export(model, folder / "lite", form="tflite")
    for precision in ("float32", "int8"):
        made = export.export(model, folder / precision, None, longer, "tflite", precision)  # type: ignore[arg-type]
        yield f"TFLite {precision}, longer windows", runtime, made


def started(folder: Path, runtime: str) -> tuple[float, float, float]:
    """A process of its own up to its first answer: seconds, CPU seconds, peak MiB."""
    outcome = subprocess.run(
        [sys.executable, "-c", _START, str(folder), runtime], check=True, capture_output=True, text=True
    )
    wall, cpu, peak = map(float, outcome.stdout.split())
    return wall, cpu, peak


def main(argv: list[str]) -> None:
    """Prints a row for each export."""
    from musicnet_tf import audio, inference, windowing

    with tempfile.TemporaryDirectory() as folder:
        made = list(exports(Path(folder)))
        loaded = [inference.load(path, runtime) for _, runtime, path in made]  # type: ignore[arg-type]
        samples = audio.load(EXAMPLE, loaded[0].manifest.geometry.clock.sample_rate)
        rate = loaded[0].manifest.geometry.clock.sample_rate
        samples = np.resize(samples, FLAGS.seconds * rate)
        cpu, wall = np.zeros((2, FLAGS.rounds + 1, len(loaded)))
        heard: list[dict[str, np.ndarray]] = [{} for _ in loaded]
        for turn in range(FLAGS.rounds + 1):  # the first warms up
            for place, model in enumerate(loaded):
                began = time.process_time(), time.perf_counter()
                heard[place] = windowing.posteriorgram(samples, model.manifest.geometry, model)
                cpu[turn, place] = time.process_time() - began[0]
                wall[turn, place] = time.perf_counter() - began[1]
        cpu, wall = np.median(cpu[1:], axis=0), np.median(wall[1:], axis=0)
        print(
            "| model | start: s, CPU s, MiB | hour of audio: CPU s, ratio | wall s, ratio | MB | largest difference |"
        )
        print("|---|---|---|---|---|---|")
        for place, (name, runtime, path) in enumerate(made):
            size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) / 1e6
            difference = max(float(np.abs(heard[place][head] - heard[0][head]).max()) for head in heard[0])
            start = "{:.2f}, {:.2f}, {:.0f}".format(*started(path, runtime))
            hour = 3600 / FLAGS.seconds
            print(
                f"| {name} ({loaded[place].runtime}) | {start} | {cpu[place] * hour:.1f}, {cpu[0] / cpu[place]:.2f} |"
                f" {wall[place] * hour:.1f}, {wall[0] / wall[place]:.2f} | {size:.2f} | {difference:.1e} |",
                flush=True,
            )


if __name__ == "__main__":
    define_flags()
    app.run(main)
