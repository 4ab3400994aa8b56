from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from musicnet_tf.alignment.hearing import Heard
from musicnet_tf.alignment.label_evidence import Peaks
from musicnet_tf.alignment.refine import RefineSettings, refine
from musicnet_tf.alignment.snap import ends, heard_peaks, snap
from musicnet_tf.errors import ScoreError
from musicnet_tf.events import Notes
from musicnet_tf.timebase import FrameClock

CLOCK = FrameClock(16000, 320)
FIRST_PITCH, PITCHES = 21, 88


def heard(notes: Notes, seconds: float, height: float = 0.9) -> Heard:
    """What a perfect model hears: frames that sound, and triangles of 0.05 s around onsets, by their formula."""
    times = np.arange(round(50 * seconds)) / 50
    onset, frame = np.zeros((2, len(times), PITCHES), np.float32)
    for note in notes:
        column = note.pitch - FIRST_PITCH
        frame[(times >= note.onset) & (times < note.offset), column] = height
        triangle = height * np.maximum(0, 1 - np.abs(times - note.onset) / 0.05)
        onset[:, column] = np.maximum(onset[:, column], triangle)
    return Heard({"onset": onset, "frame": frame}, CLOCK, FIRST_PITCH)


def music(seed: int = 0, chords: int = 80) -> Notes:
    """Chords of one to four notes, 0.2 to 0.6 s apart, each legato to the next."""
    rng = np.random.default_rng(seed)
    onset = 1.0 + np.cumsum(rng.uniform(0.2, 0.6, chords + 1))
    parts = [(onset[k], onset[k + 1], rng.choice(30, rng.integers(1, 5), False) + 45) for k in range(chords)]
    rows = [(start, stop, pitch) for start, stop, chord in parts for pitch in chord]
    return Notes(*np.array(rows).T)


def peaks(*rows: tuple[float, int, float]) -> Peaks:
    time, pitch, strength = zip(*sorted(rows, key=lambda row: (row[1], row[0])), strict=True)
    return Peaks(np.array(time), np.array(pitch), np.array(strength, np.float32))


def test_a_peak_lies_where_the_triangle_does_to_a_fraction_of_a_frame():
    truth = Notes([1.0, 1.5037, 2.2111], [1.4, 2.0, 2.5], [60, 60, 61])
    found = heard_peaks(heard(truth, 4), 0.25)
    np.testing.assert_allclose(found.time, truth.onset, atol=1e-6)
    assert found.pitch.tolist() == [60, 60, 61]
    assert (found.strength > 0.7).all() and (found.strength <= 0.9).all()
    assert not len(heard_peaks(heard(truth, 4, height=0.2), 0.25).time)


def test_a_note_takes_the_peak_of_its_pitch_that_is_strong_and_near():
    heights = peaks((1.0, 60, 0.5), (1.1, 60, 0.9), (1.02, 61, 0.9), (3.0, 60, 0.9))
    onset, pitch = np.array([1.0, 1.0, 2.0, 1.0]), np.array([60, 61, 60, 62])
    # At 1.1, a bell of 0.1 s leaves 0.9 exp(-1/2) = 0.546 > 0.5; one of 0.05 s leaves 0.122.
    wide, narrow = (snap(onset, pitch, heights, 0.4, width) for width in (0.1, 0.05))
    np.testing.assert_array_equal(wide.onset, [1.1, 1.02, np.nan, np.nan])
    np.testing.assert_allclose(wide.strength, [0.9, 0.9, 0, 0], rtol=1e-6)
    np.testing.assert_array_equal(narrow.onset, [1.0, 1.02, np.nan, np.nan])


def test_a_peak_is_taken_once_but_by_a_unison():
    one = peaks((1.05, 60, 0.9))
    alone = snap(np.array([1.0, 1.3]), np.array([60, 60]), one, 0.4, 0.1)
    np.testing.assert_array_equal(alone.onset, [1.05, np.nan])
    both = snap(np.array([1.0, 1.01]), np.array([60, 60]), one, 0.4, 0.1)
    np.testing.assert_array_equal(both.onset, [1.05, 1.05])


TIMES = st.lists(st.integers(0, 60).map(lambda k: k * 0.05), min_size=1, max_size=4, unique=True).map(sorted)


@given(TIMES, TIMES, st.lists(st.floats(0.25, 1), min_size=4, max_size=4))
@example([0.0, 0.2], [0.2, 0.4], [1.0] * 4)  # the best of all would cross: one note far, the other on its peak
def test_the_matching_is_the_best_of_all_that_keep_order(onset, times, heights):
    """Against every way there is."""
    onset, times = np.array(onset), np.array(times)
    reach, width = 0.42, 0.15
    strength = np.array(heights[: len(times)])
    found = snap(onset, np.full(len(onset), 60), Peaks(times, np.full(len(times), 60), strength), reach, width)

    def gain(note: int, time: float) -> float:
        lag = abs(time - onset[note])
        return strength[np.searchsorted(times, time)] * np.exp(-0.5 * (lag / width) ** 2) if lag <= reach else 0.0

    ways = [
        zip(notes, chosen, strict=True)
        for count in range(min(len(onset), len(times)) + 1)
        for notes in itertools.combinations(range(len(onset)), count)
        for chosen in itertools.combinations(times, count)
    ]
    best = max(sum(gain(note, time) for note, time in way) for way in ways)
    taken = np.flatnonzero(np.isfinite(found.onset))
    assert sum(gain(note, found.onset[note]) for note in taken) == pytest.approx(best, abs=1e-6)
    assert (np.diff(found.onset[taken]) > 0).all()
    assert np.isin(found.onset[taken], times).all()


def test_notes_that_have_far_peaks_only_take_none():
    found = snap(np.array([1.0]), np.array([60]), peaks((1.5, 60, 1.0)), 0.4, 0.1)
    assert np.isnan(found.onset).all() and (found.strength == 0).all()


def drift(seconds: np.ndarray) -> np.ndarray:
    return 0.2 * np.sin(2 * np.pi * seconds / 15)


@pytest.mark.parametrize("constant", [0.0, -0.6])
def test_labels_that_drift_and_jitter_return_to_what_is_heard(constant):
    truth = music()
    rng = np.random.default_rng(1)
    chord = np.unique(truth.onset, return_inverse=True)[1]
    moves = constant + drift(truth.onset) + rng.uniform(-0.04, 0.04, chord.max() + 1)[chord]
    labels = Notes(truth.onset + moves, truth.offset + moves, truth.pitch)
    found = refine(labels, heard(truth, truth.end + 1))
    np.testing.assert_array_equal(found.before.onset, labels.onset)
    order = np.lexsort((truth.pitch, truth.onset + moves))
    error = np.abs(found.onset - truth.onset[order])
    assert np.median(np.abs(moves)) > 0.05
    assert np.percentile(error, 95) < 0.002
    assert found.snapped.mean() > 0.98
    assert (found.confidence > 0.7)[found.snapped].all()
    assert np.median(np.abs(found.offset - truth.offset[order])) < 0.03
    np.testing.assert_allclose(found.moved, found.onset - labels.onset)
    assert np.array_equal(found.notes.onset, np.sort(found.onset))


def test_labels_that_are_right_stay():
    truth = music(2)
    found = refine(truth, heard(truth, truth.end + 1))
    np.testing.assert_allclose(found.onset, truth.onset, atol=1e-5)
    np.testing.assert_allclose(found.offset, truth.offset, atol=0.01)
    assert found.snapped.all()


def test_a_single_note_that_was_labelled_wrongly_returns_and_leaves_its_neighbours():
    truth = music(3)
    wrong = len(truth) // 2
    onset = truth.onset.copy()
    onset[wrong] += 0.3
    labels = Notes(onset, np.maximum(truth.offset, onset + 0.1), truth.pitch)
    found = refine(labels, heard(truth, truth.end + 1))
    np.testing.assert_allclose(np.sort(found.onset), truth.onset, atol=1e-5)


def test_a_note_that_is_not_heard_moves_with_its_chord():
    chord = Notes([2.0, 2.0, 2.0, 4.0, 4.0], [3.0, 3.0, 3.0, 5.0, 5.0], [60, 64, 67, 60, 65])
    sound = heard(chord[[0, 2, 3, 4]], 6)
    found = refine(chord.shift(0.1), sound)
    np.testing.assert_allclose(found.onset, chord.onset, atol=1e-3)
    assert found.snapped.tolist() == [True, False, True, True, True]
    assert found.confidence[1] == 0.0


def test_pitches_that_the_model_does_not_know_move_along():
    notes = Notes([2.0, 2.0, 3.0], [2.5, 2.5, 3.5], [60, 120, 62])
    found = refine(notes.shift(0.08), heard(notes[[0, 2]], 5))
    np.testing.assert_allclose(found.onset, notes.onset, atol=1e-3)
    assert found.confidence[1] == 0.0 and not found.snapped[1]


def test_labels_after_the_end_and_silence_are_left_where_they_are():
    notes = Notes([1.0, 20.0], [2.0, 21.0], [60, 60])
    nothing = Heard({name: np.zeros((200, PITCHES), np.float32) for name in ("onset", "frame")}, CLOCK, FIRST_PITCH)
    found = refine(notes, nothing)
    np.testing.assert_allclose(found.onset, notes.onset, atol=0.05)
    np.testing.assert_allclose(found.offset, notes.offset, atol=0.05)
    assert not found.snapped.any() and (found.confidence == 0).all()


def test_a_note_keeps_half_its_length_and_goes_into_no_next_one():
    notes = Notes([1.0, 1.5, 1.5], [1.5, 2.0, 2.2], [60, 60, 72], instrument=[0, 0, 40])
    # The first was pushed behind its own end; the second begins where it began.
    found = ends(notes, np.array([1.45, 1.5, 1.5]), np.array([1.5, 1.52, 2.2]))
    np.testing.assert_allclose(found, [1.5, 1.75, 2.2])


def test_no_labels_are_refused():
    with pytest.raises(ScoreError, match="no labels to refine"):
        refine(Notes.empty(), heard(music(), 10))


def test_the_tube_is_as_wide_as_reach():
    """What lies farther off than the tube is wide cannot be found, what lies nearer is."""
    truth = music(4)
    labels = truth.shift(1.0)
    sound = heard(truth, truth.end + 2)
    near, far = (
        refine(labels, sound, RefineSettings(reach=reach, snap_reach=0.05, snap_widths=(0.02,))) for reach in (1.4, 0.4)
    )
    assert np.median(np.abs(near.onset - truth.onset)) < 1e-3
    assert np.median(np.abs(far.onset - truth.onset)) > 0.4
