"""An alignment → the files that a person checks and a corpus is built of. Each is whole or absent."""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from musicnet_tf import files, plots, scores, writers
from musicnet_tf.alignment import figure, sonify
from musicnet_tf.alignment.result import Alignment
from musicnet_tf.errors import ConfigError, OutputError
from musicnet_tf.events import Score

T = TypeVar("T")

FORMATS = ("csv", "json", "png", "flac")
LABELS, REJECTED_LABELS = ".csv", ".rejected.csv"

_SUFFIXES = {
    "csv": (LABELS, REJECTED_LABELS, ".confidence.csv"),
    "json": (".json",),
    "png": (".png",),
    "flac": (".flac",),
}


def check_formats(names: Sequence[str]) -> list[str]:
    """As `writers.check_formats`, of the formats of an alignment."""
    return writers.check_formats(names, FORMATS)


def check_place(folder: str | Path, stem: str, formats: Iterable[str], inputs: Iterable[str | Path]) -> None:
    """Refuses output that would take the place of its own input: `song.flac` aligned into its own folder.

    Raises:
        OutputError: naming the file.
    """
    taken = {Path(path).resolve() for path in inputs}
    for path in (_path(folder, stem, suffix) for name in formats for suffix in _SUFFIXES[name]):
        if path.resolve() in taken:
            raise OutputError(f"{path}: is an input, and would be written over; choose another output folder")


def write(
    alignment: Alignment,
    folder: str | Path,
    stem: str,
    *,
    audio: np.ndarray | None = None,
    sample_rate: int = 0,
    score: Score | None = None,
    formats: Sequence[str] = FORMATS,
    title: str = "",
    voice: sonify.Voice = "sine",
    soundfont: str | Path | None = None,
    keep_rejected: bool = False,
) -> list[Path]:
    """Writes the files of a pair; what an earlier run left of the same formats is replaced.

    * `<stem>.csv`: labels in MusicNet's columns and header, times in samples at 44.1 kHz. Written last, so
      that its presence says that the pair is done. **Labels of a rejected pair go to
      `<stem>.rejected.csv` instead**, so that nobody trains on them by mistake, unless `keep_rejected`.
    * `<stem>.confidence.csv`: onset in seconds, pitch and confidence; row for row the notes of the labels.
    * `<stem>.json`: `alignment.summary()`.
    * `<stem>.png`: the picture of `figure.draw`. Needs `audio` and `score`.
    * `<stem>.flac`: recording left, labels right, by `sonify.write`. Needs `audio`.

    Args:
        alignment: of the pair.
        folder: is there, and can be written to.
        stem: of the files; no path.
        audio: the recording, float32 mono `(n,)`.
        sample_rate: of `audio` in Hz, and of the FLAC file.
        score: as written, for the picture.
        formats: any of `FORMATS`.
        title: of the picture; by default the stem.
        voice: how labels are played.
        soundfont: that the labels are played on as piano; None takes the first that is installed.
        keep_rejected: write the labels of a rejected pair as any others.

    Returns:
        The files, in the order in which they were written.

    Raises:
        ConfigError: for an unknown format, or one whose material is not given.
        OutputError: where a file cannot be written.
        AudioError: where the piano cannot be played.
    """
    formats = check_formats(formats)
    steps: dict[str, Callable[[Path], None]] = {}
    if "csv" in formats:
        steps[".confidence.csv"] = lambda path: files.write_text(path, format_confidence_csv(alignment))
    if "json" in formats:
        steps[".json"] = lambda path: files.write_json(path, alignment.summary())
    if "png" in formats:
        sound, written = _given(audio, "png", "audio"), _given(score, "png", "score")
        steps[".png"] = lambda path: _write_png(path, alignment, sound, sample_rate, written, title or stem)
    if "flac" in formats:
        heard = _given(audio, "flac", "audio")
        with_voice = functools.partial(sonify.write, voice=voice, soundfont=soundfont)
        steps[".flac"] = lambda path: with_voice(path, heard, sample_rate, alignment.notes)
    if "csv" in formats:
        _remove(folder, stem, (LABELS, REJECTED_LABELS))  # the verdict may have changed since an earlier run
        labels = LABELS if alignment.accepted or keep_rejected else REJECTED_LABELS
        steps[labels] = lambda path: files.write_text(path, scores.format_musicnet_csv(alignment.notes))
    paths = {suffix: _path(folder, stem, suffix) for suffix in steps}
    for suffix, step in steps.items():
        step(paths[suffix])
    return list(paths.values())


def read_summary(path: str | Path) -> dict[str, Any]:
    """What `write` told of a pair in its JSON file.

    Raises:
        OutputError: where the file is missing, or is no such summary.
    """
    try:
        summary = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise OutputError(f"{path}: not readable as the summary of an alignment ({error}); align again") from error
    if not isinstance(summary, dict) or not {"accepted", "confidence", "findings"} <= summary.keys():
        raise OutputError(f"{path}: not the summary of an alignment; align again")
    return summary


def format_confidence_csv(alignment: Alignment) -> str:
    """A line a note: onset in seconds, pitch, confidence."""
    columns = (alignment.notes.onset.tolist(), alignment.notes.pitch.tolist(), alignment.note_confidence.tolist())
    lines = [f"{onset:.6f},{pitch},{confidence:.4f}" for onset, pitch, confidence in zip(*columns, strict=True)]
    return "\n".join(["onset,pitch,confidence", *lines]) + "\n"


def _given(value: T | None, name: str, what: str) -> T:
    if value is None:
        raise ConfigError(f"format {name}: needs the {what}; give it, or leave the format out")
    return value


def _write_png(path: Path, found: Alignment, audio: np.ndarray, sample_rate: int, score: Score, title: str) -> None:
    sides = figure.overview(audio, sample_rate, score)
    picture = plots.to_png_bytes(figure.draw(found, audio, sample_rate, sides, title))
    with files.atomic(path) as part:
        part.write_bytes(picture)


def _path(folder: str | Path, stem: str, suffix: str) -> Path:
    if not stem or Path(stem).name != stem or "\0" in stem:
        raise OutputError(f"{stem!r}: names no file in a folder; take a stem without slashes")
    return Path(folder) / f"{stem}{suffix}"


def _remove(folder: str | Path, stem: str, suffixes: Iterable[str]) -> None:
    for path in (_path(folder, stem, suffix) for suffix in suffixes):
        try:
            with contextlib.suppress(FileNotFoundError):
                path.unlink()
        except OSError as error:
            raise OutputError(f"{path}: cannot be replaced ({error.strerror})") from error
