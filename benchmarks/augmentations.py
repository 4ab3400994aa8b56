"""What each transform of sound costs, a second of audio at a time, beside audiomentations.

    python -m benchmarks.augmentations [--seconds=10] [--sample_rate=16000] [--repeats=20] [--peers=audiomentations]

Peers are installed into environments of their own below `--output_dir`; one that cannot be is told and left out.
torchaudio is none of them, whose release on PyPI does not load beside a PyTorch for processors alone. All hear the same
sound in one run, one after the other, each on one core. CPU seconds; ratios are ours to a peer's, below 1 where ours
takes less. What training does in TensorFlow alone is measured in this process.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from absl import app, flags

from benchmarks import _augmentations_driver
from benchmarks.peers import environments
from benchmarks.peers.environments import Environment
from musicnet_tf.errors import ConfigError, ModelError
from musicnet_tf.registry import nearest

DRIVER = Path(_augmentations_driver.__file__)
PEERS = {
    "audiomentations": Environment(
        "audiomentations",
        (("audiomentations==0.43.1", "fast-mp3-augment==0.2.0"),),
        "audiomentations",
    ),
}
ONE_CORE = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS"), "1")

Costs = dict[str, float | str]


def define_flags() -> None:
    """The command line."""
    flags.DEFINE_float("seconds", 10.0, "Of sound.", lower_bound=1.0)
    flags.DEFINE_integer("sample_rate", 16000, "Of the sound, in hertz.", lower_bound=8000)
    flags.DEFINE_integer("repeats", 20, "Of each transform.", lower_bound=1)
    flags.DEFINE_list("peers", list(PEERS), "Peers to measure.")
    flags.DEFINE_string("output_dir", "out/augmentations", "Folder for environments.")


def music(seconds: float, rate: int) -> np.ndarray:
    """Decaying notes over soft noise, float32 in [-0.5, 0.5]."""
    rng, time = np.random.default_rng(0), np.arange(round(seconds * rate)) / rate
    sound = 0.01 * rng.standard_normal(len(time))
    for onset in np.arange(0.0, seconds, 0.2):
        after, pitch = np.maximum(time - onset, 0.0), 110.0 * 2 ** (rng.integers(36) / 12)
        sound += (
            (time >= onset) * np.exp(-3 * after) * sum(np.sin(2 * np.pi * h * pitch * after) / h for h in (1, 2, 3))
        )
    return (0.5 * sound / np.abs(sound).max()).astype(np.float32)


def response(rate: int) -> np.ndarray:
    """Half a second of decaying noise, float32."""
    time = np.arange(rate // 2) / rate
    return (np.random.default_rng(1).standard_normal(len(time)) * 10 ** (-6 * time)).astype(np.float32)


def cost(library: str, python: Path, folder: Path, rate: int, repeats: int) -> Costs:
    """Of each transform, in CPU seconds a second of sound, or why it could not be had.

    Raises:
        ModelError: where the library cannot be run at all, in one line.
    """
    command = [str(python), str(DRIVER), library, "sound.npy", str(rate), "response.npy", str(repeats)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env={**os.environ, **ONE_CORE})
    if done.returncode:
        raise ModelError(f"{library}: could not be measured ({environments.last_line(done.stderr)})")
    return json.loads(done.stdout.splitlines()[-1])


def in_graph(seconds: float, rate: int, repeats: int) -> Costs:
    """What `augment` has in TensorFlow, of a window of so many seconds; mixing by pairs, of a batch of eight."""
    import tensorflow as tf

    from musicnet_tf import augment

    sound, seed, length = music(seconds, rate), tf.constant([0, 1]), round(0.8 * seconds * rate)
    start, scale = tf.constant(0, tf.int64), tf.constant(1.2, tf.float64)
    batch = tf.stack([tf.constant(sound)] * 8)
    transforms = {
        "gain": (lambda x: augment.gain(x, -6.0), 1.0),
        "noise, white": (lambda x: augment.add_noise(x, 20.0, seed), 1.0),
        "tilt": (lambda x: augment.tilt(x, rate, 2.0), 1.0),
        "faster and higher": (lambda x: augment.resample(x, start, scale, length), 0.8),
        "mixup": (lambda x: augment.mixup(batch, {}, 0.4, seed)[0], 8.0),
    }
    return {
        name: _augmentations_driver.measured(tf.function(transform), sound, repeats) / (seconds * share)
        for name, (transform, share) in transforms.items()
    }


def table(costs: dict[str, Costs]) -> str:
    """Milliseconds a second of sound, ours and, where a peer has the like, its own and ours to it."""
    own, peers = costs["ours"], [name for name in costs if name != "ours"]
    header = ["transform", "ms", *(f"{peer}: ms, ours to it" for peer in peers)]
    rows = [[name, _milliseconds(v), *(_beside(v, costs[peer].get(name)) for peer in peers)] for name, v in own.items()]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, ["---"] * len(header), *rows))


def _milliseconds(value: float | str) -> str:
    return value if isinstance(value, str) else f"{1000 * value:.3f}"


def _beside(own: float | str, other: float | str | None) -> str:
    if other is None:
        return ""
    if isinstance(own, str) or isinstance(other, str):
        return _milliseconds(other)
    return f"{_milliseconds(other)}, {own / other:.2f}"


def main(argv: list[str]) -> None:
    """Prints the tables."""
    seconds, rate, repeats = flags.FLAGS.seconds, flags.FLAGS.sample_rate, flags.FLAGS.repeats
    for name in flags.FLAGS.peers:
        if name not in PEERS:
            raise ConfigError(f"unknown peer {name!r}{nearest(name, PEERS)}; choose from: {', '.join(PEERS)}")
    costs: dict[str, Costs] = {}
    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder) / "sound.npy", music(seconds, rate))
        np.save(Path(folder) / "response.npy", response(rate))
        for name in ("ours", *flags.FLAGS.peers):
            try:
                python = environments.install(PEERS.get(name), Path(flags.FLAGS.output_dir))
                costs[name] = cost(name, python, Path(folder), rate, repeats)
            except ModelError as error:
                if name == "ours":
                    raise
                print(error, file=sys.stderr, flush=True)
    print(table(costs))
    print()
    print(table({"ours": in_graph(seconds, rate, repeats)}))


if __name__ == "__main__":
    define_flags()
    app.run(main)
