"""How to align: every choice of the MusicNet paper's appendix B, and ours, as one checked config."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import pydantic

from musicnet_tf.errors import ConfigError
from musicnet_tf.validation import construct, merge, parse_overrides, read_yaml

CONFIGS = Path("configs/alignment")
"""Where a source tree keeps the named configs, from its root."""


class Features(pydantic.BaseModel):
    """What is compared: frames of the recording against frames of the synthesised score.

    Attributes:
        kind: `spectrogram` (the paper's), `chroma`, `chroma_onset` (chroma and the chroma of onsets),
            `pitch_onset` (88 semitone bands and their onsets), `posteriorgram` (what a transcription model
            hears, with its own rate, window and hop) or `pitch_onset_posteriorgram` (both, the most accurate).
            The last two need TensorFlow.
        sample_rate: of both sounds.
        window_length: samples of an analysis window.
        hop_length: samples from frame to frame (the paper's stride).
        cutoff: lowest bins kept, of `spectrogram` alone; None keeps all.
        log: log magnitudes instead of magnitudes.
        onset_weight: of the onset part against the tonal part.
        model: name or folder of the model of a posteriorgram; None takes the default one.
    """

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    kind: Literal[
        "spectrogram", "chroma", "chroma_onset", "pitch_onset", "posteriorgram", "pitch_onset_posteriorgram"
    ] = "pitch_onset_posteriorgram"
    sample_rate: int = pydantic.Field(22050, ge=4000)
    window_length: int = pydantic.Field(2048, ge=64)
    hop_length: int = pydantic.Field(256, ge=1)
    cutoff: int | None = pydantic.Field(None, ge=1)
    log: bool = True
    onset_weight: float = pydantic.Field(1.0, ge=0)
    model: str | None = None


class Settings(pydantic.BaseModel):
    """One way to align.

    Attributes:
        features: what is compared.
        norm: distance of two frames: 1, 2 or inf, or `cosine`.
        method: `exact` DTW, or `multiscale`, whose memory grows with the length and not with its square.
        step_weights: of the cost of a cell that is entered along the recording, along the score, along both.
        step_penalty: added to each step along one side alone: holds the path to the tempo where the
            sound leaves it open. 0 is ordinary DTW.
        snap_seconds: where the features have a model's posteriorgram, each note moves from where the warp puts it
            onto an onset of its own pitch that the model hears nearby; standard deviation of the bell that
            weighs onsets by how near they are. 0 leaves notes where the warp puts them.
        max_memory_gib: exact DTW that would need more is refused beforehand.
        find_jumps: look for repeats and passages left out or added, and align through them.
        tempo: `score` uses the tempi of the score, `constant` 120 quarter notes a minute throughout.
        soundfont: file that the score is played on; None takes the first that is installed.
    """

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    features: Features = Features()
    norm: Literal["l1", "l2", "linf", "cosine"] = "cosine"
    method: Literal["exact", "multiscale"] = "multiscale"
    step_weights: tuple[float, float, float] = (1.0, 1.0, 2.0)
    step_penalty: float = pydantic.Field(0.6, ge=0)
    snap_seconds: float = pydantic.Field(0.05, ge=0, le=1)
    max_memory_gib: float = pydantic.Field(4.0, gt=0)
    find_jumps: bool = True
    tempo: Literal["score", "constant"] = "score"
    soundfont: str | None = None


def load_settings(source: str | Path | None = None, overrides: Sequence[str] = ()) -> Settings:
    """Reads settings from YAML, changed by overrides such as `features.hop_length=512`.

    Args:
        source: a YAML file, or the name of one in `configs/alignment` of the current folder; None for the
            defaults.
        overrides: `key=value`, the value in YAML.

    Raises:
        ConfigError: where the file cannot be read, a key is unknown or a value is wrong; the message names
            the key, and for an unknown one the nearest right one.
    """
    path = None if source is None else _find(source)
    values = {} if path is None else read_yaml(path)
    return construct(Settings, merge(values, parse_overrides(overrides)), where=str(path or "alignment settings"))


def _find(source: str | Path) -> Path:
    path, named = Path(source), CONFIGS / f"{source}.yaml"
    if path.is_file():
        return path
    if path.name == str(source) and named.is_file():
        return named
    choices = ", ".join(sorted(p.stem for p in CONFIGS.glob("*.yaml")))
    known = f"or one of {choices}" if choices else f"as in {CONFIGS} of the source tree"
    raise ConfigError(f"{source}: no such alignment config; give a YAML file, {known}")
