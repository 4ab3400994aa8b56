"""The constant-Q transform as a Keras layer: waveform → power at geometrically spaced pitches, each as sharp as any."""

from __future__ import annotations

from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from musicnet_tf.errors import ConfigError
from musicnet_tf.frontends import A0_HZ

_PASSED = 0.6
"""Part of the band of a decimated signal that is used: up to here the filter below lets pass, and nothing folds."""
_HALF_TAPS = 15


def quality(bins_per_octave: int) -> float:
    """Cycles of a pitch in its filter: the pitch over the distance between its neighbours' middles.

    As librosa's, `(r + 1) / (r - 1)` with `r` the squared ratio of neighbouring pitches.
    """
    ratio = 4.0 ** (1 / bins_per_octave)
    return (ratio + 1) / (ratio - 1)


def longest_filter(sample_rate: int, fmin: float, bins_per_octave: int) -> int:
    """Samples that the filter of the lowest pitch spans, the longest of all; frames near an edge miss some."""
    return int(np.ceil(quality(bins_per_octave) * sample_rate / fmin))


def sinusoids(hertz: np.ndarray, sample_rate: float, cycles: float) -> np.ndarray:
    """Complex exponentials of so many cycles under a Hann window, float32 `(length, 2 * len(hertz))`.

    Real parts, then imaginary parts. Sample `length // 2` is the centre of all; each sums to 1 in magnitude, so that
    a full-scale sine gives power 0.25.
    """
    spans = cycles * sample_rate / hertz
    length = 2 * int(np.ceil(spans.max() / 2))
    offset = np.arange(length)[:, None] - length // 2
    taper = np.where(2 * np.abs(offset) < spans, 0.5 + 0.5 * np.cos(2 * np.pi * offset / spans), 0.0)
    phase = 2 * np.pi * offset * hertz / sample_rate
    bank = np.concatenate([np.cos(phase), -np.sin(phase)], axis=1)
    return (bank * np.tile(taper / taper.sum(axis=0), 2)).astype(np.float32)


class _Octave(NamedTuple):
    halvings: int  # of the sample rate
    bank: np.ndarray  # `sinusoids` at that rate


class ConstantQ(keras.layers.Layer):
    """Power at pitches `fmin * 2**(i / bins_per_octave)`, every filter holding the same number of cycles (Brown 1991).

    Input `(batch, samples)`, output `(batch, samples // hop_length, num_bins)`; frame `k` is centred on sample
    `k * hop_length`, with silence beyond both ends. Magnitudes are those of `librosa.cqt`.

    Octave by octave from the top, on a waveform halved in rate as often as the octave allows (Schörkhuber and
    Klapuri 2010): filters are then as short for low octaves as for high ones, and all of it costs less than the
    Fourier transforms of `LogFrequencySpectrogram`. Where `hop_length` cannot be halved so often, the lowest octaves
    have longer filters.

    Args:
        scale: multiplies power by the filter's length in samples, as `librosa.cqt` does unless told otherwise:
            noise then is as strong in all bins. Without, a steady tone is: 0.25 at full scale.

    Raises:
        ConfigError: where the highest bin lies above the Nyquist frequency.
    """

    def __init__(
        self,
        sample_rate: int,
        hop_length: int,
        bins_per_octave: int,
        num_bins: int,
        fmin: float = A0_HZ,
        scale: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.sample_rate = sample_rate
        self.hop_length = hop_length
        self.bins_per_octave = bins_per_octave
        self.num_bins = num_bins
        self.fmin = fmin
        self.scale = scale
        self._octaves = self._plan()
        self._gain = (quality(bins_per_octave) * sample_rate / self.hertz if scale else np.ones(num_bins)).astype(
            np.float32
        )
        decimator = np.sinc(np.arange(-_HALF_TAPS, _HALF_TAPS + 1) / 2) * np.kaiser(2 * _HALF_TAPS + 1, 9.0)
        self._decimator = (decimator / decimator.sum()).astype(np.float32)[:, None, None]

    @property
    def hertz(self) -> np.ndarray:
        """Pitch of each bin, `(num_bins,)`."""
        return self.fmin * 2.0 ** (np.arange(self.num_bins) / self.bins_per_octave)

    def _plan(self) -> list[_Octave]:
        """The octaves, from the top."""
        hertz, nyquist, cycles = self.hertz, self.sample_rate / 2, quality(self.bins_per_octave)
        if hertz[-1] > nyquist:
            raise ConfigError(
                f"{self.num_bins} bins from {self.fmin:g} Hz reach {hertz[-1]:.0f} Hz, above the Nyquist frequency"
                f" {nyquist:g} Hz; take fewer bins or a higher sample rate"
            )
        most = (self.hop_length & -self.hop_length).bit_length() - 1  # times that the hop can be halved
        octaves = []
        for end in range(self.num_bins, 0, -self.bins_per_octave):
            pitches = hertz[max(0, end - self.bins_per_octave) : end]
            highest = pitches[-1] * (1 + 2 / cycles)  # where the main lobe of its filter ends
            halvings = int(np.clip(np.log2(_PASSED * nyquist / highest), 0, most))
            octaves.append(_Octave(halvings, sinusoids(pitches, self.sample_rate / 2**halvings, cycles)))
        return octaves

    def call(self, audio: Any) -> Any:
        """`(batch, samples)` → `(batch, frames, num_bins)`."""
        last_frame = audio.shape[1] // self.hop_length - 1
        silence = self._silence()
        audio = ops.pad(audio, [[0, 0], [silence, silence]])[..., None]
        powers, halvings = [], 0
        for octave in self._octaves:
            while halvings < octave.halvings:
                edges = [[0, 0], [_HALF_TAPS, _HALF_TAPS], [0, 0]]
                audio = ops.conv(ops.pad(audio, edges), ops.convert_to_tensor(self._decimator), 2, "valid")
                halvings += 1
            hop, length = self.hop_length >> halvings, len(octave.bank)
            first = (silence >> halvings) - length // 2
            heard = audio[:, first : first + last_frame * hop + length]
            parts = ops.square(ops.conv(heard, ops.convert_to_tensor(octave.bank[:, None]), hop, "valid"))
            powers.append(sum(ops.split(parts, 2, axis=-1)))
        return ops.concatenate(powers[::-1], axis=-1) * ops.convert_to_tensor(self._gain)

    def _silence(self) -> int:
        """Samples before and after the waveform: what filters reach, in steps that every rate has."""
        halvings = max(octave.halvings for octave in self._octaves)
        reach = max((len(octave.bank) // 2 + 2 * _HALF_TAPS) << octave.halvings for octave in self._octaves)
        return -(-reach >> halvings) << halvings

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        frames = None if input_shape[1] is None else input_shape[1] // self.hop_length
        return (input_shape[0], frames, self.num_bins)

    def get_config(self) -> dict[str, Any]:
        names = ("sample_rate", "hop_length", "bins_per_octave", "num_bins", "fmin", "scale")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}
