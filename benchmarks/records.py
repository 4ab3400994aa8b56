"""Audio minutes built into records a minute, against plain librosa feature extraction of the same audio.

    python benchmarks/records.py --data_dir=~/musicnet [--dataset=musicnet] [--max_recordings=6]

Both run in this process, on one core. The job decodes, resamples, cuts, encodes and writes; the peer
decodes, resamples and computes librosa's mel spectrogram, and, apart, its constant-Q transform.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import librosa
from absl import app, flags

from musicnet_tf.datasets import Dataset, Recording
from musicnet_tf.registry import DATASETS
from pipelines import build_records

_DATASET = flags.DEFINE_string("dataset", "musicnet", "Corpus.")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Folder that holds it.", required=True)
_MAX = flags.DEFINE_integer("max_recordings", 6, "Recordings to read.")
RATE = 16000


def timed(work: Callable[[], None]) -> float:
    """Seconds that `work` takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def build(dataset: Dataset) -> None:
    """The job, as `musicnet build_records` runs it."""
    settings = build_records.Settings(dataset, RATE, 30.0, "pcm_s16le", 4)
    with tempfile.TemporaryDirectory() as folder:
        build_records.build(settings, folder, build_records.beam_options("FnApiRunner"))


def main(argv: list[str]) -> None:
    """Prints minutes of audio a minute for the job and its peers, and the ratios."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})

    cls = DATASETS.get(_DATASET.value)
    folder = Path(_DATA_DIR.value).expanduser()

    class Few(cls):  # type: ignore[misc, valid-type]
        """The first recordings of the corpus."""

        def recordings(self) -> list[Recording]:
            return super().recordings()[: _MAX.value]

    dataset = Few(root=folder)
    recordings = dataset.recordings()
    minutes = sum(len(dataset.load_audio(r, RATE)) / RATE / 60 for r in recordings)  # warms the file cache too
    librosa.feature.melspectrogram(y=dataset.load_audio(recordings[0], RATE)[:RATE], sr=RATE)  # compiles

    def mel() -> None:
        for recording in recordings:
            librosa.feature.melspectrogram(
                y=dataset.load_audio(recording, RATE), sr=RATE, n_fft=2048, hop_length=512, n_mels=229
            )

    def cqt() -> None:
        for recording in recordings:
            librosa.cqt(dataset.load_audio(recording, RATE), sr=RATE, hop_length=512, n_bins=88, bins_per_octave=12)

    rows = {"records": timed(lambda: build(dataset)), "librosa mel": timed(mel), "librosa CQT": timed(cqt)}
    print(f"{minutes:.1f} minutes of audio from {len(recordings)} recordings")
    for name, seconds in rows.items():
        ratio = seconds / rows["records"]
        print(
            f"{name:12s} {seconds:7.2f} s  {minutes / seconds * 60:8.1f} min/min/core  {ratio:5.2f} of the job's time"
        )


if __name__ == "__main__":
    app.run(main)
