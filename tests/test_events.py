"""Notes: order, selection, equality and the message for every note that cannot exist."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from musicnet_tf.errors import ScoreError
from musicnet_tf.events import UNKNOWN, Note, Notes


@st.composite
def notes(draw, max_size=20):
    """Any list of notes on a coarse grid, so that equal onsets and touching notes are common."""
    size = draw(st.integers(0, max_size))
    onset = np.array(draw(st.lists(st.integers(-8, 40), min_size=size, max_size=size)), float) / 4
    length = np.array(draw(st.lists(st.integers(1, 12), min_size=size, max_size=size)), float) / 4
    columns = {
        name: draw(st.lists(st.one_of(st.just(UNKNOWN), st.integers(low, 127)), min_size=size, max_size=size))
        for name, low in (("velocity", 1), ("instrument", 0))
    }
    pitch = draw(st.lists(st.integers(0, 127), min_size=size, max_size=size))
    beat = draw(st.lists(st.one_of(st.just(float("nan")), st.integers(0, 99)), min_size=size, max_size=size))
    return Notes(onset, onset + length, pitch, start_beat=beat, **columns)


def test_columns_are_sorted_together_by_onset_pitch_instrument():
    given_notes = [Note(1.0, 2.0, 60, 90, 40), Note(0.5, 3.0, 72, 80, 0), Note(1.0, 1.5, 55), Note(1.0, 4.0, 60, 70, 0)]
    held = Notes.from_list(given_notes)
    assert list(held) == [given_notes[1], given_notes[2], given_notes[3], given_notes[0]]
    assert held.velocity.tolist() == [80, UNKNOWN, 70, 90]
    assert held.end == 4.0
    np.testing.assert_array_equal(held.intervals(), [[0.5, 3.0], [1.0, 1.5], [1.0, 4.0], [1.0, 2.0]])


def test_what_the_source_does_not_tell_is_marked():
    held = Notes([0.0], [1.0], [60])
    assert list(held) == [Note(0.0, 1.0, 60, UNKNOWN, UNKNOWN)]
    assert np.isnan(held.start_beat[0])
    assert held.note_value.tolist() == [""]


@given(notes())
def test_list_of_notes_round_trip(held):
    rebuilt = Notes.from_list(list(held))
    assert list(rebuilt) == list(held)
    assert list(held) == sorted(held, key=lambda n: (n.onset, n.pitch, n.instrument))


@given(notes(), st.randoms())
def test_order_given_does_not_matter_for_distinct_notes(held, random):
    distinct = {(n.onset, n.pitch, n.instrument): n for n in held}
    shuffled = list(distinct.values())
    random.shuffle(shuffled)
    assert Notes.from_list(shuffled) == Notes.from_list(list(distinct.values()))


@given(notes(), st.integers(-10, 50), st.integers(-10, 50))
def test_within_is_the_notes_that_sound_at_some_instant(held, a, b):
    start, stop = min(a, b) / 4, max(a, b) / 4
    # On the grid of quarters, a note sounds within [start, stop) iff it does at some eighth between.
    instants = np.arange(start + 0.125, stop, 0.25)
    expected = [n for n in held if any(n.onset <= t < n.offset for t in instants)]
    if start < stop:
        assert list(held.within(start, stop)) == expected


def test_within_is_half_open():
    held = Notes([0.0, 1.0, 2.0], [1.0, 2.0, 3.0], [60, 61, 62])
    assert held.within(1.0, 2.0).pitch.tolist() == [61]


@given(notes(), st.data())
def test_selection_is_that_of_every_column(held, data):
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=len(held), max_size=len(held))), bool)
    assert list(held[mask]) == [n for n, kept in zip(held, mask, strict=True) if kept]
    assert list(held[2:5]) == list(held)[2:5]
    assert held[np.arange(len(held))] == held


@given(notes(), notes())
def test_concatenation_holds_all_notes_of_both(a, b):
    joined = Notes.concatenate([a, b])
    assert sorted(joined) == sorted([*a, *b])
    assert Notes.concatenate([a, Notes.empty()]) == a


@given(notes(), st.integers(-100, 100))
def test_shift_and_back(held, quarters):
    moved = held.shift(quarters / 4)
    np.testing.assert_array_equal(moved.onset, held.onset + quarters / 4)
    assert moved.shift(-quarters / 4) == held


def test_equality_sees_every_column():
    held = Notes([0.0], [1.0], [60], [64], [0], [1.5], [0.5], ["Eighth"])
    same = Notes([0.0], [1.0], [60], [64], [0], [1.5], [0.5], ["Eighth"])
    assert held == same
    for name, other in {
        "onset": [0.1],
        "offset": [1.1],
        "pitch": [61],
        "velocity": [65],
        "instrument": [1],
        "start_beat": [np.nan],
        "end_beat": [1.0],
        "note_value": ["Quarter"],
    }.items():
        columns = {n: getattr(held, n) for n in ("onset", "offset", "pitch", "velocity", "instrument")}
        columns |= {n: getattr(held, n) for n in ("start_beat", "end_beat", "note_value")}
        assert Notes(**{**columns, name: other}) != held, name
    assert held != [Note(0.0, 1.0, 60, 64, 0)]


def test_empty():
    held = Notes.empty()
    assert (len(held), list(held), held.end, held.intervals().shape) == (0, [], 0.0, (0, 2))
    assert Notes.concatenate([]) == Notes.from_list([]) == held


def test_columns_cannot_be_changed_nor_change_with_their_source():
    source = np.array([0.0, 1.0])
    held = Notes(source, [1.0, 2.0], [60, 61])
    source[0] = 0.5
    assert held.onset[0] == 0.0
    with pytest.raises(ValueError, match="read-only"):
        held.onset[0] = 0.5
    with pytest.raises(AttributeError):
        held.onset = source


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (([0, 1], [1, 1], [60, 60]), r"note 1: offset must be after onset \(onset=1.0, offset=1.0, pitch=60"),
        (([0], [-1], [60]), "note 0: offset must be after onset"),
        (([np.nan], [1], [60]), "note 0: times must be finite"),
        (([0], [np.inf], [60]), "note 0: times must be finite"),
        (([0], [1], [128]), "note 0: pitch must be a MIDI number 0–127"),
        (([0], [1], [-1]), "note 0: pitch must be a MIDI number"),
        (([0], [1], [60], [0]), "note 0: velocity must be 1–127"),
        (([0], [1], [60], [128]), "note 0: velocity must be 1–127"),
        (([0], [1], [60], [64], [128]), "note 0: instrument must be a MIDI program 0–127"),
        (([0], [1], [60], [64], [-2]), "note 0: instrument must be a MIDI program"),
        (([0, 1], [1], [60, 61]), r"column 'offset' has shape \(1,\), expected \(2,\)"),
        (([0], [1], [[60]]), r"column 'pitch' has shape \(1, 1\)"),
    ],
)
def test_refuses_notes_that_cannot_exist(columns, message):
    with pytest.raises(ScoreError, match=message):
        Notes(*columns)
