"""Samples, frames and seconds: hand-computed values and the laws that hold for every clock."""

from __future__ import annotations

import librosa
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from musicnet_tf.errors import ConfigError
from musicnet_tf.timebase import FrameClock

clocks = st.builds(
    FrameClock,
    sample_rate=st.sampled_from([8000, 11025, 16000, 22050, 44100, 48000]),
    hop_length=st.integers(1, 5000),
    origin=st.integers(-5000, 5000),
)


def test_values_by_hand():
    centred = FrameClock(44100, 512)
    assert centred.frame_rate == 86.1328125
    assert centred.frame_to_sample(3) == 1536
    assert centred.frame_to_time(441) == pytest.approx(5.12, abs=1e-12)
    midpoint = FrameClock(44100, 512, origin=1024)  # whole windows of 2048 samples
    assert midpoint.frame_to_sample(3) == 2560
    assert midpoint.sample_to_frame(1024) == 0
    assert midpoint.sample_to_frame(1280) == 0.5
    assert midpoint.time_to_frame(1.0) == pytest.approx((44100 - 1024) / 512, abs=1e-12)
    np.testing.assert_allclose(midpoint.times(2), [1024 / 44100, 1536 / 44100], rtol=1e-15)


def test_agrees_with_librosa():
    frames = np.arange(1000)
    np.testing.assert_array_equal(
        FrameClock(22050, 256).times(1000), librosa.frames_to_time(frames, sr=22050, hop_length=256)
    )
    np.testing.assert_array_equal(
        FrameClock(22050, 256, origin=1024).frame_to_sample(frames),
        librosa.frames_to_samples(frames, hop_length=256, n_fft=2048),
    )


@given(clocks, st.integers(0, 20_000))
def test_num_frames_counts_the_centres_before_the_end(clock, num_samples):
    enough = np.arange(25_001 // clock.hop_length + 1)  # origin is at least -5000
    assert clock.num_frames(num_samples) == np.count_nonzero(clock.frame_to_sample(enough) < num_samples)


@given(clocks, st.lists(st.integers(-(10**9), 10**9), min_size=1))
def test_frame_and_sample_are_inverse(clock, frames):
    frames = np.array(frames)
    np.testing.assert_allclose(clock.sample_to_frame(clock.frame_to_sample(frames)), frames, rtol=1e-12)


@given(clocks, st.lists(st.floats(-1e5, 1e5), min_size=1))
def test_frame_and_time_are_inverse(clock, seconds):
    seconds = np.array(seconds)
    np.testing.assert_allclose(clock.frame_to_time(clock.time_to_frame(seconds)), seconds, rtol=1e-12, atol=1e-9)


@given(clocks)
def test_one_frame_later_is_one_hop_later(clock):
    np.testing.assert_allclose(np.diff(clock.times(100)) * clock.frame_rate, 1, rtol=1e-9)


@pytest.mark.parametrize(("rate", "hop", "name"), [(0, 1, "sample_rate"), (44100, 0, "hop_length"), (8000, -1, "hop_")])
def test_refuses_what_cannot_tick(rate, hop, name):
    with pytest.raises(ConfigError, match=rf"FrameClock\.{name}.* must be positive, got {min(rate, hop)}"):
        FrameClock(rate, hop)
