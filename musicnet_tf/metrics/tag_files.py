"""Files of tags, to be scored: what `musicnet tag` wrote, and what is true."""

from __future__ import annotations

import json
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mir_eval
import numpy as np

from musicnet_tf import instruments, scores
from musicnet_tf.decode.heard_tags import HeardTags, Stretches
from musicnet_tf.errors import ScoreError
from musicnet_tf.events import UNKNOWN, TagSpans

HEARD = (".npz", ".json")
TRUE = (".lab", ".txt", ".csv", ".tsv", ".mid", ".midi")
_INSTANT = 1e-3
"""Seconds in the midst of a stretch, at which a JSON file, whose times are rounded, is asked what the stretch bears."""


def read_heard(path: Path) -> HeardTags:
    """What `musicnet tag` wrote: `.npz`, or `.json`, which has four digits.

    Raises:
        ScoreError: where the file cannot be read, or is none of these.
    """
    try:
        return _of_npz(path) if path.suffix.lower() == ".npz" else _of_json(json.loads(path.read_bytes()))
    except OSError as error:
        raise ScoreError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (KeyError, TypeError, ValueError, zipfile.BadZipFile) as error:
        raise ScoreError(
            f"{path}: not tags as `musicnet tag` writes them ({type(error).__name__}: {error}); write them again"
        ) from error


def read_true(path: Path) -> TagSpans:
    """Stretches that bear tags: of `.lab` and `.txt`, a line `start stop tag` for each, in seconds, `#` for comments;
    of labels of notes (MusicNet CSV, MAPS table, MIDI), those in which instruments sound.

    Raises:
        ScoreError: where the file cannot be read, or is of notes whose instruments are not told.
    """
    if path.suffix.lower() in (".lab", ".txt"):
        return _of_lines(path)
    notes = scores.read(path)
    if len(notes) and (notes.instrument == UNKNOWN).all():
        raise ScoreError(f"{path}: tells no instruments of its notes; use labels that do, or a .lab file of tags")
    return instruments.spans_of_notes(notes)


def _of_lines(path: Path) -> TagSpans:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of stretches that overlap, as they may
            intervals, labels = mir_eval.io.load_labeled_intervals(str(path), comment="#")
            start, stop = np.reshape(intervals, (-1, 2)).T
            return TagSpans(start, stop, np.array(labels, str))
    except (OSError, ValueError, ScoreError) as error:
        raise ScoreError(f"{path}: not lines of start, stop and tag ({error}); mend or remove it") from error


def _of_npz(path: Path) -> HeardTags:
    with np.load(path) as arrays:
        return _heard(tuple(arrays["names"].tolist()), arrays)


def _of_json(told: Any) -> HeardTags:
    timeline, ranked = told["timeline"], told["tags"]
    names = tuple(str(row["tag"]) for row in ranked)
    strips = [timeline["scores"][name] for name in names]
    scores = np.array(strips, np.float64).reshape(len(names), len(timeline["start"])).T
    whole = {"scores": [row["score"] for row in ranked], "present": [row["present"] for row in ranked]}
    return _heard(names, {**timeline, **whole, "timeline": scores, "active": _borne(told, names)})


def _borne(told: Any, names: tuple[str, ...]) -> np.ndarray:
    """Which tags the stretches of a JSON file bear, bool `(frames, tags)`."""
    columns = ([row[key] for row in told["stretches"]] for key in ("start", "stop", "tag"))
    middle = np.mean([told["timeline"]["start"], told["timeline"]["stop"]], axis=0)
    return TagSpans(*columns).active(names, middle - _INSTANT, middle)  # type: ignore[arg-type]  # lists, made arrays


def _heard(names: tuple[str, ...], arrays: Mapping[str, Any]) -> HeardTags:
    """Of what `tag_writers.write_npz` calls so. Raises ValueError where shapes do not fit."""
    frames = (len(arrays["start"]),)
    tags, shape = (len(names),), (*frames, len(names))
    start, stop = (_shaped(arrays, name, frames) for name in ("start", "stop"))
    timeline = _shaped(arrays, "timeline", shape)
    return HeardTags(
        names=names,
        scores=_shaped(arrays, "scores", tags),
        start=start,
        stop=stop,
        timeline=timeline,
        present=_shaped(arrays, "present", tags).astype(bool),
        active=_shaped(arrays, "active", shape).astype(bool),
        whole=Stretches(names, timeline, start, stop, float(np.max(stop - start, initial=0.0)), None),
    )


def _shaped(arrays: Mapping[str, Any], name: str, shape: tuple[int, ...]) -> np.ndarray:
    values = np.asarray(arrays[name], np.float64)
    if values.shape != shape or not np.isfinite(values).all():
        raise ValueError(f"{name}: shape {values.shape} instead of {shape}, or values that are not finite")
    return values
