"""The MusicNet paper's protocol, worked by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sklearn_metrics

from musicnet_tf.errors import ConfigError
from musicnet_tf.events import Note, Notes
from musicnet_tf.metrics import protocol
from musicnet_tf.timebase import FrameClock

PAPER = protocol.Protocol()
CODE_2018 = protocol.Protocol("thickstun2018")


def test_7752_points_every_512_samples_from_second_1_until_91():
    expected = np.arange(44_100, 91 * 44_100, 512)
    assert len(expected) == 7_752
    assert PAPER.num_points() == 7_752
    np.testing.assert_array_equal(PAPER.clock.frame_to_sample(np.arange(7_752)), expected)


def test_public_code_takes_7500_windows_and_labels_their_middle():
    assert CODE_2018.num_points() == 7_500
    starts = 44_100 + 512 * np.arange(7_500)
    np.testing.assert_array_equal(CODE_2018.clock.frame_to_sample(np.arange(7_500)), starts + 8_192)
    short = protocol.Protocol("thickstun2018", window_length=2_048)
    assert short.clock.frame_to_sample(0) == 44_100 + 1_024


def test_a_short_recording_has_only_the_points_within_it():
    # The centres 44,100 and 44,612 are within 44,613 samples, 45,124 is not.
    assert PAPER.num_points(44_613 / 44_100) == 2
    assert PAPER.num_points(0.9) == 0
    assert PAPER.num_points(3_600) == 7_752


def test_an_unknown_convention_is_refused():
    with pytest.raises(ConfigError, match="choose midpoint"):
        protocol.Protocol("start")


def test_labels_are_those_of_the_instant_to_the_sample():
    # From the second point's own sample until, not including, the fourth's.
    notes = Notes([(44_100 + 512) / 44_100], [(44_100 + 3 * 512) / 44_100], [60])
    labels = PAPER.labels(notes, 5)
    assert labels[:, 60].tolist() == [False, True, True, False, False]
    assert labels.sum() == 2


def test_nearest_frame_and_linear_interpolation():
    # Frames at 1.0, 1.5 and 2.0 s; points at 1.0 s and then every 512 / 44,100 = 0.01161 s.
    clock = FrameClock(1_000, 500, origin=1_000)
    posteriorgram = np.array([[0.0, 1.0], [1.0, 0.5], [0.0, 0.0]])
    nearest = PAPER.predictions(posteriorgram, clock, 200, first_pitch=60)
    linear = PAPER.predictions(posteriorgram, clock, 200, first_pitch=60, interpolation="linear")
    assert nearest.shape == linear.shape == (200, 128)
    assert nearest[:, 60][[0, 21, 22, 43, 64, 65, 199]].tolist() == [0, 0, 1, 1, 1, 0, 0]
    weight = 10 * 512 / 44_100 / 0.5
    assert linear[10, 60] == pytest.approx(weight)
    assert linear[10, 61] == pytest.approx(1 - weight * 0.5)
    assert linear[199, 60] == 0  # after the last frame
    assert not nearest[:, :60].any() and not nearest[:, 62:].any()


@pytest.mark.parametrize("interpolation", ["nearest", "linear"])
def test_a_posteriorgram_at_the_points_is_taken_as_it_is(interpolation):
    posteriorgram = np.random.default_rng(0).random((100, 128), np.float32)
    got = PAPER.predictions(posteriorgram, PAPER.clock, 100, interpolation=interpolation)
    np.testing.assert_array_equal(got, posteriorgram)
    one = PAPER.predictions(posteriorgram[:1], PAPER.clock, 3, interpolation=interpolation)
    np.testing.assert_array_equal(one, np.repeat(posteriorgram[:1], 3, axis=0))


def test_an_empty_posteriorgram_is_refused():
    with pytest.raises(ConfigError, match="no frames"):
        PAPER.predictions(np.zeros((0, 128)), PAPER.clock, 3)


def worked_example():
    """Four points over three pitches: polyphony 1, 3, 0, 1."""
    labels, predictions = np.zeros((4, 128), bool), np.zeros((4, 128))
    labels[[0, 1, 1, 1, 3], [60, 60, 61, 62, 62]] = True
    predictions[:, 60:63] = [[0.9, 0.6, 0.1], [0.8, 0.7, 0.2], [0.55, 0.1, 0.1], [0.1, 0.1, 0.5]]
    return labels, predictions


def test_scores_by_hand():
    labels, predictions = worked_example()
    got = protocol.score(labels, predictions, threshold=0.5)
    # Above 0.5: .9 .8 .7 right, .6 .55 wrong; 0.5 itself is not above. 5 labels.
    assert (got["all/precision"], got["all/recall"], got["all/points"]) == (3 / 5, 3 / 5, 4)
    # Falling: .9 .8 .7 right, .6 .55 wrong, .5 right (4 of 6), .2 right (5 of 7).
    assert got["all/average_precision"] == pytest.approx((1 + 1 + 1 + 4 / 6 + 5 / 7) / 5)
    # One label: points 0 and 3: .9 right, .6 wrong, .5 right but below.
    assert (got["one/precision"], got["one/recall"], got["one/points"]) == (1 / 2, 1 / 2, 2)
    assert got["one/average_precision"] == pytest.approx((1 + 2 / 3) / 2)
    assert (got["three/precision"], got["three/recall"], got["three/points"]) == (1, 2 / 3, 1)
    assert got["three/average_precision"] == 1


def test_subsets_without_points_are_left_out():
    labels, predictions = worked_example()
    assert not any(name.startswith("three/") for name in protocol.score(labels[[0, 2]], predictions[[0, 2]], 0.5))


def test_reading_at_any_times():
    # Frames at 0.5, 1.0 and 1.5 s: 0.74 s is nearer to the first, 0.75 s as near to the second, which is later.
    clock = FrameClock(1_000, 500, origin=500)
    posteriorgram = np.array([[0.1], [0.3], [0.7]])
    times = np.array([0.0, 0.74, 0.75, 1.25, 9.0])
    nearest = protocol.read(posteriorgram, clock, times, first_pitch=40)
    linear = protocol.read(posteriorgram, clock, times, first_pitch=40, interpolation="linear")
    np.testing.assert_allclose(nearest[:, 40], [0.1, 0.1, 0.3, 0.7, 0.7])
    np.testing.assert_allclose(linear[:, 40], [0.1, 0.1 + 0.2 * 0.24 / 0.5, 0.2, 0.5, 0.7])


def test_split_by_polyphony_by_hand():
    labels, predictions = worked_example()
    got = protocol.by_polyphony(labels, predictions, threshold=0.5)
    assert list(got) == ["0", "1", "3"]  # no point has two labels
    # Nothing sounds at point 2, and 0.55 is above.
    assert got["0"] == {"false_alarms": 1.0, "points": 1}
    assert protocol.by_polyphony(labels, predictions, threshold=0.55)["0"]["false_alarms"] == 0
    assert (got["1"]["precision"], got["1"]["recall"], got["1"]["f1"]) == (1 / 2, 1 / 2, 1 / 2)
    assert got["1"]["average_precision"] == pytest.approx((1 + 2 / 3) / 2)
    assert (got["3"]["precision"], got["3"]["recall"], got["3"]["points"]) == (1, 2 / 3, 1)
    assert got["3"]["f1"] == pytest.approx(4 / 5)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_split_by_polyphony_is_a_partition_that_scikit_learn_scores_alike(seed):
    rng = np.random.default_rng(seed)
    labels = rng.random((60, 128)) < 0.02
    predictions = rng.normal(0.2 + 0.5 * labels, 0.3)
    got = protocol.by_polyphony(labels, predictions, threshold=0.6)
    assert [int(number) for number in got] == sorted({*labels.sum(axis=1).tolist()})
    assert sum(scores["points"] for scores in got.values()) == 60
    for number, scores in got.items():
        truth, values = (rows[labels.sum(axis=1) == int(number)] for rows in (labels, predictions))
        if number == "0":
            assert scores["false_alarms"] == sum(max(row) > 0.6 for row in values) / len(values)
            continue
        precision, recall, f1, _ = sklearn_metrics.precision_recall_fscore_support(
            truth.ravel(), values.ravel() > 0.6, average="binary", zero_division=0
        )
        expected = [precision, recall, f1, sklearn_metrics.average_precision_score(truth.ravel(), values.ravel())]
        names = ("precision", "recall", "f1", "average_precision")
        np.testing.assert_allclose([scores[name] for name in names], expected)


def test_threshold_by_hand():
    labels, predictions = worked_example()
    # Right above c: all five above 0.15 with two wrong: F1 = 10/12; between .6 and .7: 6/8; the former wins.
    assert protocol.choose_threshold(labels, predictions, grid=[0.65, 0.15, 0.5]) == 0.15
    assert 0.1 <= protocol.choose_threshold(labels, predictions) < 0.2


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([np.float32, np.float64]))
def test_chosen_threshold_is_the_best_of_the_grid(seed, dtype):
    rng = np.random.default_rng(seed)
    labels = rng.random((30, 128)) < 0.1
    predictions = np.round(rng.random((30, 128)) * 0.7 + labels * 0.3, 2).astype(dtype)
    chosen = protocol.choose_threshold(labels, predictions)
    grid = np.arange(1, 100) / 100
    f1 = [sklearn_metrics.f1_score(labels.ravel(), (predictions > float(c)).ravel(), zero_division=0) for c in grid]
    assert chosen == grid[np.argmax(f1)]


def test_threshold_of_a_regression_that_leaves_zero_to_one():
    labels = np.array([[True, False, True, False]])
    predictions = np.array([[5.0, -3.0, 3.0, 1.0]])
    chosen = protocol.choose_threshold(labels, predictions)
    assert 1 <= chosen < 3


@pytest.mark.parametrize("extreme", [2.0, 1e6])
def test_one_extreme_prediction_does_not_coarsen_the_search(extreme):
    rng = np.random.default_rng(2)
    labels = rng.random((400, 128)) < 0.03
    predictions = rng.normal(0.1 + 0.25 * labels, 0.1).astype(np.float32)
    predictions[0, 0] = -extreme
    found = f1_of(labels, predictions > protocol.choose_threshold(labels, predictions))
    precision, recall, _ = sklearn_metrics.precision_recall_curve(labels.ravel(), predictions.ravel())
    best = np.max(2 * precision * recall / np.maximum(precision + recall, 1e-9))
    assert best - 0.003 < found <= best


def f1_of(labels, predicted) -> float:
    return sklearn_metrics.f1_score(labels.ravel(), predicted.ravel())


def test_threshold_chosen_on_training_points_scores_unseen_ones():
    rng = np.random.default_rng(5)

    def points(size):
        labels = rng.random((size, 128)) < 0.03
        return labels, np.clip(rng.normal(0.2 + 0.3 * labels, 0.1), 0, 1)

    train_labels, train_predictions = points(2_000)
    labels, predictions = points(1_000)
    subset = protocol.sample(2_000, size=500, seed=1)
    c = protocol.choose_threshold(train_labels[subset], train_predictions[subset])
    own = protocol.choose_threshold(labels, predictions)
    got = protocol.score(labels, predictions, c)
    right = (labels & (predictions > c)).sum()
    assert got["all/precision"] == right / (predictions > c).sum()
    assert got["all/recall"] == right / labels.sum()
    # A threshold fitted to the unseen points themselves can only flatter, and here but little.
    assert 0 <= protocol.score(labels, predictions, own)["all/f1"] - got["all/f1"] < 0.01
    assert got["all/average_precision"] == sklearn_metrics.average_precision_score(labels.ravel(), predictions.ravel())


def test_sample_is_a_reproducible_subset():
    chosen = protocol.sample(100, 10, seed=3)
    assert len(set(chosen.tolist())) == 10 and chosen.max() < 100
    np.testing.assert_array_equal(chosen, protocol.sample(100, 10, seed=3))
    assert not np.array_equal(chosen, protocol.sample(100, 10, seed=4))
    np.testing.assert_array_equal(protocol.sample(3, 10, seed=3), [0, 1, 2])


def test_labels_of_notes_pool_over_recordings():
    first = PAPER.labels(Notes.from_list([Note(0.0, 200.0, 60)]), PAPER.num_points())
    assert first.sum() == 7_752
