"""The constant-Q transform against sums written out, librosa's, and tones whose place and level are known."""

from __future__ import annotations

import numpy as np
import pytest

from musicnet_tf import constant_q
from musicnet_tf.constant_q import ConstantQ
from musicnet_tf.errors import ConfigError

RATE, HOP = 16000, 512
THIRD = 2 ** (-1 / 36)
LAYERS = {
    "32 ms, 88 keys": ConstantQ(RATE, HOP, 36, 264, 27.5 * THIRD, scale=True),
    "a hop that halves six times": ConstantQ(RATE, 320, 36, 294, 27.5 * THIRD, scale=True),
    "22,050 Hz, up to 10.3 kHz": ConstantQ(22050, 256, 36, 309, scale=True),
    "a bin a semitone": ConstantQ(RATE, HOP, 12, 84, 32.7, scale=True),
}


def sine(hertz, seconds=3.0, rate=RATE):
    return np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate).astype(np.float32)


def sounds(rate):
    """A tone, a low tone, a chord, noise."""
    chord = sum(sine(440 * 2 ** ((p - 69) / 12), 3, rate) for p in (33, 45, 52, 61, 64, 81))
    noise = np.random.default_rng(0).normal(0, 0.1, 3 * rate).astype(np.float32)
    return np.stack([sine(440.0, 3, rate), sine(55.0, 3, rate), chord, noise])


def written_out(audio, layer, frame, bins):
    """Magnitudes as sums over the waveform itself, in float64, at its own rate."""
    hertz = layer.hertz[bins]
    spans = constant_q.quality(layer.bins_per_octave) * layer.sample_rate / hertz
    magnitudes = []
    for pitch, span in zip(hertz, spans, strict=True):
        whole = np.arange(-int(span), int(span) + 1)
        taper = np.where(np.abs(whole) < span / 2, 1 + np.cos(2 * np.pi * whole / span), 0.0)
        place = frame * layer.hop_length + whole
        inside = (place >= 0) & (place < len(audio))
        wave = np.exp(-2j * np.pi * pitch * whole[inside] / layer.sample_rate)
        magnitudes.append(np.abs(np.sum(audio[place[inside]] * taper[inside] * wave)) / taper.sum())
    return np.array(magnitudes) * np.sqrt(spans)


@pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS)
def test_every_octave_is_the_sum_written_out(layer):
    audio = sounds(layer.sample_rate)
    ours = np.sqrt(np.asarray(layer(audio)))
    bins = np.arange(0, layer.num_bins, 7)
    for frame in (0, 40, ours.shape[1] - 1):
        for wave, heard in zip(audio.astype(float), ours, strict=True):
            np.testing.assert_allclose(
                heard[frame, bins], written_out(wave, layer, frame, bins), atol=3e-4 * heard.max()
            )


@pytest.mark.slow  # librosa compiles for seconds
@pytest.mark.parametrize("name", ["32 ms, 88 keys", "a bin a semitone"])
def test_magnitudes_are_librosas(name):
    """Away from the ends, where librosa's decimated waveform stops short; noise has its octaves' edges in it too."""
    import librosa

    layer = LAYERS[name]
    audio = sounds(RATE)
    ours = np.sqrt(np.asarray(layer(audio)))
    wanted = {"fmin": layer.fmin, "n_bins": layer.num_bins, "bins_per_octave": layer.bins_per_octave}
    theirs = np.abs(librosa.cqt(audio, sr=RATE, hop_length=HOP, sparsity=0.0, pad_mode="constant", **wanted))
    theirs = np.swapaxes(theirs, 1, 2)[:, : ours.shape[1]]
    assert ours.shape == (4, 3 * RATE // HOP, layer.num_bins)
    inner = slice(35, -35)
    difference = np.abs(ours - theirs)[:, inner].max(axis=(1, 2)) / theirs.max(axis=(1, 2))
    assert difference[:3].max() < 0.007
    assert difference[3] < 0.03


def test_a_tone_stands_in_its_bin_at_its_level():
    layer = ConstantQ(RATE, HOP, 36, 264, 27.5 * THIRD)
    pitches = np.arange(24, 109, 7)
    power = np.asarray(layer(np.stack([sine(440 * 2 ** ((p - 69) / 12)) for p in pitches])))[:, 46]
    assert power.argmax(axis=1).tolist() == (3 * (pitches - 21) + 1).tolist()
    np.testing.assert_allclose(power.max(axis=1), 0.25, rtol=2e-3)
    # A bin away is one cycle more or fewer under the Hann window, which has a half there, and nothing at two.
    around = power[5, power[5].argmax() + np.array([-2, -1, 1, 2])] / power[5].max()
    np.testing.assert_allclose(around, [0, 0.25, 0.25, 0], atol=0.01)


def test_a_frame_is_centred_on_its_number_times_the_hop():
    impulse = np.zeros((1, 40 * HOP), np.float32)
    impulse[0, 17 * HOP] = 1.0
    power = np.asarray(ConstantQ(RATE, HOP, 36, 264, 27.5)(impulse))[0]
    assert (power[:, ::20].argmax(axis=0) == 17).all()
    np.testing.assert_allclose(power[7:17], power[27:17:-1], rtol=1e-3, atol=1e-5 * power.max())


def test_filters_reach_as_far_as_they_are_said_to():
    layer = ConstantQ(RATE, HOP, 36, 72, 27.5)
    reach = constant_q.longest_filter(RATE, 27.5, 36) / 2
    impulse = np.zeros((1, 80 * HOP), np.float32)
    impulse[0, 40 * HOP] = 1.0
    heard = np.flatnonzero(np.asarray(layer(impulse))[0].max(axis=-1) > 1e-20)
    assert heard[0] >= 40 - reach / HOP - 1
    assert heard[-1] <= 40 + reach / HOP + 1
    assert heard[-1] - heard[0] > 1.9 * reach / HOP - 2


def test_silence_is_exactly_nothing():
    assert not np.asarray(ConstantQ(RATE, HOP, 36, 264)(np.zeros((2, 5 * HOP), np.float32))).any()


def test_scale_is_the_length_of_the_filter():
    audio = sounds(RATE)[:, : 20 * HOP]
    plain, scaled = (np.asarray(ConstantQ(RATE, HOP, 12, 24, 110.0, scale=scale)(audio)) for scale in (False, True))
    assert constant_q.quality(12) == pytest.approx((2 ** (1 / 6) + 1) / (2 ** (1 / 6) - 1))
    lengths = 17.3316 * RATE / (110.0 * 2 ** (np.arange(24) / 12))
    np.testing.assert_allclose(scaled, plain * lengths, rtol=1e-5)
    assert constant_q.longest_filter(RATE, 110.0, 12) == 2521


def test_a_pitch_above_nyquist_is_refused():
    with pytest.raises(ConfigError, match=r"310 bins from 27.5 Hz reach 10548 Hz, above the Nyquist frequency 8000 Hz"):
        ConstantQ(RATE, HOP, 36, 310)


def test_a_config_makes_the_same_layer_again():
    layer = ConstantQ(RATE, HOP, 12, 40, 60.0, scale=True)
    again = ConstantQ.from_config(layer.get_config())
    assert again.get_config() == layer.get_config()
    audio = sounds(RATE)[:, : 10 * HOP]
    np.testing.assert_array_equal(np.asarray(again(audio)), np.asarray(layer(audio)))
    assert layer.compute_output_shape((None, 10 * HOP)) == (None, 10, 40)
