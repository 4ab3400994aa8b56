"""Scores of beats against mir_eval's own fixtures and hand-counted beats."""

import json
import tarfile
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from musicnet_tf.events import UNKNOWN, Beats
from musicnet_tf.metrics import beats

NAMES = {
    "F-measure": "beat/f1",
    "Cemgil": "beat/cemgil",
    "Goto": "beat/goto",
    "P-score": "beat/p_score",
    "Correct Metric Level Continuous": "beat/cmlc",
    "Correct Metric Level Total": "beat/cmlt",
    "Any Metric Level Continuous": "beat/amlc",
    "Any Metric Level Total": "beat/amlt",
    "Information gain": "beat/information_gain",
}
STEADY = Beats(5 + 0.5 * np.arange(20), np.arange(20) % 4 + 1)


@pytest.fixture(scope="module")
def fixtures(shared_data, tmp_path_factory) -> Path:
    archive = shared_data / "mir_eval_fixtures.tar.xz"
    if not archive.is_file():
        pytest.skip(f"no fixtures of mir_eval: {archive} is not there")
    folder = tmp_path_factory.mktemp("mir_eval")
    with tarfile.open(archive) as opened:
        chosen = [member for member in opened.getmembers() if "/tests/data/beat/" in member.name]
        opened.extractall(folder, members=chosen, filter="data")
    return folder / "mir_eval_fixtures/tests/data/beat"


@pytest.mark.parametrize("number", [5, 6, 8])  # the shortest: a P-score takes the square of their length
def test_equals_the_scores_that_mir_eval_expects(fixtures, number):
    reference, estimate = (
        Beats(np.unique(np.loadtxt(fixtures / f"{side}{number:02}.txt", ndmin=1))) for side in ("ref", "est")
    )
    expected = json.loads((fixtures / f"output{number:02}.json").read_text())
    got = beats.score(reference, estimate)
    assert {theirs: got[ours] for theirs, ours in NAMES.items()} == pytest.approx(
        {theirs: expected[theirs] for theirs in NAMES}, abs=1e-9
    )
    assert "downbeat/f1" not in got


@pytest.mark.parametrize(("late", "f1"), [(0.069, 1.0), (0.071, 0.0)])
def test_a_beat_may_be_70_ms_off(late, f1):
    assert beats.score(STEADY, STEADY.shift(late))["beat/f1"] == pytest.approx(f1)
    assert beats.f1(STEADY, STEADY.shift(late))["downbeat/f1"] == pytest.approx(f1)


def test_missing_and_spurious_beats_are_counted():
    """Of 20 beats, 4 are missing and 1 is not there: 16 matches of 20 and of 17."""
    found = Beats(np.sort(np.append(np.delete(STEADY.time, [2, 7, 8, 15]), 7.25)))
    assert beats.score(STEADY, found)["beat/f1"] == pytest.approx(2 * 16 / (20 + 17))


def test_a_constant_delay_of_sigma_is_worth_a_gaussian_of_cemgil():
    assert beats.score(STEADY, STEADY.shift(0.04))["beat/cemgil"] == pytest.approx(np.exp(-0.5))


def test_double_tempo_is_right_at_another_level():
    """39 beats, of which 20 match; the reference at double tempo has the same 39."""
    double = Beats(5 + 0.25 * np.arange(39))
    scores = beats.score(STEADY, double)
    assert scores["beat/f1"] == pytest.approx(2 * 20 / 59)
    assert (scores["beat/cmlt"], scores["beat/amlt"], scores["beat/amlc"]) == (0, 1, 1)


def test_the_first_seconds_count_only_where_asked():
    """30 beats from 0 on, of which the estimate has the 20 after 5 s."""
    whole = Beats(0.5 * np.arange(30))
    assert beats.score(whole, whole[10:])["beat/f1"] == 1
    assert beats.score(whole, whole[10:], trim_seconds=0)["beat/f1"] == pytest.approx(2 * 20 / 50)
    assert beats.score(whole[:10], whole) == {} == beats.f1(whole[:10], whole)


def test_downbeats_are_scored_alone():
    """Of 5 downbeats and the same beats: two bars counted from the wrong beat leave 3 right of 5 and of 5."""
    position = STEADY.position.copy()
    position[4:12] = np.roll(position[4:12], 1)
    wrong = Beats(STEADY.time, position)
    scores = beats.score(STEADY, wrong)
    assert scores["beat/f1"] == 1
    assert scores["downbeat/f1"] == pytest.approx(3 / 5)
    assert beats.f1(STEADY, wrong) == {name: scores[name] for name in ("beat/f1", "downbeat/f1")}
    assert beats.score(STEADY, Beats(STEADY.time))["downbeat/f1"] == 0


def test_where_downbeats_are_not_told_none_is_wrong():
    """The first two bars tell no places; there, the estimate's two downbeats count neither way, the other three do."""
    position = STEADY.position.copy()
    position[:8] = UNKNOWN
    half = Beats(STEADY.time, position)
    assert beats.score(half, STEADY)["downbeat/f1"] == 1
    late = Beats(STEADY.time, np.roll(STEADY.position, 1))
    assert beats.score(half, late)["downbeat/f1"] == 0
    assert "downbeat/f1" not in beats.score(Beats(STEADY.time), STEADY)


def test_nothing_found_is_worth_nothing():
    scores = beats.score(STEADY, Beats.empty())
    assert set(NAMES.values()) < set(scores) and set(scores.values()) == {0.0}


times = st.lists(st.floats(0, 40).map(lambda t: round(t, 2)), max_size=12, unique=True).map(sorted)


@given(times, times, st.integers(2, 4))
def test_any_two_sides_have_scores(reference, estimate, bar):
    sides = [Beats(side, np.arange(len(side)) % bar + 1) for side in (reference, estimate)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scores = beats.score(*sides, trim_seconds=0)
    assert np.isfinite([*scores.values()]).all()
    # Of few uneven beats, mir_eval's other scores may leave this range.
    bounded = ("beat/f1", "beat/goto", "beat/cmlc", "beat/cmlt", "beat/amlc", "beat/amlt", "downbeat/f1")
    assert all(0 <= scores[name] <= 1 for name in bounded if name in scores), scores
    assert bool(scores) == bool(reference)
    fast = beats.f1(*sides, trim_seconds=0)
    assert fast == {name: scores[name] for name in fast}
    if reference and estimate:
        assert beats.f1(*sides[::-1], trim_seconds=0) == pytest.approx(fast)


@given(times.filter(bool), times)
def test_each_downbeat_belongs_to_the_nearest_beat(reference, estimate):
    found = beats._nearest(np.array(estimate), np.array(reference))
    distance = np.abs(np.array(estimate)[:, None] - np.array(reference))
    np.testing.assert_allclose(distance[np.arange(len(estimate)), found], distance.min(axis=1), atol=1e-9)
