"""Frame scores against scikit-learn, mir_eval and hand-drawn rolls."""

import tarfile
import time

import mir_eval
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sklearn_metrics

from musicnet_tf.errors import ConfigError
from musicnet_tf.events import Note, Notes
from musicnet_tf.metrics import frames
from musicnet_tf.timebase import FrameClock

TENTHS = FrameClock(sample_rate=10, hop_length=1)


def test_a_note_sounds_from_its_onset_until_before_its_offset():
    notes = Notes.from_list([Note(0.1, 0.3, 60), Note(0.15, 0.31, 62), Note(0.31, 0.39, 64), Note(0.2, 9.0, 20)])
    roll = frames.piano_roll(notes, TENTHS, 5, first_pitch=60, num_pitches=5)
    #   frame centres 0.0, 0.1, 0.2, 0.3, 0.4; 64 falls between two; 20 is out of range
    assert roll[:, 0].tolist() == [False, True, True, False, False]
    assert roll[:, 2].tolist() == [False, False, True, True, False]
    assert roll.sum() == 4


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(st.integers(-20, 60), st.integers(1, 40), st.integers(0, 127)), max_size=10),
    st.integers(1, 7),
    st.integers(0, 20),
)
def test_piano_roll_is_the_definition(rows, hop, origin):
    notes = Notes.from_list([Note(a / 16, (a + n) / 16, pitch) for a, n, pitch in rows])
    clock = FrameClock(16, hop, origin)
    roll = frames.piano_roll(notes, clock, 30)
    for frame, t in enumerate(clock.times(30)):
        sounding = {note.pitch for note in notes if note.onset <= t < note.offset}
        assert set(np.flatnonzero(roll[frame])) == sounding


@pytest.fixture
def random_arrays():
    rng = np.random.default_rng(7)
    reference = rng.random((400, 128)) < 0.05
    posteriorgram = np.clip(0.3 * reference + 0.5 * rng.random((400, 128)), 0, 1).astype(np.float32)
    return reference, np.round(posteriorgram, 2)  # rounding makes ties


def test_scores_equal_scikit_learn(random_arrays):
    reference, posteriorgram = random_arrays
    got = frames.score(reference, posteriorgram, threshold=0.45)
    predicted = posteriorgram > 0.45
    precision, recall, f1, _ = sklearn_metrics.precision_recall_fscore_support(reference, predicted, average="micro")
    assert (got["precision"], got["recall"], got["f1"]) == pytest.approx((precision, recall, f1))
    assert got["average_precision"] == sklearn_metrics.average_precision_score(
        reference, posteriorgram, average="micro"
    )
    assert frames.score(reference, predicted) == {k: v for k, v in got.items() if k != "average_precision"}


def test_average_precision_by_hand():
    # Falling scores meet right, wrong, right: 1/2 * 1 + 1/2 * 2/3.
    reference = np.array([[True, False], [True, False]])
    posteriorgram = np.array([[0.9, 0.8], [0.7, 0.1]])
    assert frames.average_precision(reference, posteriorgram) == pytest.approx(1 / 2 + 1 / 3)


def test_classes_that_a_model_lacks_count_as_missed():
    reference = np.zeros((2, 128), bool)
    reference[:, [10, 60]] = True
    posteriorgram = frames.widen(np.full((2, 2), 0.9), first_pitch=60)
    assert posteriorgram.shape == (2, 128)
    got = frames.score(reference, posteriorgram, 0.5)
    assert (got["precision"], got["recall"]) == (0.5, 0.5)


def test_nothing_to_divide_by_scores_zero_without_a_warning(recwarn):
    silence = np.zeros((3, 128), bool)
    assert frames.score(silence, silence.astype(float), 0.5) == dict.fromkeys(
        ("precision", "recall", "f1", "average_precision"), 0.0
    )
    assert set(frames.multipitch_rolls(silence, silence).values()) == {0.0}
    assert not recwarn.list


def test_unequal_shapes_and_a_missing_threshold_are_refused():
    with pytest.raises(ConfigError, match="one clock"):
        frames.score(np.zeros((3, 128), bool), np.zeros((4, 128), bool))
    with pytest.raises(ConfigError, match="needs a threshold"):
        frames.score(np.zeros((3, 128), bool), np.zeros((3, 128)))


def test_counts_pool():
    pooled = frames.Counts(1, 2, 4) + frames.Counts(3, 4, 4)
    assert pooled.scores() == {"precision": 4 / 6, "recall": 4 / 8, "f1": pytest.approx(8 / 14)}


def test_curve_lies_on_the_whole_curve_and_spans_it(random_arrays):
    reference, posteriorgram = random_arrays
    curve = frames.precision_recall_curve(reference, posteriorgram, max_points=20)
    assert 2 < len(curve["threshold"]) <= 20
    assert curve["recall"][0] == 1 and (np.diff(curve["recall"]) <= 0).all()
    for precision, recall, threshold in zip(*(curve[k] for k in ("precision", "recall", "threshold")), strict=True):
        predicted = posteriorgram >= threshold
        assert precision == pytest.approx(frames.count(reference, predicted).scores()["precision"])
        assert recall == pytest.approx(frames.count(reference, predicted).scores()["recall"])


THEIRS = {
    **{"precision": "Precision", "recall": "Recall", "accuracy": "Accuracy"},
    **{"e_sub": "Substitution Error", "e_miss": "Miss Error", "e_fa": "False Alarm Error", "e_tot": "Total Error"},
}


def assert_equals_mir_eval(got, times, reference, estimate):
    series = [[mir_eval.util.midi_to_hz(np.flatnonzero(row)) for row in roll] for roll in (reference, estimate)]
    expected = mir_eval.multipitch.evaluate(times, series[0], times, series[1])
    for ours, theirs in THEIRS.items():
        assert got[ours] == pytest.approx(expected[theirs]), ours
        assert got[f"chroma_{ours}"] == pytest.approx(expected[f"Chroma {theirs}"]), ours


@pytest.mark.parametrize("number", range(3))
def test_multipitch_equals_mir_eval_on_its_fixtures(shared_data, tmp_path, number):
    """Its frequencies put on the semitone grid, on which our faster count is the same as its graph search."""
    rolls = []
    with tarfile.open(shared_data / "mir_eval_fixtures.tar.xz") as archive:
        for side in ("ref", "est"):
            member = archive.getmember(f"mir_eval_fixtures/tests/data/multipitch/{side}{number:02}.txt")
            archive.extract(member, tmp_path, filter="data")
            times, series = mir_eval.io.load_ragged_time_series(str(tmp_path / member.name))
            roll = np.zeros((len(times), 128), bool)
            for row, frequencies in zip(roll, series, strict=True):
                row[np.round(mir_eval.util.hz_to_midi(frequencies[frequencies > 0])).astype(int)] = True
            rolls.append(roll)
    size = min(map(len, rolls))
    reference, estimate = (roll[:size] for roll in rolls)
    assert frames.count(reference, estimate).correct > 100
    assert_equals_mir_eval(frames.multipitch_rolls(reference, estimate), np.arange(size) / 100, reference, estimate)


def test_multipitch_of_notes_equals_mir_eval():
    rng = np.random.default_rng(3)
    onset = rng.uniform(0, 4, 40)
    reference = Notes(onset, onset + rng.uniform(0.05, 1, 40), rng.integers(40, 90, 40))
    octave_up = np.where(rng.random(40) < 0.3, 12, 0)
    estimate = Notes(reference.onset + rng.normal(0, 0.05, 40), reference.offset + 0.1, reference.pitch + octave_up)
    estimate = estimate[:30]
    got = frames.multipitch(reference, estimate)
    num_frames = int(np.ceil(max(reference.end, estimate.end) * 100))
    rolls = [frames.piano_roll(side, frames.MULTIPITCH_CLOCK, num_frames) for side in (reference, estimate)]
    assert_equals_mir_eval(got, np.arange(num_frames) / 100, *rolls)
    assert got["chroma_recall"] > got["recall"] > 0


@pytest.mark.slow
def test_an_eighteen_minute_piece_is_scored_in_seconds():
    rng = np.random.default_rng(0)
    reference = rng.random((93_000, 128)) < 0.03
    posteriorgram = rng.random((93_000, 128), np.float32)
    begin = time.perf_counter()
    frames.score(reference, posteriorgram, 0.5)
    frames.multipitch_rolls(reference, posteriorgram > 0.9)
    assert time.perf_counter() - begin < 30
