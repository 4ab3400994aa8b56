"""Tempo and meter of beats: hand-computed values and the laws of tempo."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from musicnet_tf.events import UNKNOWN, Beats
from musicnet_tf.rhythm import Meter, Tempo, meter, tempo, tempo_curve

intervals = st.lists(st.integers(20, 200), min_size=1, max_size=30)  # hundredths of a second


def beats_of(hundredths, position=None):
    return Beats(np.cumsum([0, *hundredths]) / 100, position)


def test_tempo_is_told_by_the_beats_before_and_after():
    held = beats_of([50, 100, 25, 40])
    np.testing.assert_allclose(tempo_curve(held), [120, 60, 240, 150, 150])
    np.testing.assert_allclose(tempo_curve(held, smoothing=3), [80, 120, 150, 60 / 0.325, 60 / 0.325])
    median, low, high = tempo(held)
    np.testing.assert_allclose([median, low, high], np.percentile([60, 120, 150, 240], [50, 5, 95]))


def test_a_beat_alone_has_no_tempo():
    assert tempo(Beats([1.0])) is None
    assert np.isnan(tempo_curve(Beats([1.0]))).tolist() == [True]
    assert tempo_curve(Beats.empty()).shape == (0,)


@given(intervals, st.integers(2, 5))
def test_played_so_many_times_as_fast_the_tempo_is_as_many_times_as_high(hundredths, factor):
    slow = beats_of(hundredths)
    fast = Beats(slow.time / factor)
    np.testing.assert_allclose(tempo_curve(fast), factor * tempo_curve(slow))
    np.testing.assert_allclose(tempo(fast), factor * np.array(tempo(slow)))


@given(intervals, st.sampled_from([1, 3, 5, 7]))
def test_smoothing_stays_between_the_tempi_that_there_are(hundredths, smoothing):
    rough, smooth = (tempo_curve(beats_of(hundredths), n) for n in (1, smoothing))
    assert smooth.shape == (len(hundredths) + 1,)
    assert smooth.min() >= rough.min() - 1e-9
    assert smooth.max() <= rough.max() + 1e-9


@pytest.mark.parametrize(
    ("position", "expected"),
    [
        ([1, 2, 3, 4, 1, 2, 3, 4, 1], Meter(4, 1.0)),
        ([2, 3, 1, 2, 3, 1, 2, 1, 2, 3, 1], Meter(3, 2 / 3)),  # a pickup, and one short bar
        ([1, 2, UNKNOWN, 1, 2, 1], Meter(2, 1.0)),  # a bar that is not known does not count
        ([1, 1, 1], Meter(1, 1.0)),
        ([1, 2, 1, 2, 3, 1], Meter(2, 0.5)),  # of two as common the smaller
        ([1, 2, 3, 4], None),  # no bar is whole
        ([UNKNOWN, UNKNOWN], None),
    ],
)
def test_meter_is_the_most_common_length_of_a_bar(position, expected):
    assert meter(beats_of([50] * (len(position) - 1), position)) == expected


def test_a_steady_tempo_has_no_range():
    assert tempo(Beats([0.0, 0.5, 1.0, 1.5])) == Tempo(120.0, 120.0, 120.0)
