"""Effects on audio, in NumPy: the transforms of the Audio Degradation Toolbox and of contrastive learning.

`level` and `spectrum` leave every note where it is; `moved` says where notes went. `Effects` tells how often and how
strongly those of the first two happen, `apply` draws them. Randomness comes from the generator that is given alone.
"""

from musicnet_tf.effects.level import (
    clip,
    coloured_noise,
    compress,
    echo,
    gain,
    impulse_response,
    invert,
    mix,
    noise,
    normalise,
    reverberate,
    room,
)
from musicnet_tf.effects.moved import (
    Moved,
    delay,
    pitch_shift,
    random_resized_crop,
    speed_up,
    time_stretch,
    trim,
    wow_flutter,
)
from musicnet_tf.effects.settings import RECORDED, Chance, Effects, apply
from musicnet_tf.effects.spectrum import alias, codec, equalise, high_pass, low_pass, resample

__all__ = [
    "RECORDED",
    "Chance",
    "Effects",
    "Moved",
    "alias",
    "apply",
    "clip",
    "codec",
    "coloured_noise",
    "compress",
    "delay",
    "echo",
    "equalise",
    "gain",
    "high_pass",
    "impulse_response",
    "invert",
    "low_pass",
    "mix",
    "noise",
    "normalise",
    "pitch_shift",
    "random_resized_crop",
    "resample",
    "reverberate",
    "room",
    "speed_up",
    "time_stretch",
    "trim",
    "wow_flutter",
]
