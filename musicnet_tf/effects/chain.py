"""Effects one after the other, in any order: how a config tells them, `play` and `apply`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import numpy as np
import pydantic

from musicnet_tf.effects import kinds, moving
from musicnet_tf.effects.kinds import Effect
from musicnet_tf.effects.moved import Moved, unmoved
from musicnet_tf.effects.settings import RECORDED, Effects
from musicnet_tf.errors import ConfigError, MusicNetError
from musicnet_tf.registry import nearest
from musicnet_tf.validation import construct

EFFECTS: dict[str, type[Effect]] = {
    "room": kinds.Room,
    "reverb": kinds.Reverb,
    "impulse_response": kinds.ImpulseResponse,
    "noise": kinds.Noise,
    "white_noise": kinds.WhiteNoise,
    "mix": kinds.Mix,
    "equaliser": kinds.Equaliser,
    "high_pass": kinds.HighPass,
    "low_pass": kinds.LowPass,
    "high_low_pass": kinds.HighLowPass,
    "compressor": kinds.Compressor,
    "clipping": kinds.Clipping,
    "polarity": kinds.Polarity,
    "gain": kinds.Gain,
    "level": kinds.Level,
    "echo": kinds.Echo,
    "resampling": kinds.Resampling,
    "aliasing": kinds.Aliasing,
    "codec": kinds.Coding,
    "delay": moving.Delay,
    "trim": moving.Trim,
    "speed_up": moving.SpeedUp,
    "pitch_shift": moving.PitchShift,
    "time_stretch": moving.TimeStretch,
    "wow_flutter": moving.WowFlutter,
}
"""Name in a config → effect. To draw a window from a longer sound is left to whoever reads it."""

_NAMES = {effect: name for name, effect in EFFECTS.items()}

_TOOLBOX_PROBABILITY = 0.1

CONTRASTIVE: tuple[Effect, ...] = (
    kinds.Polarity(probability=0.8),
    kinds.WhiteNoise(probability=0.3, share=(0.3, 0.5)),
    kinds.Gain(probability=0.2),
    kinds.HighLowPass(probability=0.8),
    kinds.Echo(probability=0.5),
    moving.PitchShift(probability=0.4),
    kinds.Reverb(probability=0.3),
)
"""The set of torchaudio-augmentations, in the order and as often as the tutorial "Music Classification: Beyond
Supervised Learning, Towards Real-world Applications" (ISMIR 2021) has them. Pitches are shifted there by any number of
hundredths of a semitone, here by whole semitones, so that labels can follow."""

TOOLBOX: tuple[Effect, ...] = tuple(
    effect.model_copy(update={"probability": _TOOLBOX_PROBABILITY})
    for effect in (
        kinds.Noise(snr_db=(20, 20), colours=("pink",)),
        kinds.Coding(kinds=("mp3",), kilobits=(320,)),
        kinds.Gain(gain_db=(10, 10)),
        kinds.Level(peak_db=(0, 0)),
        kinds.LowPass(frequency=(1000, 1000)),
        kinds.HighPass(frequency=(1000, 1000)),
        moving.Trim(start_ms=(100, 100)),
        moving.SpeedUp(factor=(1.03, 1.03)),
        kinds.Resampling(lower_rate=(8000, 8000)),
        moving.PitchShift(semitones=(12, 12)),
        kinds.Compressor(threshold_db=(-20, -20), ratio=(4, 4), attack_ms=(5, 5), release_ms=(50, 50)),
        kinds.Equaliser(bands=1, frequency=(1000, 1000), gain_db=(-3, -3), bandwidth=(1, 1)),
        moving.TimeStretch(factor=(1.1, 1.1)),
        moving.Delay(milliseconds=(100, 100)),
        moving.WowFlutter(percent=(1.5, 1.5)),
        kinds.Aliasing(),
    )
)
"""The degradations of the Audio Degradation Toolbox (Mauch and Ewert, ISMIR 2013) that need no files, at its defaults.
It says nothing of how often: each here is in one of ten sounds. Clipping of no sample, its default, is left out."""


def _of(settings: Effects) -> tuple[Effect, ...]:
    return tuple(getattr(settings, name) for name in Effects.model_fields)


PRESETS: dict[str, tuple[Effect, ...]] = {"contrastive": CONTRASTIVE, "recorded": _of(RECORDED), "toolbox": TOOLBOX}
"""Chains that a config may name."""


def _read(value: Any) -> Any:
    """A preset's name; a mapping of effects in the order of its keys; or a list, in which an effect may come again."""
    if isinstance(value, str):
        if value not in PRESETS:
            raise ConfigError(f"unknown preset {value!r}{nearest(value, PRESETS)}; choose from: {', '.join(PRESETS)}")
        return PRESETS[value]
    if isinstance(value, Mapping):
        value = [{name: fields} for name, fields in value.items()]
    return tuple(map(_link, value)) if isinstance(value, Sequence) else value


def _link(value: Any) -> Any:
    if isinstance(value, Effect):
        return value
    if not isinstance(value, Mapping) or len(value) != 1:
        raise ConfigError(
            f"an effect is its name with its values, such as polarity: {{probability: 0.5}}, got {value!r}"
        )
    ((name, fields),) = value.items()
    if name not in EFFECTS:
        raise ConfigError(f"unknown effect {name!r}{nearest(str(name), EFFECTS)}; choose from: {', '.join(EFFECTS)}")
    if not isinstance(fields, Mapping):
        raise ConfigError(f"effect {name!r}: needs its values, such as {{probability: 0.5}}, got {fields!r}")
    if "probability" not in fields:
        raise ConfigError(f"effect {name!r}: key 'probability' is missing")
    return construct(EFFECTS[name], fields, where=f"effect {name!r}")


def _written(chain: tuple[Effect, ...]) -> list[dict[str, Any]]:
    return [{_NAMES[type(effect)]: effect.model_dump(mode="json")} for effect in chain]


Chain = Annotated[tuple[Effect, ...], pydantic.BeforeValidator(_read), pydantic.PlainSerializer(_written)]
"""Effects one after the other: in a config a preset's name, a mapping of effects, or a list of such mappings."""


def play(audio: np.ndarray, sample_rate: int, chain: Sequence[Effect], rng: np.random.Generator) -> Moved:
    """A sound with the effects of a chain drawn for it, and where everything went.

    Each effect has a stream of random numbers of its own, so that switching one off, by its probability, leaves the
    others as they are. A range that the sample rate cannot hold is cut.
    """
    sound = unmoved(audio, sample_rate)
    for effect, stream in zip(chain, rng.spawn(len(chain)), strict=True):
        if stream.random() < effect.probability:
            sound = sound.then(effect.play(sound.audio, sample_rate, stream))
    return sound


def apply(audio: np.ndarray, sample_rate: int, settings: Effects, rng: np.random.Generator) -> np.ndarray:
    """A sound with the effects of a recording drawn for it: float32 `(samples,)` in [-1, 1], as long and in time.

    As `play`.
    """
    return np.clip(play(audio, sample_rate, _of(settings), rng).audio, -1.0, 1.0)


def reads(chain: Sequence[Effect], num_samples: int, sample_rate: int) -> int:
    """Samples of sound that a chain takes at most to give so many."""
    seconds = num_samples / sample_rate
    for effect in reversed(chain):
        if effect.probability:
            seconds = effect.reads(seconds)
    return max(num_samples, math.ceil(seconds * sample_rate - 1e-6))


def check(chain: Sequence[Effect], sample_rate: int) -> None:
    """Tries each effect that may happen on a second of noise.

    Raises:
        ConfigError: which names the effect that cannot be had at this sample rate, or lacks a file.
    """
    noise = np.random.default_rng(0).normal(0.0, 0.1, sample_rate).astype(np.float32)
    for effect in chain:
        if effect.probability:
            try:
                effect.play(noise, sample_rate, np.random.default_rng(0))
            except MusicNetError as error:
                raise ConfigError(f"effect {_NAMES[type(effect)]!r}: {error}") from error
