"""Notes that are changed before a network hears them: what moves, moves together; what is missed, by chance alone."""

from __future__ import annotations

import numpy as np
import pydantic
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from musicnet_tf.note_changes import NoteChanges, changed

RATE = 1000
SEEDS = st.integers(0, 2**31 - 1)
MISTAKEN = {-24, -12, 12, 19, 24}


def record(size=60):
    onset = 500 + 100 * np.arange(size)
    columns = {"onset": onset, "offset": onset + 80, "pitch": 40 + np.arange(size) % 30, "velocity": np.full(size, 64)}
    fields = {f"notes/{name}": tf.constant(values, tf.int64) for name, values in columns.items()}
    return {**fields, "beats/time": tf.constant(onset[::4], tf.int64), "beats/position": tf.ones(size // 4, tf.int64)}


def played(seed=0, start=0, **changes):
    found = changed(record(), tf.constant(start, tf.int64), RATE, NoteChanges(**changes), tf.constant([seed, 1]))
    return {name: value.numpy() for name, value in found.items()}


def columns(found):
    return [found[f"notes/{name}"] for name in ("onset", "offset", "pitch", "velocity")]


def test_by_default_times_count_from_the_window_and_nothing_else_changes():
    before, after = {name: value.numpy() for name, value in record().items()}, played(start=300)
    for name in ("notes/onset", "notes/offset", "beats/time"):
        np.testing.assert_array_equal(after[name], before[name] - 300)
    for name in ("notes/pitch", "notes/velocity", "beats/position"):
        np.testing.assert_array_equal(after[name], before[name])


@given(SEEDS)
@settings(max_examples=25, deadline=None)
def test_another_tempo_moves_notes_and_beats_alike_and_reads_no_more_than_it_says(seed):
    found = played(seed, start=100, tempo=0.25)
    onset = found["notes/onset"]
    ratio = (onset[-1] - onset[0]) / 5900
    assert 0.799 < ratio < 1.251
    np.testing.assert_allclose(onset, (400 + 100 * np.arange(60)) * ratio, atol=1.5)
    np.testing.assert_array_equal(found["beats/time"], onset[::4])
    assert 10_000 / ratio <= NoteChanges(tempo=0.25).reads(10_000) + 10


@given(SEEDS)
@settings(max_examples=25, deadline=None)
def test_all_are_transposed_together(seed):
    moved = played(seed, transpose=5)["notes/pitch"] - record()["notes/pitch"].numpy()
    assert len(set(moved.tolist())) == 1
    assert abs(moved[0]) <= 5


def test_every_transposition_is_as_likely():
    moved = [int(played(seed, transpose=2)["notes/pitch"][0]) - 40 for seed in range(200)]
    assert set(moved) == {-2, -1, 0, 1, 2}
    assert min(moved.count(shift) for shift in set(moved)) > 20  # of 40 each


@given(SEEDS)
@settings(max_examples=25, deadline=None)
def test_a_missed_note_is_missed_whole(seed):
    left = set(zip(*(column.tolist() for column in columns(played(seed, missed=0.5))), strict=True))
    all_of_them = set(zip(*(column.tolist() for column in columns(played())), strict=True))
    assert left <= all_of_them


def test_the_share_that_is_missed_is_drawn_up_to_the_limit():
    shares = [1 - len(played(seed, missed=0.4)["notes/pitch"]) / 60 for seed in range(100)]
    assert np.mean(shares) == pytest.approx(0.2, abs=0.04)
    assert np.std(shares) > 0.08


@given(SEEDS)
@settings(max_examples=25, deadline=None)
def test_added_notes_are_softer_and_at_intervals_that_are_mistaken(seed):
    onset, offset, pitch, velocity = columns(played(seed, added=0.5))
    played_pitch = record()["notes/pitch"].numpy()
    assert (pitch[:60] == played_pitch).all() and (velocity[:60] == 64).all()
    index = (onset[60:] - 500) // 100
    assert set((pitch[60:] - played_pitch[index]).tolist()) <= MISTAKEN
    assert (velocity[60:] == 38).all()
    assert (offset[60:] - onset[60:] == 80).all()


def test_blur_moves_notes_apart_and_beats_not_at_all():
    shifts = np.concatenate([played(seed, blur=0.02)["notes/onset"] - record()["notes/onset"] for seed in range(80)])
    assert np.std(shifts) == pytest.approx(20 / np.sqrt(3), rel=0.2)  # of deviations evenly drawn up to 20 samples
    found = played(3, blur=0.1)
    assert (found["notes/offset"] > found["notes/onset"]).all()
    np.testing.assert_array_equal(found["beats/time"], record()["beats/time"])


def test_velocities_stay_in_range_and_unknown_ones_unknown():
    fields = {**record(2), "notes/velocity": tf.constant([0, 127], tf.int64)}
    for seed in range(20):
        heard = changed(fields, tf.constant(0, tf.int64), RATE, NoteChanges(velocity=30), tf.constant([seed, 1]))
        unknown, loud = heard["notes/velocity"].numpy()
        assert unknown == 0 and 1 <= loud <= 127


def test_the_same_seed_gives_the_same_notes():
    settings = {"transpose": 5, "tempo": 0.2, "missed": 0.2, "added": 0.1, "blur": 0.01, "velocity": 10}
    for one, other in zip(columns(played(5, **settings)), columns(played(5, **settings)), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("wrong", [{"missed": 1.1}, {"tempo": -0.1}, {"transpose": 1.5}, {"unknown": 1}])
def test_values_out_of_range_are_refused(wrong):
    with pytest.raises(pydantic.ValidationError):
        NoteChanges(**wrong)
