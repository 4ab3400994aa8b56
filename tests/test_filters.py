"""Spectra of filters, what they are tuned to, and how pure they are."""

from __future__ import annotations

import librosa
import numpy as np
import pytest
import scipy.signal
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from musicnet_tf import filters
from musicnet_tf.errors import ConfigError

RATE = 44100


def tones(frequencies, length, width=0.2, noise=0.0):
    """Sinusoids that swell and fade by a Gaussian of `width` of the length, `(length, len(frequencies))`."""
    place = np.arange(length) - (length - 1) / 2
    phase = 1.3 * np.arange(len(frequencies))
    taper = np.exp(-0.5 * (place / (width * length)) ** 2)[:, None]
    waves = taper * np.sin(2 * np.pi * np.outer(place / RATE, frequencies) + phase)
    return waves + noise * np.random.default_rng(0).standard_normal(waves.shape)


@pytest.mark.parametrize("length", [64, 1000])
def test_spectra_are_the_response_of_each_filter(length):
    kernels = np.random.default_rng(1).standard_normal((length, 130))
    found = filters.spectra(kernels, RATE)
    assert found.frequencies[[0, -1]].tolist() == [0, RATE / 2]
    assert len(found.frequencies) == 4 * 2 ** np.ceil(np.log2(length)) // 2 + 1
    for unit in (0, 129):
        _, response = scipy.signal.freqz(kernels[:, unit], worN=found.frequencies, fs=RATE)
        np.testing.assert_allclose(found.magnitudes[:, unit], np.abs(response), atol=1e-4)


@pytest.mark.parametrize(("length", "lowest"), [(2048, 47), (10_240, 24), (16_384, 21)])
def test_the_frequency_of_a_tone_is_found_within_a_cent(length, lowest):
    wanted = librosa.midi_to_hz(np.arange(lowest, 128, 5) + 0.37)
    found = filters.dominant_frequencies(filters.spectra(tones(wanted, length), RATE))
    assert np.abs(1200 * np.log2(found / wanted)).max() < 1


def test_the_frequency_is_the_peak_of_a_finer_spectrum():
    kernel = tones([300.0], 2048)[:, 0] + 0.6 * tones([1234.5], 2048)[:, 0]
    fine = np.linspace(290, 310, 20_001)
    response = np.abs(scipy.signal.zoom_fft(kernel, [290, 310], m=20_001, fs=RATE, endpoint=True))
    (found,) = filters.dominant_frequencies(filters.spectra(kernel[:, None], RATE))
    assert found == pytest.approx(fine[np.argmax(response)], abs=0.02)


def test_peaks_at_both_ends_of_the_spectrum_stay_there():
    found = filters.spectra(np.stack([np.ones(64), (-1.0) ** np.arange(64)], axis=1), RATE)
    assert filters.dominant_frequencies(found).tolist() == [0, RATE / 2]


def test_noise_is_flat_and_a_fading_tone_is_not():
    noise = np.random.default_rng(2).standard_normal((2048, 200))
    ratios = filters.peak_to_median(filters.spectra(noise, RATE))
    # Magnitudes are of Rayleigh's distribution: the median sqrt(2 ln 2), the greatest of n about sqrt(2 ln n).
    assert np.median(ratios) == pytest.approx(np.sqrt(np.log(2048) / np.log(2)), rel=0.1)
    pure = filters.peak_to_median(filters.spectra(tones([440.0, 1000.0], 2048, noise=0.02), RATE))
    assert (pure > 30 * np.median(ratios)).all()
    abrupt = filters.peak_to_median(filters.spectra(tones([440.0, 1000.0], 2048, width=1e6, noise=0.02), RATE))
    assert (np.median(ratios) < abrupt).all()


@given(st.floats(1e-3, 1e3))
def test_neither_depends_on_the_scale_of_the_weights(scale):
    kernels = tones([200.0, 3000.0], 512, noise=0.1)
    one, other = filters.spectra(kernels, RATE), filters.spectra(scale * kernels, RATE)
    np.testing.assert_allclose(filters.peak_to_median(other), filters.peak_to_median(one), rtol=1e-3)
    np.testing.assert_allclose(filters.dominant_frequencies(other), filters.dominant_frequencies(one), rtol=1e-4)


def test_a_filter_of_zeros_is_tuned_to_nothing():
    found = filters.spectra(np.zeros((64, 2)), RATE)
    assert np.isnan(filters.dominant_frequencies(found)).all()
    assert np.isnan(filters.peak_to_median(found)).all()


@pytest.mark.parametrize("shape", [(64,), (1, 5), (64, 0), (64, 1, 5)])
def test_what_is_no_matrix_of_kernels_is_refused(shape):
    with pytest.raises(ConfigError, match=r"receptive field, units"):
        filters.spectra(np.zeros(shape), RATE)


def test_histograms_count_semitones_and_seconds():
    near = librosa.midi_to_hz([60.4, 59.6, 69, 127.4, 0])
    beyond = [0.0, 1.0, 14_000.0, 22_050.0, np.nan]
    histogram = filters.pitch_histogram(np.array([*near, *beyond]))
    assert dict(zip(np.flatnonzero(histogram).tolist(), histogram[histogram > 0].tolist(), strict=True)) == {
        0: 1,
        60: 2,
        69: 1,
        127: 1,
    }
    seconds = filters.note_histogram(np.array([60, 64, 60]), np.array([0.5, 2.0, 0.25]))
    assert seconds.shape == histogram.shape == (128,)
    assert (seconds[60], seconds[64], seconds.sum()) == (0.75, 2.0, 2.75)


@given(arrays.arrays(float, 128, elements=st.floats(27.6, 12_000)))
def test_each_audible_frequency_is_counted_at_its_nearest_pitch(frequencies):
    histogram = filters.pitch_histogram(frequencies)
    pitch = librosa.hz_to_midi(frequencies)
    assert histogram.sum() == 128
    for chosen in np.flatnonzero(histogram):
        assert histogram[chosen] <= np.count_nonzero(np.abs(pitch - chosen) <= 0.5 + 1e-9)


def test_correlation_leaves_out_pitches_where_neither_has_mass():
    one, other = np.zeros(128), np.zeros(128)
    one[[60, 62, 64]], other[[60, 62, 65]] = [4, 2, 1], [3, 3, 1]
    # Over (60, 62, 64, 65): (4, 2, 1, 0) and (3, 3, 0, 1), by hand: 5.75 / sqrt(8.75 * 6.75).
    found = filters.correlation(one, other)
    assert found.pitches == 4
    assert found.r == pytest.approx(5.75 / np.sqrt(8.75 * 6.75))
    assert found.r != pytest.approx(scipy.stats.pearsonr(one, other).statistic, abs=0.05)
    assert filters.correlation(one, 7 * one).r == pytest.approx(1)
    assert np.isnan(filters.correlation(one, np.zeros(128)).r)


def test_units_to_show_are_pure_and_spread():
    frequencies = np.array([100.0, 110, 400, 420, 1600, 1700, 200, 50, np.nan])
    ratios = np.array([50.0, 60, 40, 30, 70, 80, 2, 1, np.nan])
    assert filters.spread(frequencies, ratios, 2).tolist() == [1, 5]  # of 0, 1, 4, 5, the purer half
    assert filters.spread(frequencies, ratios, 20).tolist() == [7, 0, 1, 6, 2, 3, 4, 5]
    assert filters.spread(np.full(3, np.nan), np.full(3, np.nan), 2).tolist() == []
