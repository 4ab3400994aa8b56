"""Beats: order, selection, equality and the message for every beat that cannot exist."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from musicnet_tf.errors import ScoreError
from musicnet_tf.events import UNKNOWN, Beat, Beats


@st.composite
def beats(draw):
    """Any beats on a coarse grid that includes 0, with positions known or not."""
    time = sorted(draw(st.sets(st.integers(-8, 40), max_size=20)))
    position = draw(st.lists(st.sampled_from([UNKNOWN, 1, 2, 3, 12]), min_size=len(time), max_size=len(time)))
    return Beats(np.array(time, float) / 4, position)


def test_downbeats_are_the_beats_known_to_begin_a_bar():
    held = Beats([0.5, 1.0, 1.5, 2.0, 2.75], [3, 1, 2, UNKNOWN, 1])
    assert held.downbeats.tolist() == [1.0, 2.75]
    assert list(held)[2:4] == [Beat(1.5, 2), Beat(2.0, UNKNOWN)]
    assert len(held) == 5


def test_positions_that_the_source_does_not_tell_are_marked():
    held = Beats([0.25, 0.75])
    assert held.position.tolist() == [UNKNOWN, UNKNOWN]
    assert held.position.dtype == np.int64
    assert held.downbeats.size == 0
    assert Beats.empty() == Beats.from_list([])


@given(beats())
def test_list_of_beats_round_trip(held):
    assert Beats.from_list(list(held)) == held


@given(beats(), st.integers(-10, 50), st.integers(-10, 50))
def test_within_keeps_the_beats_of_a_half_open_stretch(held, start, stop):
    expected = [beat for beat in held if start / 4 <= beat.time < stop / 4]
    assert list(held.within(start / 4, stop / 4)) == expected


@given(beats(), st.integers(-10, 50))
def test_two_stretches_that_touch_hold_every_beat_once(held, middle):
    parts = [held.within(-100.0, middle / 4), held.within(middle / 4, 100.0)]
    assert Beats.concatenate(parts) == held


@given(beats(), st.integers(-40, 40))
def test_shift_moves_time_alone_and_back(held, quarters):
    moved = held.shift(quarters / 4)
    assert moved.position.tolist() == held.position.tolist()
    assert moved.time.tolist() == [time + quarters / 4 for time in held.time.tolist()]
    assert moved.shift(-quarters / 4) == held


@given(beats(), beats())
def test_equal_is_what_lists_the_same_beats(one, other):
    assert (one == other) == (list(one) == list(other))


def test_columns_cannot_be_changed_and_are_copies():
    time = np.array([0.0, 1.0])
    held = Beats(time, [1, 2])
    time[0] = 0.5
    assert held.time.tolist() == [0.0, 1.0]
    with pytest.raises(ValueError, match="read-only"):
        held.time[0] = 3.0


@pytest.mark.parametrize(
    ("time", "position", "message"),
    [
        ([0.0, 1.0, 1.0], None, "beat 2: times must increase (time=1.0, position=-1)"),
        ([0.0, 2.0, 1.0], [1, 2, 3], "beat 2: times must increase (time=1.0, position=3)"),
        ([0.0, np.nan], None, "beat 1: times must be finite (time=nan, position=-1)"),
        ([-np.inf, 0.0], None, "beat 0: times must be finite (time=-inf, position=-1)"),
        ([0.0, 1.0], [1, 0], "beat 1: position must be 1 or more, or unknown (-1) (time=1.0, position=0)"),
        ([0.0, 1.0], [1], "beats: times of shape (2,) and positions of shape (1,); both must be (n,)"),
        ([[0.0, 1.0]], None, "beats: times of shape (1, 2) and positions of shape (1, 2); both must be (n,)"),
    ],
)
def test_beats_that_cannot_be_are_refused_by_row(time, position, message):
    with pytest.raises(ScoreError) as caught:
        Beats(time, position)
    assert str(caught.value) == message
