"""Front ends against librosa, NumPy, and tones whose place and level are known."""

from __future__ import annotations

import numpy as np
import pytest

from musicnet_tf import frontends
from musicnet_tf.errors import ConfigError
from musicnet_tf.frontends import (
    LogFilterbank,
    LogFrequencySpectrogram,
    LogPower,
    MagnitudeSpectrum,
    MedianDifference,
    MelSpectrogram,
)

RATE = 16000
HOP = 320


def noise(*shape):
    return np.random.default_rng(0).normal(0, 0.1, shape).astype(np.float32)


def tone(hertz, length=16000, amplitude=1.0):
    return (amplitude * np.sin(2 * np.pi * hertz * np.arange(length) / RATE)).astype(np.float32)


@pytest.mark.parametrize(("window", "length"), [("hann", 4096), ("hann", 1024), ("rect", 512)])
def test_power_spectrum_is_librosas(window, length):
    import librosa

    audio = noise(2, 6400)
    ours = np.asarray(frontends.power_spectrum(audio, length, HOP, 20, window))
    taper = librosa.filters.get_window("boxcar" if window == "rect" else window, length)
    theirs = librosa.stft(
        audio, n_fft=length, hop_length=HOP, window=taper, center=True, pad_mode="constant", dtype=np.complex128
    )
    theirs = np.abs(theirs / taper.sum()) ** 2
    assert ours.shape == (2, 20, length // 2 + 1)
    np.testing.assert_allclose(ours, np.swapaxes(theirs, 1, 2)[:, :20], atol=1e-5 * theirs.max())


def test_a_full_scale_sine_peaks_at_a_quarter():
    power = np.asarray(frontends.power_spectrum(tone(1000)[None], 1024, HOP, 50))[0, 20]
    assert np.argmax(power) == 64  # 1000 Hz of 15.625 Hz a bin
    assert power[64] == pytest.approx(0.25, rel=1e-4)


@pytest.mark.parametrize("length", [1024, 4096])
def test_a_frame_is_centred_on_its_number_times_the_hop(length):
    impulse = np.zeros((1, 16000), np.float32)
    impulse[0, 20 * HOP] = 1.0
    loudness = np.asarray(frontends.power_spectrum(impulse, length, HOP, 50)).mean(axis=-1)[0]
    assert np.argmax(loudness) == 20
    np.testing.assert_allclose(loudness[14:20], loudness[26:20:-1], rtol=1e-3, atol=1e-12)
    assert loudness[20] == pytest.approx((2 / length) ** 2, rel=1e-3)  # the taper's apex over its sum
    reach = length // 2 // HOP
    assert not loudness[: 20 - reach].max(initial=0.0) > 1e-12
    assert loudness[20 - reach] > 0


def semitones(**changes):
    settings = {"window_lengths": (4096, 1024), "bins_per_octave": 36, "num_bins": 294, "fmin": 27.5 * 2 ** (-1 / 36)}
    return LogFrequencySpectrogram(**{"sample_rate": RATE, "hop_length": HOP, **settings, **changes})


def test_a_tone_stands_in_its_bin_at_its_level():
    pitches = np.arange(57, 109, 3)  # from 220 Hz, where bins are farther apart than the long window blurs
    audio = np.stack([tone(440 * 2 ** ((p - 69) / 12)) for p in pitches])
    spectra = np.asarray(semitones()(audio))[:, 25]  # (pitches, bins, windows)
    assert np.argmax(spectra[..., 0], axis=1).tolist() == (3 * (pitches - 21) + 1).tolist()
    # Full scale is 0.25 (-6 dB) and the floor -80 dB; a filter wider than the lobe gathers 1.76 dB at most.
    full = 8 + np.log10(0.25)
    assert np.all((spectra[..., 0].max(axis=1) > full - 0.15) & (spectra[..., 0].max(axis=1) < full + 0.18))
    softer = np.asarray(semitones()(0.1 * audio))[:, 25]
    np.testing.assert_allclose(spectra[..., 0].max(axis=1) - softer[..., 0].max(axis=1), 2.0, atol=1e-3)  # 20 dB


def test_silence_is_exactly_nothing():
    output = np.asarray(semitones()(np.zeros((2, 6400), np.float32)))
    assert output.shape == (2, 20, 294, 2)
    assert not output.any()


def test_the_floor_is_where_it_is_said_to_be():
    tone_at_floor = tone(440, amplitude=2e-3)[None]  # a quarter of its square: -60 dB
    level = np.asarray(semitones(floor_db=-60.0)(tone_at_floor))[0, 25, :, 0].max()
    assert level == pytest.approx(np.log10(2), abs=0.07)


def test_filters_by_hand():
    filters = frontends.log_frequency_filters(1024, 1024, fmin=64, bins_per_octave=1, num_bins=3)  # bins of 1 Hz
    assert filters.shape == (513, 3)
    assert filters[[64, 128, 256], [0, 1, 2]].tolist() == [1, 1, 1]
    assert filters[[128, 192, 256, 64], 1].tolist() == [1, 0.5, 0, 0.5]
    between = frontends.log_frequency_filters(1024, 64, fmin=40, bins_per_octave=12, num_bins=1)  # bins of 16 Hz
    assert between[:5, 0].tolist() == [0, 0, 0.5, 0.5, 0]  # 40 Hz lies midway between 32 and 48


def test_filters_above_nyquist_are_refused():
    with pytest.raises(
        ConfigError, match=r"294 bins from 26.9756 Hz reach .* above the Nyquist frequency 4000 Hz; take"
    ):
        semitones(sample_rate=8000)


@pytest.mark.parametrize(("taper", "spectrum"), [("rect", "power"), ("hann", "log_power")])
def test_magnitude_spectrum_is_numpys(taper, spectrum):
    audio = noise(3, 1024)
    window = np.hanning(1025)[:-1] if taper == "hann" else 1.0
    power = np.abs(np.fft.rfft(audio * window))[:, :512] ** 2 / 1024
    expected = np.log10(1e-6 + power) if spectrum == "log_power" else power
    output = np.asarray(MagnitudeSpectrum(taper, spectrum)(audio))
    assert output.shape == (3, 512)
    np.testing.assert_allclose(output, expected, rtol=1e-3, atol=1e-5)


def test_the_relugram_is_a_network_of_four_relus_a_bin():
    audio = noise(3, 256).astype(np.float64)
    phase = 2 * np.pi * np.outer(np.arange(256), np.arange(128)) / 256
    expected = sum(
        np.maximum(0, sign * audio @ wave / 16) for sign in (1, -1) for wave in (np.cos(phase), np.sin(phase))
    )
    output = np.asarray(MagnitudeSpectrum(spectrum="relugram")(audio.astype(np.float32)))
    np.testing.assert_allclose(output, expected, atol=1e-5)


BANK = LogFilterbank(44100, 4096, 512, 512, 50.0, 6000.0)


def test_the_filterbank_hears_a_sinusoid_at_its_filter():
    frequencies = 50.0 * 120.0 ** (np.arange(512) / 512)
    n = np.arange(4096 + 512)
    for i in (100, 300, 500):
        output = np.asarray(BANK(np.sin(2 * np.pi * frequencies[i] * n / 44100)[None].astype(np.float32)))
        assert output.shape == (1, 2, 512)
        assert (np.abs(output.argmax(axis=-1) - i) <= 1).all()
        np.testing.assert_allclose(output[0, :, i], np.log10(1 + 0.5e8), atol=0.01)  # power 1/2, floor -80 dB
    assert not np.asarray(BANK(np.zeros((1, 4096), np.float32))).any()


def test_the_filterbank_is_the_sum_written_out():
    audio = noise(1, 4096 + 1024)
    n, f = np.arange(4096), 50.0 * 120.0 ** (200 / 512)
    taper = 1 - np.cos(2 * np.pi * n / 4096)  # the authors' mask
    parts = [audio[0, 1024:].astype(float) @ (taper * wave(2 * np.pi * f * n / 44100)) for wave in (np.sin, np.cos)]
    expected = np.log10(1 + 2 * (parts[0] ** 2 + parts[1] ** 2) / 4096**2 / 1e-8)
    assert np.asarray(BANK(audio))[0, 2, 200] == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize(
    ("fields", "told"), [({"stride": 500}, "no multiple of stride 500"), ({"fmax": 3e4}, "above the Nyquist frequency")]
)
def test_a_filterbank_that_does_not_fit_is_refused(fields, told):
    with pytest.raises(ConfigError, match=told):
        LogFilterbank(**{**BANK.get_config(), **fields})


@pytest.mark.parametrize(
    "layer",
    [
        semitones(floor_db=-70.0),
        MagnitudeSpectrum("hann", "log_power"),
        LogFilterbank(16000, 512, 256, 64, 100, 4000),
        MelSpectrogram(16000, 256, 400, 40, 60.0, 7000.0, htk=True, magnitude=True),
        LogPower(-70.0),
    ],
    ids=lambda x: type(x).__name__,
)
def test_a_config_makes_the_same_layer_again(layer):
    again = type(layer).from_config(layer.get_config())
    assert again.get_config() == layer.get_config()
    audio = noise(2, 2048)
    np.testing.assert_array_equal(np.asarray(again(audio)), np.asarray(layer(audio)))
    assert layer.compute_output_shape((None, 2048)) == (None, *layer(audio).shape[1:])


@pytest.mark.parametrize(("window", "htk"), [(2048, True), (2048, False), (512, True)])
def test_mel_bands_are_librosas_of_the_power_spectrum(window, htk):
    import librosa

    audio = noise(2, 6400)
    ours = np.asarray(MelSpectrogram(RATE, HOP, window, 80, 60.0, htk=htk)(audio))
    bands = librosa.filters.mel(sr=RATE, n_fft=window, n_mels=80, fmin=60.0, fmax=RATE / 2, htk=htk, norm=None)
    expected = np.asarray(frontends.power_spectrum(audio, window, HOP, 20)) @ bands.T
    assert ours.shape == (2, 20, 80)
    np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-9)


def test_mel_bands_within_limits_by_numpy():
    """25 ms windows filled up to 512 samples, amplitudes, frame 3 centred on sample 480."""
    import librosa

    audio = noise(1, 4000)
    layer = MelSpectrogram(RATE, 160, 400, 64, 125.0, 7500.0, htk=True, magnitude=True)
    taper = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    spectrum = np.abs(np.fft.rfft(audio[0, 480 - 200 : 480 + 200] * taper, 512)) / taper.sum()
    bands = librosa.filters.mel(sr=RATE, n_fft=512, n_mels=64, fmin=125, fmax=7500, htk=True, norm=None)
    np.testing.assert_allclose(layer(audio)[0, 3], bands @ spectrum, rtol=1e-4)


def test_nothing_outside_the_limits_is_heard():
    layer = MelSpectrogram(RATE, 160, 1024, 20, 1000.0, 3000.0)
    heard = np.asarray(layer(np.stack([tone(500), tone(2000), tone(5000)])))[:, 20].sum(axis=1)
    assert heard[1] > 0.1
    assert max(heard[0], heard[2]) < 1e-6 * heard[1]


def test_bands_above_the_nyquist_frequency_are_refused():
    with pytest.raises(ConfigError, match="14000 Hz reach above the Nyquist frequency 8000 Hz; take a higher"):
        MelSpectrogram(RATE, 320, 1024, 64, 50.0, 14000.0)


def test_a_tone_in_the_middle_of_a_mel_band_keeps_its_power():
    mels = np.linspace(2595 * np.log10(1 + 60 / 700), 2595 * np.log10(1 + 8000 / 700), 82)[1:-1]
    middle = 700 * (10 ** (mels[60] / 2595) - 1)
    power = np.asarray(MelSpectrogram(RATE, HOP, 2048, 80, 60.0, htk=True)(tone(middle)[None]))[0, 25]
    assert power.argmax() == 60
    assert 0.25 < power[60] < 0.4  # all of the lobe gathered is 1.5 times its peak


def test_levels_by_hand():
    power = np.array([0.0, 1e-8, 9e-8, 0.25], np.float32)
    expected = [0.0, np.log10(2), 1.0, np.log10(1 + 0.25e8)]
    np.testing.assert_allclose(np.asarray(LogPower()(power)), expected, rtol=1e-5)
    np.testing.assert_allclose(np.asarray(LogPower(-60.0)(power)), np.log10(1 + power * 1e6), rtol=1e-5)


@pytest.mark.parametrize("past", [1, 2, 10, 41])
def test_rises_are_above_scipys_running_median(past):
    from scipy import ndimage

    levels = np.random.default_rng(past).gamma(1.0, 1.0, (2, 60, 3)).astype(np.float32)
    before = np.pad(levels, [[0, 0], [past, 0], [0, 0]])  # silence
    median = np.stack([np.median(before[:, i : i + past + 1], axis=1) for i in range(60)], axis=1)
    if past % 2 == 0:
        size = {"size": (1, past + 1, 1), "origin": (0, past // 2, 0)}
        np.testing.assert_array_equal(ndimage.median_filter(levels, mode="constant", **size), median)
    found = np.asarray(MedianDifference(past)(levels))
    np.testing.assert_allclose(found, np.maximum(levels - median, 0), atol=1e-6)


def test_rises_by_hand():
    levels = np.array([2, 2, 2, 5, 5, 5, 1, 1, 1, 3], np.float32)[None, :, None]
    assert np.asarray(MedianDifference(2)(levels)).ravel().tolist() == [2, 0, 0, 3, 0, 0, 0, 0, 0, 2]
    layer = MedianDifference.from_config(MedianDifference(2).get_config())
    np.testing.assert_array_equal(layer(levels), MedianDifference(2)(levels))
    assert layer.compute_output_shape((None, 10, 1)) == (None, 10, 1)


def test_spectra_stay_float32_under_a_mixed_policy():
    import keras

    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        assert semitones()(noise(1, 640)).dtype == "float32"
        assert MagnitudeSpectrum()(noise(1, 640)).dtype == "float32"
        assert MedianDifference(2)(noise(1, 8, 2)).dtype == "float32"
    finally:
        keras.config.set_dtype_policy(before)
