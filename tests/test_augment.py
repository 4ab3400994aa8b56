"""Augmentation: each transform does what it states, and nothing by chance."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from musicnet_tf.augment import Augmentation, add_noise, augment, gain, tilt

RATE = 16000
SEED = tf.constant([3, 14])


def noise(length=16000):
    return np.random.default_rng(0).normal(0, 0.1, length).astype(np.float32)


def tone(hertz, length=16000):
    return (0.25 * np.sin(2 * np.pi * hertz * np.arange(length) / RATE)).astype(np.float32)


def decibels(after, before):
    return 10 * np.log10(np.sum(np.square(after, dtype=np.float64)) / np.sum(np.square(before, dtype=np.float64)))


@pytest.mark.parametrize("level", [-12.0, 0.0, 6.0])
def test_gain_moves_the_level_and_its_opposite_undoes_it(level):
    louder = gain(noise(), level)
    assert decibels(louder, noise()) == pytest.approx(level, abs=1e-4)
    np.testing.assert_allclose(gain(louder, -level), noise(), rtol=1e-5)


@pytest.mark.parametrize("snr", [0.0, 25.0, 60.0])
def test_noise_lies_below_the_music_by_what_is_stated(snr):
    music = tone(440)
    added = np.float64(add_noise(music, snr, SEED).numpy()) - music
    assert decibels(music, added) == pytest.approx(snr, abs=0.1)
    spectrum = np.abs(np.fft.rfft(added)) ** 2
    assert spectrum[:4000].mean() / spectrum[4000:].mean() == pytest.approx(1.0, abs=0.1)  # white


def test_noise_leaves_silence_silent():
    assert not add_noise(tf.zeros(1000), 10.0, SEED).numpy().any()


@pytest.mark.parametrize("slope", [-3.0, 1.5, 3.0])
def test_tilt_changes_each_octave_by_what_is_stated(slope):
    for hertz, octaves in ((250, -2), (1000, 0), (2000, 1), (4000, 2)):
        after = tilt(tone(hertz), RATE, slope)
        assert decibels(after, tone(hertz)) == pytest.approx(slope * octaves, abs=0.01)
        assert np.corrcoef(after, tone(hertz))[0, 1] > 0.99999  # phase is kept


def test_tilt_goes_no_further_than_20_db():
    assert decibels(tilt(tone(20), RATE, 6.0), tone(20)) == pytest.approx(-20.0, abs=0.01)


@pytest.mark.parametrize("length", [1000, 999, 64001])
def test_tilt_keeps_the_length_and_none_keeps_the_sound(length):
    assert tilt(noise(length), RATE, 2.0).shape == (length,)
    np.testing.assert_allclose(tilt(noise(length), RATE, 0.0), noise(length), atol=1e-6)


def test_the_default_changes_nothing():
    np.testing.assert_array_equal(augment(noise(), RATE, Augmentation(), SEED), noise())


FULL = Augmentation(gain_db=12, snr_db=25, tilt_db=3)


def test_the_seed_decides():
    once, again, other = (augment(noise(), RATE, FULL, tf.constant(s)).numpy() for s in ([3, 14], [3, 14], [3, 15]))
    np.testing.assert_array_equal(once, again)
    assert np.abs(once - other).max() > 1e-3
    in_graph = tf.function(lambda x: augment(x, RATE, FULL, SEED))(noise())
    np.testing.assert_allclose(in_graph, once, atol=1e-5)


def test_draws_fill_the_stated_range():
    levels = [
        decibels(augment(noise(200), RATE, Augmentation(gain_db=12), tf.constant([i, 0])), noise(200))
        for i in range(200)
    ]
    assert max(np.abs(levels)) <= 12.001
    assert min(levels) < -11
    assert max(levels) > 11
    ratios = []
    for i in range(200):
        after = augment(noise(200), RATE, Augmentation(snr_db=25), tf.constant([i, 0])).numpy()
        ratios.append(decibels(noise(200), np.float64(after) - noise(200)))
    assert 24.9 < min(ratios) < 27
    assert 63 < max(ratios) < 65.1
