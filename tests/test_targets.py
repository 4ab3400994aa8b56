"""Targets against definitions written out in NumPy, and read back by the decoder."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from musicnet_tf import targets
from musicnet_tf.decode.notes import NoteDecoding, decode
from musicnet_tf.models import HeadSpec
from musicnet_tf.targets import NoteTensors
from musicnet_tf.timebase import FrameClock

FRAMES = 12
HEAD = HeadSpec(5, first_pitch=60)  # so that drawn pitches 58–66 lie below, within and above
WIDTH = 0.05

clocks = st.builds(
    FrameClock, sample_rate=st.just(1000), hop_length=st.sampled_from([1, 7, 20, 64]), origin=st.integers(-50, 600)
)
rows = st.lists(
    st.tuples(st.integers(-700, 1600), st.integers(1, 900), st.integers(58, 66), st.sampled_from([-1, 1, 90, 127])),
    max_size=10,
)


def tensors(rows):
    onset, length, pitch, velocity = np.array(rows, np.int64).reshape(-1, 4).T
    return NoteTensors(*(tf.constant(x, tf.int64) for x in (onset, onset + length, pitch, velocity)))


def centres(clock, num_frames=FRAMES):
    return clock.frame_to_sample(np.arange(num_frames))


def classes(rows):
    """(class, onset, offset, velocity) of the notes that the head has a class for."""
    kept = [(pitch - 60, onset, onset + length, velocity) for onset, length, pitch, velocity in rows]
    return [row for row in kept if 0 <= row[0] < HEAD.num_classes]


@settings(max_examples=60)
@given(rows, clocks)
def test_sounding_is_the_midpoint_rule(rows, clock):
    expected = np.zeros((FRAMES, HEAD.num_classes))
    for c, onset, offset, _ in classes(rows):
        for k, centre in enumerate(centres(clock)):
            if onset <= centre < offset:
                expected[k, c] = 1
    np.testing.assert_array_equal(targets.sounding(tensors(rows), clock, FRAMES, HEAD).numpy(), expected)


def brute_nearness(events, clock, width):
    expected = np.zeros((FRAMES, HEAD.num_classes))
    for c, time in events:
        for k, centre in enumerate(centres(clock)):
            expected[k, c] = max(expected[k, c], 1 - abs(centre - time) / (width * clock.sample_rate))
    return expected


@settings(max_examples=60)
@given(rows, clocks, st.sampled_from([0.004, 0.05, 0.2]))
def test_nearness_is_the_highest_triangle(rows, clock, width):
    notes = tensors(rows)
    onsets = [(c, onset) for c, onset, _, _ in classes(rows)]
    offsets = [(c, offset) for c, _, offset, _ in classes(rows)]
    for times, events in ((notes.onset, onsets), (notes.offset, offsets)):
        heard = targets.nearness(times, notes, clock, FRAMES, HEAD, width).numpy()
        np.testing.assert_allclose(heard, brute_nearness(events, clock, width), atol=1e-6)


@settings(max_examples=60)
@given(rows, clocks)
def test_velocity_stands_where_an_onset_is_near_and_known(rows, clock):
    level, weight = np.moveaxis(targets.velocity_near_onsets(tensors(rows), clock, FRAMES, HEAD, WIDTH).numpy(), -1, 0)
    known = [row for row in classes(rows) if row[3] > 0]
    np.testing.assert_allclose(weight, brute_nearness([(c, on) for c, on, _, _ in known], clock, WIDTH), atol=1e-6)
    expected = np.zeros_like(level)
    for c, onset, _, velocity in known:
        near = np.abs(centres(clock) - onset) < WIDTH * clock.sample_rate
        expected[near, c] = np.maximum(expected[near, c], velocity / 127)
    counts = weight > 1e-6  # at exactly the width rounding decides, and no loss reads it
    np.testing.assert_allclose(level[counts], expected[counts], atol=1e-6)


def test_numbers_by_hand():
    clock = FrameClock(1000, 20)  # frames every 20 ms
    notes = tensors([(30, 40, 62, 64)])  # sounds from sample 30 up to 70: frames at 40 and 60
    assert targets.sounding(notes, clock, 5, HEAD).numpy()[:, 2].tolist() == [0, 0, 1, 1, 0]
    onset = targets.nearness(notes.onset, notes, clock, 5, HEAD, WIDTH).numpy()[:, 2]
    assert onset == pytest.approx([0.4, 0.8, 0.8, 0.4, 0.0], abs=1e-6)
    offset = targets.nearness(notes.offset, notes, clock, 5, HEAD, WIDTH).numpy()[:, 2]
    assert offset == pytest.approx([0.0, 0.0, 0.4, 0.8, 0.8], abs=1e-6)
    velocity = targets.velocity_near_onsets(notes, clock, 5, HEAD, WIDTH).numpy()[:, 2]
    assert velocity[:, 0] == pytest.approx([64 / 127] * 4 + [0], abs=1e-6)
    assert velocity[:, 1] == pytest.approx(onset, abs=1e-6)


def test_the_first_frame_at_the_midpoint_of_a_window():
    clock = FrameClock(44100, 512, origin=1024)  # the paper's: one frame, in the middle of 2048 samples
    at = [(1024, 1, 60, -1), (1025, 10, 61, -1), (1000, 24, 62, -1), (1000, 25, 63, -1)]
    assert targets.sounding(tensors(at), clock, 1, HEAD).numpy().tolist() == [[1, 0, 0, 1, 0]]


def test_no_notes_give_silence():
    clock = FrameClock(1000, 20)
    assert not targets.sounding(tensors([]), clock, 5, HEAD).numpy().any()
    assert not targets.velocity_near_onsets(tensors([]), clock, 5, HEAD, WIDTH).numpy().any()


@settings(max_examples=40)
@given(st.data())
def test_events_on_the_grid_are_read_off_the_roll(data):
    clock = FrameClock(1000, 10, origin=data.draw(st.integers(0, 30)))
    expected = set()
    for pitch in range(60, 65):  # cuts of the axis, every second stretch a note: notes of a pitch never touch
        cuts = sorted(data.draw(st.sets(st.integers(0, 39), max_size=8)))
        expected |= {(on, off, pitch) for on, off in zip(cuts[::2], cuts[1::2], strict=False)}
    notes = [(int(clock.frame_to_sample(on)), (off - on) * 10, pitch, -1) for on, off, pitch in expected]
    roll = targets.sounding(tensors(notes), clock, 40, HEAD).numpy()
    changes = np.diff(np.pad(roll, ((1, 1), (0, 0))), axis=0)
    found = set()
    for c in range(HEAD.num_classes):
        starts, ends = np.flatnonzero(changes[:, c] > 0), np.flatnonzero(changes[:, c] < 0)
        found |= {(on, off, 60 + c) for on, off in zip(starts.tolist(), ends.tolist(), strict=True)}
    assert found == expected


@settings(max_examples=40)
@given(st.lists(st.integers(0, 319), min_size=1, max_size=5), st.integers(0, 640))
def test_the_decoder_finds_onsets_between_frames(places, origin):
    clock = FrameClock(16000, 320, origin)
    head = HeadSpec(88, 21)
    onsets = [origin + 320 * (10 + 30 * i) + place for i, place in enumerate(places)]  # 0.6 s apart
    notes = tensors([(onset, 5000, 40 + i, 30 + 20 * i) for i, onset in enumerate(onsets)])
    frames = 30 * len(places) + 30
    heads = {
        "frame": targets.sounding(notes, clock, frames, head).numpy(),
        "onset": targets.nearness(notes.onset, notes, clock, frames, head, WIDTH).numpy(),
        "velocity": targets.velocity_near_onsets(notes, clock, frames, head, WIDTH).numpy()[..., 0],
    }
    found = decode(heads, clock, NoteDecoding(), first_pitch=21)
    assert found.pitch.tolist() == [40 + i for i in range(len(places))]
    assert found.velocity.tolist() == [30 + 20 * i for i in range(len(places))]
    np.testing.assert_allclose(clock.time_to_frame(found.onset), clock.sample_to_frame(onsets), atol=1e-3)
    assert np.abs(clock.time_to_frame(found.offset) - clock.sample_to_frame(onsets) - 5000 / 320).max() <= 0.5 + 1e-6
