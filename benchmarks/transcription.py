"""Real-time factor and peak memory of `musicnet transcribe` on a minute and on an hour of music.

    python benchmarks/transcription.py [--audio=examples/FILE] [--model=NAME] [--seconds=60,3600]

The recording is repeated to the wanted length. Each run is a process of its own, as a user starts it; the
peak is its maximum resident set. What counts is the ratio of the peaks: memory must not grow with length.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile
from absl import app, flags

from musicnet_tf import audio

_AUDIO = flags.DEFINE_string("audio", None, "Recording to repeat; the example by default.")
_MODEL = flags.DEFINE_string("model", "notes_harmonic_cnn", "Model, as for `musicnet transcribe`.")
_SECONDS = flags.DEFINE_list("seconds", ["60", "3600"], "Lengths to measure.")
_FORMATS = flags.DEFINE_string("formats", "midi,csv,npz", "Output formats.")

EXAMPLES = Path(__file__).parents[1] / "examples"


def repeat(source: Path, seconds: float, target: Path) -> None:
    """Writes `seconds` of `source`, over and over, as 16-bit WAV."""
    samples, rate = audio.load(source, 16000), 16000
    with soundfile.SoundFile(target, "w", rate, 1, "PCM_16") as file:
        left = round(seconds * rate)
        while left > 0:
            file.write(samples[:left])
            left -= len(samples)


def measure(command: list[str], *flag: str) -> tuple[float, float]:
    """Wall-clock seconds and peak resident MB of a command.

    Raises:
        RuntimeError: where it fails.
    """
    start = time.perf_counter()
    process = subprocess.Popen([*command, *flag], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise RuntimeError(f"{' '.join(command)} failed with status {os.waitstatus_to_exitcode(status)}")
    return time.perf_counter() - start, usage.ru_maxrss / 1024


def main(argv: list[str]) -> None:
    """Prints a row for each length."""
    source = (
        Path(_AUDIO.value) if _AUDIO.value else next(p for p in EXAMPLES.iterdir() if p.suffix in (".ogg", ".flac"))
    )
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for seconds in map(float, _SECONDS.value):
            recording = Path(folder) / f"{seconds:g}s.wav"
            repeat(source, seconds, recording)
            wall, peak = measure(
                [sys.executable, "-m", "musicnet_tf", "transcribe", str(recording), f"--model={_MODEL.value}"],
                f"--output_dir={folder}",
                f"--formats={_FORMATS.value}",
            )
            rows.append((seconds, wall, peak))
            print(f"{seconds:6.0f} s of audio: {wall:7.1f} s, start-up included; peak {peak:6.0f} MB", flush=True)
    seconds, walls, peaks = np.array(rows).T
    if len(rows) > 1:
        factor = (walls[-1] - walls[0]) / (seconds[-1] - seconds[0])
        print(f"real-time factor beyond start-up {factor:.4f}; peak memory grew {peaks[-1] / peaks[0]:.3f} times")


if __name__ == "__main__":
    app.run(main)
