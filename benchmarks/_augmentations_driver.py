"""Times one library's transforms of a sound, in the Python that has the library: run as a program, prints JSON.

    python _augmentations_driver.py LIBRARY SOUND.npy SAMPLE_RATE RESPONSE.npy REPEATS

A transform that the library refuses is told with its reason. CPU seconds of the process, the median of the repeats
after one that is not counted.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
import warnings
from collections.abc import Callable

import numpy as np

Transforms = dict[str, Callable[[np.ndarray], object]]


def ours(rate: int, response: np.ndarray) -> Transforms:
    """Those of musicnet_tf.effects, at the strengths that the others have as well."""
    from musicnet_tf import effects

    rng = np.random.default_rng(0)
    return {
        "polarity": effects.invert,
        "gain": lambda x: effects.gain(x, -6.0),
        "level": lambda x: effects.normalise(x, -3.0),
        "noise, white": lambda x: effects.noise(x, rng, 20.0, "white"),
        "noise, pink": lambda x: effects.noise(x, rng, 20.0, "pink"),
        "mix": lambda x: effects.mix(x, response, 20.0),
        "low pass": lambda x: effects.low_pass(x, rate, 1000.0),
        "high pass": lambda x: effects.high_pass(x, rate, 1000.0),
        "equaliser, one band": lambda x: effects.equalise(x, rate, 1000.0, -3.0, 1.0),
        "clipping": lambda x: effects.clip(x, percent=5.0),
        "compressor": lambda x: effects.compress(x, rate),
        "echo": lambda x: effects.echo(x, rate),
        "impulse response": lambda x: effects.impulse_response(x, response),
        "room, made up": lambda x: effects.reverberate(x, rate, rng),
        "reverb": lambda x: effects.freeverb(x, rate),
        "resampling": lambda x: effects.resample(x, rate, 8000),
        "aliasing": lambda x: effects.alias(x, rate, 8000),
        "MP3": lambda x: effects.codec(x, rate, "mp3", 64),
        "Opus": lambda x: effects.codec(x, rate, "ogg", 64),
        "speed": lambda x: effects.speed_up(x, rate, 1.03),
        "pitch shift": lambda x: effects.pitch_shift(x, rate, 3),
        "time stretch": lambda x: effects.time_stretch(x, rate, 1.1),
        "wow and flutter": lambda x: effects.wow_flutter(x, rate),
        "the contrastive set, drawn anew each second": lambda x: [
            effects.play(second, rate, effects.CONTRASTIVE, rng) for second in np.split(x, range(rate, len(x), rate))
        ],
    }


def audiomentations(rate: int, response: np.ndarray) -> Transforms:
    import audiomentations as am

    def of(transform: Callable[..., np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
        return lambda x: transform(samples=x, sample_rate=rate)

    there, back = (am.Resample(to, to, p=1.0) for to in (8000, rate))
    low = {"min_cutoff_freq": 1000.0, "max_cutoff_freq": 1000.0, "p": 1.0}
    snr = {"min_snr_db": 20.0, "max_snr_db": 20.0, "p": 1.0}
    return {
        "polarity": of(am.PolarityInversion(p=1.0)),
        "gain": of(am.Gain(-6.0, -6.0, p=1.0)),
        "level": of(am.Normalize(p=1.0)),
        "noise, white": of(am.AddGaussianSNR(**snr)),
        "noise, pink": of(am.AddColorNoise(min_f_decay=-3.01, max_f_decay=-3.01, **snr)),
        "low pass": of(am.LowPassFilter(**low)),
        "high pass": of(am.HighPassFilter(**low)),
        "equaliser, one band": of(
            am.PeakingFilter(
                **{"min_center_freq": 1000.0, "max_center_freq": 1000.0, "min_gain_db": -3.0, "max_gain_db": -3.0},
                **{"min_q": 1.41, "max_q": 1.41, "p": 1.0},
            )
        ),
        "clipping": of(am.ClippingDistortion(5, 5, p=1.0)),
        "resampling": lambda x: back(samples=there(samples=x, sample_rate=rate), sample_rate=8000),
        "aliasing": of(am.Aliasing(8000, 8000, p=1.0)),
        "MP3": of(am.Mp3Compression(64, 64, backend="fast-mp3-augment", p=1.0)),
        "pitch shift": of(am.PitchShift(3.0, 3.0, p=1.0)),
        "time stretch": of(am.TimeStretch(1.1, 1.1, leave_length_unchanged=False, p=1.0)),
    }


LIBRARIES: dict[str, Callable[[int, np.ndarray], Transforms]] = {
    "ours": ours,
    "audiomentations": audiomentations,
}


def measured(transform: Callable[[np.ndarray], object], sound: np.ndarray, repeats: int) -> float:
    """CPU seconds of one call."""
    taken = []
    for _ in range(repeats + 1):
        start = time.process_time()
        transform(sound.copy())
        taken.append(time.process_time() - start)
    return statistics.median(taken[1:])


def main(library: str, sound: str, rate: str, response: str, repeats: str) -> None:
    """Prints `{transform: seconds a second of sound, or the reason why not}`."""
    warnings.simplefilter("ignore")
    audio = np.load(sound)
    found: dict[str, float | str] = {}
    for name, transform in LIBRARIES[library](int(rate), np.load(response)).items():
        try:
            found[name] = measured(transform, audio, int(repeats)) / (len(audio) / int(rate))
        except Exception as error:  # the others are measured all the same
            found[name] = f"{type(error).__name__}: {error}"
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
