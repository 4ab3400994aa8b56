"""Folder of scores → rendered audio with exact labels as records, an Apache Beam job; `musicnet synthesize` runs it.

It is the job that builds records of any corpus (`build_records`), of the corpus `rendered` with all of its variety
switched on: so it is deterministic, resumes by shard and does not depend on the number of workers as that does.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from musicnet_tf import records, validation
from musicnet_tf.datasets.rendered import Rendered
from musicnet_tf.effects import RECORDED
from pipelines import build_records
from pipelines._beam import beam_options as beam_options

DEFAULTS: dict[str, Any] = {
    "excerpt_seconds": 75.0,
    "sustain": True,
    "font_per_voice": True,
    "substitutes": {0: [0, 1]},  # General MIDI's bright piano serves for the grand one
    "tune_cents": 20.0,
    "voice_tune_cents": 4.0,
    "balance_db": 9.0,
    "velocity_curve": 0.5,
    "tempo": 0.08,
    "rubato": 0.08,
    "asynchrony": 0.012,
    "attack_db": -16.0,
    "reverb": 0.25,
    "validation_fraction": 0.04,
    "effects": RECORDED.model_dump(),
}
"""Of `Rendered`, where they differ from its own: what makes rendered sound unlike itself from piece to piece."""


def corpus(root: str | Path, overrides: Mapping[str, Any] | None = None) -> Rendered:
    """The corpus that a folder of scores gives, `DEFAULTS` with `overrides` laid over them.

    Raises:
        ConfigError: on a key that `Rendered` has not, or a value that it does not take.
    """
    options = validation.merge(DEFAULTS, overrides or {})
    return validation.construct(Rendered, {**options, "root": str(root)}, where="synthesize")


def settings(
    root: str | Path,
    overrides: Mapping[str, Any] | None = None,
    *,
    sample_rate: int = 16000,
    excerpt_seconds: float = 30.0,
    encoding: records.Encoding | None = None,
    recordings_per_shard: int = 8,
) -> build_records.Settings:
    """Settings of the job for `build_records.build`.

    Args:
        root: folder of scores, searched for MusicNet label files, MIDI files and MusicXML.
        overrides: fields of `Rendered`.
        sample_rate: of the audio in the records.
        excerpt_seconds: length of one record; a recording has several.
        encoding: of the audio; the smallest that can be read here where it is None.
        recordings_per_shard: recordings in one file.
    """
    encoding = encoding or records.default_encoding()
    return build_records.Settings(corpus(root, overrides), sample_rate, excerpt_seconds, encoding, recordings_per_shard)
