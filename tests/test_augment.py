"""Augmentation: each transform does what it states, and nothing by chance."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import example, given, settings
from hypothesis import strategies as st

from musicnet_tf import targets
from musicnet_tf.augment import Augmentation, add_noise, augment, gain, resample, tilt, transposed
from musicnet_tf.models import HeadSpec, ModelSpec
from musicnet_tf.timebase import FrameClock

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


def resampled(audio, scale, length, start=0):
    return resample(audio, tf.constant(start, tf.int64), tf.constant(scale, tf.float64), length).numpy()


def labels(rows=()):
    """The part of a record that a transposition moves, of notes (onset, offset, pitch)."""
    onset, offset, pitch = np.array(rows, np.int64).reshape(-1, 3).T
    return {
        "notes/onset": onset,
        "notes/offset": offset,
        "notes/pitch": pitch,
        "notes/velocity": np.full(len(onset), 64),
    }


def transpose(audio, record, start, length, seed, **strength):
    samples, moved = transposed(
        tf.constant(audio), record, tf.constant(start, tf.int64), length, Augmentation(**strength), tf.constant(seed)
    )
    return samples.numpy(), {name: np.asarray(values) for name, values in moved.items()}


def pitch_of(samples):
    """Frequency of the highest peak, from a parabola through the logarithms of its bins."""
    power = np.log(np.abs(np.fft.rfft(samples * np.hanning(len(samples)), 4 * len(samples))) + 1e-12)
    k = power[:-1].argmax()
    left, middle, right = power[k - 1 : k + 2]
    return (k + 0.5 * (left - right) / (left - 2 * middle + right)) * RATE / (4 * len(samples))


def test_resampling_is_the_cubic_through_four_samples():
    cubic = np.polynomial.Polynomial([0.3, -0.1, 0.02, -0.0013])  # which it therefore gives exactly
    heard = resampled(cubic(np.arange(30)).astype(np.float32), 0.73, 25, start=3)
    np.testing.assert_allclose(heard, cubic(3 + 0.73 * np.arange(25)), rtol=1e-4, atol=1e-5)
    assert resampled([0.0, 0.0, 1.0, 0.0, 0.0, 0.0], 0.5, 7, start=1) == pytest.approx(
        [0, 9 / 16, 1, 9 / 16, 0, -1 / 16, 0]
    )


def test_resampling_by_one_copies():
    np.testing.assert_array_equal(resampled(noise(100), 1.0, 90, start=10), noise(100)[10:])


@pytest.mark.parametrize("scale", [0.8, 1.0, 1.3])
@pytest.mark.parametrize("start", [0, 1, 60, 99])
def test_silence_lies_before_and_after_the_audio(scale, start):
    padded = np.pad(noise(100), (50, 300))
    np.testing.assert_array_equal(resampled(noise(100), scale, 150, start), resampled(padded, scale, 150, start + 50))


@pytest.mark.parametrize(
    ("hertz", "rate", "lost", "error"),
    [(6000, 44100, 0.066, -41.5), (3000, 44100, 0.0043, -65.1), (3000, 16000, 0.225, -30.8)],
)
def test_what_resampling_takes_and_adds(hertz, rate, lost, error):
    """Attenuation and error over all places between two samples."""
    scale, turn = 2 ** (-1 / 12), 2 * np.pi * hertz / rate
    ideal = np.sin(turn * scale * np.arange(44100))
    heard = resampled(np.sin(turn * np.arange(44200)).astype(np.float32), scale, 44100).astype(np.float64)
    assert decibels(heard, ideal) == pytest.approx(-lost, rel=0.05, abs=0.0005)
    assert decibels(heard - ideal, ideal) == pytest.approx(error, abs=0.2)


@settings(max_examples=25)
@given(st.floats(-5.1, 5.1), st.integers(0, 2**16))
@example(0.0, 0)
def test_playing_faster_and_then_slower_gives_the_music_back(semitones, draw):
    scale = 2 ** (semitones / 12)
    rng = np.random.default_rng(draw)
    spectrum = np.zeros(4001, complex)  # up to an eighth of the sample rate
    spectrum[1:1000] = rng.normal(size=999) + 1j * rng.normal(size=999)
    music = np.fft.irfft(spectrum).astype(np.float32)
    there = resampled(music, scale, int(7900 / scale))
    back = resampled(there, 1 / scale, 7800)
    assert np.std(back[10:7700] - music[10:7700]) < 0.05 * np.std(music[10:7700])


@pytest.mark.parametrize("strength", [{"pitch_shift": 5}, {"jitter": 0.1}, {"pitch_shift": 12, "jitter": 0.1}])
def test_pitch_and_label_move_together_and_jitter_is_not_told(strength):
    cents, shifts = [], []
    for i in range(40):
        samples, moved = transpose(tone(440, 12000), labels([(0, 12000, 69)]), 100, 4000, [i, 7], **strength)
        shift = int(moved["notes/pitch"][0]) - 69
        cents.append(1200 * np.log2(pitch_of(samples) / 440) - 100 * shift)
        shifts.append(shift)
    assert max(np.abs(shifts)) <= strength.get("pitch_shift", 0)
    assert len(set(shifts)) > strength.get("pitch_shift", 0)
    assert max(np.abs(cents)) <= 100 * strength.get("jitter", 0) + 0.5
    assert np.std(cents) == pytest.approx(100 * strength.get("jitter", 0) / np.sqrt(3), rel=0.3, abs=0.3)


def test_every_shift_is_as_likely():
    def draw(i):
        five = Augmentation(pitch_shift=5)
        record = labels([(0, 1, 60)])
        return transposed(tf.zeros(30), record, tf.constant(0, tf.int64), 20, five, [i, 1])[1]["notes/pitch"][0]

    draws = tf.function(lambda: tf.map_fn(draw, tf.range(2200), tf.int64))()
    counts = np.bincount(draws.numpy() - 55, minlength=11)
    assert len(counts) == 11
    assert np.sum((counts - 200) ** 2 / 200) < 29.6  # chi-squared of ten degrees: one in a thousand is beyond


notes = st.lists(st.tuples(st.integers(-500, 3000), st.integers(1, 900), st.integers(0, 127)), min_size=1, max_size=8)


@settings(max_examples=40)
@given(notes, st.integers(0, 900), st.integers(0, 999), st.sampled_from([(1000, 1), (20, 50)]))
def test_each_frame_tells_what_sounds_where_it_was_read(rows, start, seed, grid):
    """A window of one frame and one of many; against the music at the place that each frame's centre was read from."""
    frames, hop = grid[1], 1000 // grid[1]
    spec = ModelSpec(FrameClock(1000, hop, origin=hop // 2), 1000, frames, 0, {"frame": HeadSpec(128)})
    record = labels([(onset, onset + duration, pitch) for onset, duration, pitch in rows])
    excerpt = np.arange(2000, dtype=np.float32)  # tells where it was read
    samples, moved = transpose(excerpt, record, start, 1000, [seed, 0], pitch_shift=5, jitter=0.1)
    in_window = targets.NoteTensors.of_window(moved, tf.constant(0, tf.int64), spec, reach=0.05)
    heard = targets.sounding(in_window, spec.clock, frames, spec.heads["frame"]).numpy()
    shift = moved["notes/pitch"][0] - record["notes/pitch"][0]
    scale = (samples[-1] - samples[0]) / 999
    assert abs(12 * np.log2(scale) - shift) < 0.101
    expected = np.zeros((frames, 128))
    certain = np.ones((frames, 128), bool)  # float32 cannot tell on which side of a boundary it was read
    for onset, offset, pitch in zip(record["notes/onset"], record["notes/offset"], record["notes/pitch"], strict=True):
        if 0 <= pitch + shift < 128:  # a note that leaves the range is gone
            read = samples[spec.clock.frame_to_sample(np.arange(frames))]
            expected[(onset <= read) & (read < offset), pitch + shift] = 1
            certain[(np.abs(read - onset) < 1e-2) | (np.abs(read - offset) < 1e-2), pitch + shift] = False
    np.testing.assert_array_equal(heard[certain], expected[certain])


def test_times_by_hand():
    """An octave up, from sample 100: what is heard at sample 100 + 2k sounds at k."""
    record = labels([(100, 110, 60), (103, 106, 62), (99, 100, 64)])
    seed = next(
        i
        for i in range(999)
        if transpose(noise(300), record, 0, 100, [i, 0], pitch_shift=12)[1]["notes/pitch"][0] == 72
    )
    samples, moved = transpose(noise(300), record, 200, 100, [seed, 0], pitch_shift=12)
    np.testing.assert_array_equal(samples, noise(300)[101:300:2])  # the last of the places that it fits
    assert moved["notes/pitch"].tolist() == [72, 74, 76]
    assert moved["notes/onset"].tolist() == [0, 1, -1]  # -0.5, 1 and -1, rounded up
    assert moved["notes/offset"].tolist() == [5, 3, 0]  # 4.5, 2.5 and -0.5


def test_starts_fill_the_room_of_each_stretch_and_no_more():
    ramp = np.arange(1, 3001, dtype=np.float32)
    for i in range(12):
        strength = {"pitch_shift": 5, "jitter": 0.1}
        first, last = (transpose(ramp, labels(), start, 1000, [i, 0], **strength)[0] for start in (0, 2000))
        scale = (first[-1] - first[0]) / 999
        assert first[0] == 1
        assert -0.05 < 3000 - last[0] - 999 * scale < 1.05  # the last is read between the last two samples
        np.testing.assert_allclose(last[:-2] - last[0], scale * np.arange(998), atol=0.01)


def test_an_excerpt_too_short_for_its_stretch_ends_in_silence():
    lengths = set()
    for i in range(60):
        samples, _ = transpose(np.ones(1000, np.float32), labels(), 0, 1000, [i, 0], pitch_shift=5)
        heard = int(samples.sum().round())
        lengths.add(heard)
        np.testing.assert_allclose(samples[3 : heard - 3], 1, atol=1e-5)
        assert not samples[heard + 3 :].any()
    expected = [1000] * 6 + [int(999 / 2 ** (shift / 12)) + 1 for shift in range(1, 6)]
    assert all(min(abs(n - heard) for n in expected) <= 1 for heard in lengths)
    assert len(lengths) >= 6


def test_the_seed_decides_the_transposition():
    once, again, other = (
        transpose(tone(440), labels([(0, 1, 60)]), 5, 4000, seed, pitch_shift=5, jitter=0.1)[0]
        for seed in ([1, 2], [1, 2], [1, 3])
    )
    np.testing.assert_array_equal(once, again)
    assert np.abs(once - other).max() > 1e-2
