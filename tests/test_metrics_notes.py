"""Note scores against mir_eval's own fixtures and hand-counted notes."""

import json
import tarfile
import tracemalloc
import warnings
from pathlib import Path

import mir_eval
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from musicnet_tf.events import Note, Notes
from musicnet_tf.metrics import notes


@pytest.fixture(scope="module")
def fixtures(shared_data, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("mir_eval")
    with tarfile.open(shared_data / "mir_eval_fixtures.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    return folder / "mir_eval_fixtures/tests/data"


@pytest.mark.parametrize("number", range(10))
def test_equals_the_scores_that_mir_eval_expects(fixtures, number):
    sides = []
    for side in ("ref", "est"):
        intervals, frequencies = mir_eval.io.load_valued_intervals(
            str(fixtures / f"transcription/{side}{number:02}.txt")
        )
        pitches = np.round(mir_eval.util.hz_to_midi(frequencies))
        sides.append(Notes(intervals[:, 0], intervals[:, 1], pitches))
    got = notes.score(*sides)
    expected = json.loads((fixtures / f"transcription/output{number:02}.json").read_text())
    names = {"precision": "Precision", "recall": "Recall", "f1": "F-measure", "overlap": "Average_Overlap_Ratio"}
    for ours, theirs in names.items():
        assert got[f"onset_offset/{ours}"] == pytest.approx(expected[theirs], abs=1e-9), ours
        assert got[f"onset/{ours}"] == pytest.approx(expected[f"{theirs}_no_offset"], abs=1e-9), ours
    assert not any(name.startswith("onset_offset_velocity") for name in got)


@pytest.mark.parametrize("number", range(5))
def test_velocity_scores_equal_mir_eval(fixtures, number):
    sides, columns = [], []
    for side in ("ref", "est"):
        onset, offset, pitch, velocity = np.loadtxt(fixtures / f"transcription_velocity/{side}{number}.txt").T
        keep = (offset > onset) & (velocity > 0)
        sides.append(Notes(onset[keep], offset[keep], pitch[keep], velocity[keep]))
        columns += [sides[-1].intervals(), mir_eval.util.midi_to_hz(sides[-1].pitch), sides[-1].velocity]
    expected = mir_eval.transcription_velocity.evaluate(*columns)
    got = notes.score(*sides)
    assert len(sides[0]) > 10
    assert got["onset_offset_velocity/precision"] == pytest.approx(expected["Precision"])
    assert got["onset_offset_velocity/recall"] == pytest.approx(expected["Recall"])
    assert got["onset_offset_velocity/f1"] == pytest.approx(expected["F-measure"])


REFERENCE = Notes.from_list([Note(1.0, 2.0, 60, 80), Note(1.0, 2.0, 64, 60), Note(3.0, 3.1, 67, 40)])


def test_hand_counted_notes():
    # 60 right throughout; 64 ends 0.3 s early (0.2 allowed); 67 is 60 ms late; 72 was never played.
    estimate = Notes.from_list(
        [Note(1.05, 2.0, 60, 80), Note(1.0, 1.7, 64, 60), Note(3.06, 3.2, 67, 40), Note(5.0, 6.0, 72, 50)]
    )
    got = notes.score(REFERENCE, estimate)
    assert (got["onset/precision"], got["onset/recall"]) == (2 / 4, 2 / 3)
    assert got["onset/f1"] == pytest.approx(4 / 7)
    assert got["onset/overlap"] == pytest.approx((0.95 + 0.7) / 2)
    assert (got["onset_offset/precision"], got["onset_offset/recall"]) == (1 / 4, 1 / 3)
    assert got["onset_offset_velocity/precision"] == 1 / 4


@pytest.mark.parametrize("shift, f1", [(0.0, 1.0), (0.05, 1.0), (0.0502, 0.0), (-0.06, 0.0)])
def test_an_onset_may_be_off_by_fifty_milliseconds(shift, f1):
    assert notes.score(REFERENCE, REFERENCE.shift(shift))["onset/f1"] == f1


def test_a_pitch_is_right_or_wrong():
    up = Notes(REFERENCE.onset, REFERENCE.offset, REFERENCE.pitch + 1)
    assert notes.score(REFERENCE, up)["onset/f1"] == 0
    # A semitone up, 64 stands where 65 is asked for, and so on; only an exact pitch counts.
    assert notes.score(up, up)["onset/f1"] == 1


def test_notes_before_zero_are_scored():
    early = REFERENCE.shift(-1.5)
    assert notes.score(early, early)["onset_offset_velocity/f1"] == 1
    assert notes.score(early, early.shift(0.06))["onset/f1"] == 0


@pytest.mark.parametrize("reference", [REFERENCE, Notes.empty()])
def test_empty_sides_score_zero_without_a_warning(reference, recwarn):
    got = notes.score(reference, Notes.empty())
    assert set(got.values()) == {0.0}
    assert {name.split("/")[0] for name in got} == {"onset", "onset_offset"}
    assert not recwarn.list


def test_criteria_can_be_chosen():
    assert set(notes.score(REFERENCE, REFERENCE, ("onset",))) == {
        f"onset/{name}" for name in ("precision", "recall", "f1", "overlap")
    }


some_notes = st.lists(
    st.builds(
        lambda onset, length, pitch, velocity: Note(onset / 100, (onset + length) / 100, pitch, velocity),
        *(st.integers(-50, 300), st.integers(1, 100), st.integers(58, 62), st.integers(1, 127)),
    ),
    max_size=15,
).map(Notes.from_list)


@settings(max_examples=50, deadline=None)
@given(some_notes, some_notes)
def test_stricter_criteria_never_score_more_and_sides_mirror(reference, estimate):
    got, mirrored = notes.score(reference, estimate), notes.score(estimate, reference)
    assert got["onset_offset/f1"] <= got["onset/f1"] <= 1
    assert got.get("onset_offset_velocity/f1", 0) <= got["onset_offset/f1"]
    assert got["onset/precision"] == mirrored["onset/recall"]


@settings(max_examples=100, deadline=None)
@given(some_notes, some_notes)
def test_crowded_repetitions_score_as_mir_eval_does(reference, estimate):
    """Matching pitch by pitch finds as many pairs as mir_eval's over all notes."""
    first = min(reference.onset.min(initial=0), estimate.onset.min(initial=0))
    sides = []
    for side in (reference, estimate):
        sides += [side.intervals() - first, mir_eval.util.midi_to_hz(side.pitch)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = mir_eval.transcription.evaluate(*sides)
    got = notes.score(reference, estimate)
    assert got["onset/f1"] == pytest.approx(expected["F-measure_no_offset"])
    assert got["onset_offset/precision"] == pytest.approx(expected["Precision"])
    assert got["onset_offset/recall"] == pytest.approx(expected["Recall"])


@pytest.mark.slow
def test_an_hour_of_notes_is_matched_in_little_memory():
    rng = np.random.default_rng(0)
    onset = rng.uniform(0, 3_600, 40_000)
    reference = Notes(onset, onset + 0.3, rng.integers(21, 109, 40_000), rng.integers(1, 128, 40_000))
    tracemalloc.start()
    assert notes.score(reference, reference.shift(0.02))["onset_offset_velocity/f1"] > 0.99
    assert tracemalloc.get_traced_memory()[1] < 200e6
    tracemalloc.stop()
