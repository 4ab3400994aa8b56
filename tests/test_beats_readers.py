"""Readers of beats: each form by hand, published annotations, and independent oracles where there are any."""

from __future__ import annotations

import math

import numpy as np
import pretty_midi
import pytest
from hypothesis import given
from hypothesis import strategies as st

from musicnet_tf import scores
from musicnet_tf.errors import ScoreError
from musicnet_tf.events import UNKNOWN, Beats, Notes


def read(tmp_path, text):
    path = tmp_path / "piece.beats"
    path.write_text(text)
    return scores.read_beats(path)


def test_beat_this_form(tmp_path):
    assert read(tmp_path, "0.5\t3\n1.25\t1\n\n2.0 2\n") == Beats([0.5, 1.25, 2.0], [3, 1, 2])
    assert read(tmp_path, "# by hand\n0.5\n1.25\n") == Beats([0.5, 1.25])
    assert read(tmp_path, "0.5\t-1\n1.25\t1.0\n") == Beats([0.5, 1.25], [UNKNOWN, 1])


def test_harmonix_form(tmp_path):
    assert read(tmp_path, "0.0\t1\t1\n0.53\t2\t1\n1.06\t1\t2\n") == Beats([0.0, 0.53, 1.06], [1, 2, 1])


def test_asap_form_counts_from_the_downbeat(tmp_path):
    text = "1.0\t1.0\tdb,3/4,-2\n2.0\t2.0\tb\n3.0\t3.0\tb,,4\n4.0\t4.0\tdb,2/4\n5.0\t5.0\tb\n6.0\t6.0\tdb\n"
    assert read(tmp_path, text).position.tolist() == [1, 2, 3, 1, 2, 1]


def test_asap_pickup_counts_back_from_the_first_downbeat(tmp_path):
    in_six_eight = "1.0\t1.0\tb,,3\n2.0\t2.0\tdb,6/8\n3.0\t3.0\tb\n4.0\t4.0\tdb\n"
    assert read(tmp_path, in_six_eight).position.tolist() == [2, 1, 2, 1]
    in_four = "1.0\t1.0\tb,4/4,0\n2.0\t2.0\tb\n3.0\t3.0\tdb\n"
    assert read(tmp_path, in_four).position.tolist() == [3, 4, 1]
    too_long = "1.0\t1.0\tb,2/4,0\n2.0\t2.0\tb\n3.0\t3.0\tdb\n"
    assert read(tmp_path, too_long).position.tolist() == [UNKNOWN, UNKNOWN, 1]
    untold = "1.0\t1.0\tb\n2.0\t2.0\tdb\n"
    assert read(tmp_path, untold).position.tolist() == [UNKNOWN, 1]


def test_asap_beats_whose_place_the_score_leaves_open_are_unknown_up_to_the_next_downbeat(tmp_path):
    labels = ["db,4/4", "b", "bR", "b", "b", "db", "b"]
    text = "".join(f"{k}.0\t{k}.0\t{label}\n" for k, label in enumerate(labels))
    assert read(tmp_path, text).position.tolist() == [1, 2, UNKNOWN, UNKNOWN, UNKNOWN, 1, 2]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0.5\t1\nabc\t2\n", "piece.beats, line 2: 'abc' is no number of seconds"),
        ("nan\n", "piece.beats, line 1: 'nan' is no number of seconds"),
        ("0.5\t1\n\n0.5\t2\n", "piece.beats, line 3: 0.5 s is not after the beat before it (0.5 s)"),
        ("0.5\t0\n", "piece.beats, line 1: '0.5 0' is not seconds and the place in the bar"),
        ("0.5\t1.5\n", "piece.beats, line 1: '0.5 1.5' is not seconds"),
        ("0.5\t1\t1\t1\n", "piece.beats, line 1: '0.5 1 1 1' is not seconds"),
        ("0.5\t0.5\tdb\n1.0\t1.0\tx\n", "piece.beats, line 2: '1.0 1.0 x' is not seconds twice and b, db or bR"),
    ],
)
def test_bad_lines_are_named(tmp_path, text, message):
    with pytest.raises(ScoreError) as caught:
        read(tmp_path, text)
    assert message in str(caught.value)


def test_an_empty_file_has_no_beats_but_an_empty_annotation_is_a_fault(tmp_path):
    assert read(tmp_path, "") == Beats.empty()
    assert read(tmp_path, "# nothing heard\n\n") == Beats.empty()
    with pytest.raises(ScoreError, match=r"piece\.beats: holds no beats; each line gives the seconds of one"):
        scores.beats_of_score(tmp_path / "piece.mid")


def test_files_that_are_no_text_are_told(tmp_path):
    with pytest.raises(ScoreError, match=r"none\.beats: cannot be read \(No such file"):
        scores.read_beats(tmp_path / "none.beats")
    (tmp_path / "x.beats").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ScoreError, match="not a text file"):
        scores.read_beats(tmp_path / "x.beats")


def test_labels_beats_lie_between_the_notes():
    """Chords of several notes, a beat at which none begins, and unevenly played ones at the same place."""
    onset = [1.0, 1.0, 2.0, 3.5, 5.0, 5.1, 5.2]
    start_beat = [0.0, 0.0, 1.0, 2.5, 4.0, 4.0, 4.0]
    notes = Notes(onset, np.array(onset) + 0.5, [60, 64, 62, 65, 60, 64, 67], start_beat=start_beat)
    beats = scores.beats_of_labels(notes)
    # beat 2: a third from (1, 2.0) towards (2.5, 3.5), as beat 1 to 2.5; beat 3: a third on to the chord's median
    np.testing.assert_allclose(beats.time, [1.0, 2.0, 3.0, 3.5 + (5.1 - 3.5) / 3, 5.1])
    assert (beats.position == UNKNOWN).all()
    np.testing.assert_allclose(scores.beats_of_labels(notes, units=2.0).time, [1.0, 3.0, 5.1])


def test_labels_beats_just_outside_of_the_notes_are_told():
    notes = Notes([1.0, 2.0, 2.9], [2.0, 3.0, 4.0], [60, 60, 60], start_beat=[3.1, 4.1, 4.9])
    # 1 s a beat at the beginning; at the end from beat 3.9 (1.8 s) to 4.9 (2.9 s)
    np.testing.assert_allclose(scores.beats_of_labels(notes).time, [0.9, 2.0 - 0.1, 2.9 + 0.1 * 1.1])
    late = Notes([1.0, 2.0], [2.0, 3.0], [60, 60], start_beat=[3.3, 4.3])
    np.testing.assert_allclose(scores.beats_of_labels(late).time, [1.7])


def test_labels_beats_laid_onto_one_instant_count_once():
    notes = Notes([1.0, 1.0, 1.0, 2.0], [2.0, 2.0, 2.0, 3.0], [60, 61, 62, 60], start_beat=[0.0, 1.0, 2.0, 3.0])
    np.testing.assert_allclose(scores.beats_of_labels(notes).time, [1.0, 2.0])


def test_labels_without_beats_tell_none():
    assert scores.beats_of_labels(Notes([0.0, 1.0], [1.0, 2.0], [60, 62])) is None
    assert scores.beats_of_labels(Notes.empty()) is None


@given(st.lists(st.integers(1, 16), min_size=2, max_size=40), st.floats(0.2, 2.0), st.floats(-3.0, 3.0))
def test_at_a_steady_tempo_beats_are_where_the_tempo_says(steps, pace, first):
    place = np.cumsum([0, *steps]) / 4
    onset = first + pace * place
    notes = Notes(onset, onset + 0.1, np.full(len(place), 60), start_beat=place)
    beats = scores.beats_of_labels(notes, units=1.0)
    np.testing.assert_allclose(beats.time, first + pace * np.arange(math.floor(place[-1] + 0.25) + 1), atol=1e-9)


def in_bars(pattern, quarters, count=20):
    """Notes that begin at the places of a pattern in each bar of so many quarter notes, each up to the next, at 90."""
    place = (np.array(pattern) + quarters * np.arange(count)[:, None]).ravel()
    length = np.diff(place, append=count * quarters)
    return Notes(place / 1.5, (place + length) / 1.5, np.full(len(place), 60), start_beat=place, end_beat=length)


@pytest.mark.parametrize(
    ("pattern", "bar", "expected"),
    [
        ([0, 1, 1.5, 2, 3], 4, (1.0, 0.0)),
        ([0, 1.5, 2, 3, 3.5], 4, (1.0, 0.0)),  # a habanera: dotted notes do not make a bar compound
        ([0, 1, 1.5, 2.5], 3, (1.5, 0.0)),  # 6/8: quarter and eighth, twice
        ([0, 1.5, 2, 2.5], 3, (1.5, 0.0)),
        ([0, 1, 2], 3, (1.0, 0.0)),  # 3/4
        ([0, 0.5, 1.5, 2], 3, (1.5, 0.5)),  # 6/8 after a pickup of an eighth
    ],
)
def test_pulse_tells_dotted_quarters_from_quarters(pattern, bar, expected):
    notes = in_bars(pattern, bar)
    assert scores.pulse(notes) == expected
    quarters, first = expected
    inside = np.arange(first, notes.start_beat.max() + 0.25 * quarters, quarters)
    np.testing.assert_allclose(scores.beats_of_labels(notes).time, inside / 1.5)
    assert scores.pulse(in_bars(pattern, bar, count=4)) == (1.0, 0.0)  # too short to tell


@pytest.mark.parametrize(
    ("pattern", "bar", "unit", "expected"),
    [
        ([0, 1, 1.5, 2.5], 3, 2.0, (3.0, 0.0)),  # 6/8, counted in eighths
        ([0, 0.5, 1], 1.5, 2.0, (3.0, 0.0)),  # 3/8: all begins on eighths, and a bar is a beat
        ([0, 1, 1.5], 2, 2.0, (2.0, 0.0)),  # 4/8
        ([0, 0.5, 1, 1.5, 2, 2.5, 3, 3.5, 4], 4.5, 2.0, (3.0, 0.0)),  # 9/8 that runs in eighths, as 4/8 may do
        ([0, 0.75, 1], 1.5, 4.0, (6.0, 0.0)),  # 6/16
        ([0, 1, 2, 3], 4, 0.5, (1.0, 0.0)),  # 2/2: beats are halves
        ([0, 1.5, 3, 4.5], 6, 0.5, (1.0, 0.0)),  # 3/2, of which dotted quarters are no beats
    ],
)
def test_labels_count_in_the_lower_number_of_the_time_signature(pattern, bar, unit, expected):
    quarters = in_bars(pattern, bar)
    names = np.where(np.arange(len(quarters)) == 0, "Quarter", "Eighth")
    notes = Notes(
        quarters.onset,
        quarters.offset,
        quarters.pitch,
        start_beat=quarters.start_beat * unit,
        end_beat=np.where(names == "Quarter", unit, quarters.end_beat * unit),
        note_value=names,
    )
    assert scores.pulse(notes) == expected
    inside = np.arange(0, notes.start_beat.max() + 0.25 * expected[0], expected[0]) / unit
    np.testing.assert_allclose(scores.beats_of_labels(notes).time, inside / 1.5)


def midi_file(path, signatures, tempo=90.0, seconds=12.0, onsets=()):
    midi = pretty_midi.PrettyMIDI(initial_tempo=tempo)
    midi.time_signature_changes = [pretty_midi.TimeSignature(*signature) for signature in signatures]
    piano = pretty_midi.Instrument(0)
    piano.notes = [pretty_midi.Note(80, 60, t, t + 0.1) for t in (onsets or (0.0, seconds - 0.1))]
    midi.instruments = [piano]
    midi.write(str(path))
    return path


def test_midi_beats_are_dotted_in_compound_bars(tmp_path):
    """At 90 quarter notes a minute: 6/8 has beats of 1 s, 3/8 of 1/3 s, 4/4 of 2/3 s."""
    six = scores.read_midi_beats(midi_file(tmp_path / "six.mid", [(6, 8, 0.0)], seconds=4.5))
    np.testing.assert_allclose(six.time, [0, 1, 2, 3, 4], atol=1e-3)
    assert six.position.tolist() == [1, 2, 1, 2, 1]
    three = scores.read_midi_beats(midi_file(tmp_path / "three.mid", [(3, 8, 0.0)], seconds=1.5))
    np.testing.assert_allclose(three.time, [0, 1 / 3, 2 / 3, 1, 4 / 3], atol=1e-3)
    assert three.position.tolist() == [1, 2, 3, 1, 2]
    changed = scores.read_midi_beats(midi_file(tmp_path / "two.mid", [(4, 4, 0.0), (3, 4, 8 / 3)], seconds=6.0))
    np.testing.assert_allclose(changed.time, np.arange(9) * 2 / 3, atol=1e-3)
    assert changed.position.tolist() == [1, 2, 3, 4, 1, 2, 3, 1, 2]


def test_damaged_midi_is_told(tmp_path):
    (tmp_path / "x.mid").write_bytes(b"MThd nonsense")
    with pytest.raises(ScoreError, match=r"x\.mid: not a readable Standard MIDI File"):
        scores.read_midi_beats(tmp_path / "x.mid")


def test_a_score_s_beats_come_from_the_annotation_beside_it_first(tmp_path):
    path = midi_file(tmp_path / "piece.mid", [(4, 4, 0.0)], tempo=60.0, onsets=tuple(np.arange(20) / 2))
    np.testing.assert_allclose(scores.beats_of_score(path).time, np.arange(10), atol=1e-3)
    (tmp_path / "piece_annotations.txt").write_text("0.5\t0.5\tdb,2/4,0\n1.0\t1.0\tb\n")
    assert scores.beats_of_score(path) == Beats([0.5, 1.0], [1, 2])
    (tmp_path / "piece.beats").write_text("0.25\t1\n")
    assert scores.beats_of_score(path) == Beats([0.25], [1])


def test_the_tempo_of_a_recorded_performance_is_not_taken_for_its_beats(tmp_path):
    played = tuple(np.sort(np.random.default_rng(0).uniform(0.0, 10.0, 200)))
    assert scores.beats_of_score(midi_file(tmp_path / "played.mid", [(4, 4, 0.0)], onsets=played)) is None


def test_label_files_tell_their_beats(tmp_path):
    notes = Notes([1.0, 2.0], [2.0, 3.0], [60, 62], start_beat=[0.0, 2.0], end_beat=[2.0, 2.0])
    path = tmp_path / "1001.csv"
    path.write_text(scores.format_musicnet_csv(notes))
    np.testing.assert_allclose(scores.beats_of_score(path).time, [1.0, 1.5, 2.0])
