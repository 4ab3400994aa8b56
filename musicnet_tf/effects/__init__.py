"""Effects on audio, in NumPy: the transforms of the Audio Degradation Toolbox and of contrastive learning.

`level`, `spectrum` and `freeverb` leave every note where it is; `moved` says where notes went. `Effects` tells how
often and how strongly some of the former happen to a recording, and `apply` draws them. A `Chain` tells the same of any
of them, in any order; `play` draws them and says where notes went. Randomness comes from the generator that is given
alone.
"""

from musicnet_tf.effects.chain import CONTRASTIVE, EFFECTS, PRESETS, TOOLBOX, Chain, apply, check, play, reads
from musicnet_tf.effects.freeverb import freeverb
from musicnet_tf.effects.kinds import Effect
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
    unmoved,
    wow_flutter,
)
from musicnet_tf.effects.settings import RECORDED, Effects
from musicnet_tf.effects.spectrum import alias, codec, equalise, high_pass, low_pass, resample

__all__ = [
    "CONTRASTIVE",
    "EFFECTS",
    "PRESETS",
    "RECORDED",
    "TOOLBOX",
    "Chain",
    "Effect",
    "Effects",
    "Moved",
    "alias",
    "apply",
    "check",
    "clip",
    "codec",
    "coloured_noise",
    "compress",
    "delay",
    "echo",
    "equalise",
    "freeverb",
    "gain",
    "high_pass",
    "impulse_response",
    "invert",
    "low_pass",
    "mix",
    "noise",
    "normalise",
    "pitch_shift",
    "play",
    "random_resized_crop",
    "reads",
    "resample",
    "reverberate",
    "room",
    "speed_up",
    "time_stretch",
    "trim",
    "unmoved",
    "wow_flutter",
]
