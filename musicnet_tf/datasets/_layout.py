"""What the folder layouts of several corpora have in common."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from musicnet_tf import audio
from musicnet_tf.datasets import Split
from musicnet_tf.errors import DatasetError


def audio_files(folder: Path) -> dict[str, Path]:
    """Stem → audio file of a folder, empty where there is no such folder; of two with one stem the lossless one."""
    if not folder.is_dir():
        return {}
    found = [path for path in sorted(folder.iterdir()) if path.suffix.lower() in audio.SUFFIXES]
    found.sort(key=lambda path: path.suffix.lower() in audio.LOSSLESS_SUFFIXES)
    return {path.stem: path for path in found if not path.name.startswith(".")}


def need_root(root: Path, corpus: str) -> Path:
    """Raises DatasetError where the root of a corpus is not there."""
    if not root.exists():
        raise DatasetError(f"{root}: not found; set the root of {corpus} to the folder that holds it")
    return root


def need_audio(label: Path, stem: str) -> Path:
    """The audio file named `stem` beside a label file. Raises DatasetError that names both."""
    found = audio_files(label.parent).get(stem)
    if found is None:
        raise DatasetError(f"{label}: its audio {label.parent / stem}.wav (or .flac, .ogg, .mp3 …) is missing")
    return found


def side(key: str, validation: Collection[str], test: Collection[str]) -> Split:
    """The split of a key that is listed as test, as validation, or not at all."""
    if key in test:
        return "test"
    return "validation" if key in validation else "train"
