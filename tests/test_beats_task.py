"""The beats task: targets by their definition, losses by their formulas, and frames that no one knows."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.collections import LineCollection
from scipy.special import expit
from sklearn.metrics import f1_score, log_loss

from musicnet_tf import targets
from musicnet_tf.errors import ConfigError
from musicnet_tf.events import UNKNOWN
from musicnet_tf.models import HeadSpec, ModelSpec
from musicnet_tf.tasks.beats import F1, Beats, cross_entropy, shift_tolerant
from musicnet_tf.timebase import FrameClock

RATE, HOP, FRAMES = 16000, 160, 60
CLOCK = FrameClock(RATE, HOP)
HEAD = HeadSpec(1, 0)
SPEC = ModelSpec(CLOCK, RATE * FRAMES // 100, FRAMES, 0, {"beat": HEAD, "downbeat": HEAD})
RNG = np.random.default_rng(0)


def record(time, position, known=1):
    fields = {"beats/time": time, "beats/position": position, "beats/known": known}
    return {name: tf.constant(value, tf.int64) for name, value in fields.items()}


def made(time, position, known=1, start=0, **fields):
    given_record = record(time, position, known)
    return {
        k: v.numpy()[:, 0] for k, v in Beats(**fields).targets(given_record, tf.constant(start, tf.int64), SPEC).items()
    }


def logits(*shape):
    return RNG.normal(0, 3, shape).astype(np.float32)


def test_a_beat_is_1_at_its_frame_and_a_half_beside_it():
    found = made([1600, 3300, 4800], [2, 1, 2])  # at frames 10, 20.6 and 30
    expected = np.zeros(FRAMES)
    expected[[10, 21, 30]] = 1.0
    expected[[9, 11, 20, 22, 29, 31]] = 0.5
    np.testing.assert_array_equal(found["beat"], expected)
    expected[[9, 10, 11, 29, 30, 31]] = 0.0
    np.testing.assert_array_equal(found["downbeat"], expected)


def test_width_is_in_seconds():
    np.testing.assert_allclose(made([1600], [1], width=0.04)["beat"][6:15], [0, 0.25, 0.5, 0.75, 1, 0.75, 0.5, 0.25, 0])
    assert made([1600], [1], width=0.0)["beat"].nonzero()[0].tolist() == [10]


def test_windows_count_from_their_start_and_beats_just_outside_reach_in():
    found = made([1600, 3200], [1, 2], start=3360)["beat"]  # the second beat is a frame before the window
    assert found.nonzero()[0].tolist() == [0]
    assert found[0] == 0.5
    assert made([1600], [1], start=1600)["beat"].nonzero()[0].tolist() == [0, 1]


def test_frames_around_beats_of_unknown_place_tell_nothing_of_downbeats():
    found = made([1600, 3200, 4800, 6400], [1, UNKNOWN, UNKNOWN, 1])  # frames 10, 20, 30 and 40
    assert (found["downbeat"] == targets.UNKNOWN).nonzero()[0].tolist() == list(range(15, 35))
    assert found["downbeat"][[9, 10, 11, 39, 40, 41]].tolist() == [0.5, 1, 0.5, 0.5, 1, 0.5]
    assert (found["beat"] >= 0).all()


def test_what_no_one_annotated_is_unknown_and_silence_is_not():
    unknown, silent = made([], [], known=0), made([], [], known=1)
    assert all((values == targets.UNKNOWN).all() for values in unknown.values())
    assert all((values == 0).all() for values in silent.values())


@given(
    st.sets(st.integers(-4000, 14000), max_size=12).map(sorted),
    st.data(),
    st.sampled_from([0, 80, 700]),
    st.integers(-500, 500),
)
@settings(max_examples=15)
def test_targets_are_their_definition(time, data, origin, start):
    position = data.draw(st.lists(st.sampled_from([UNKNOWN, 1, 2]), min_size=len(time), max_size=len(time)))
    spec = dataclasses.replace(SPEC, clock=FrameClock(RATE, HOP, origin))
    made = Beats(width=0.035).targets(record(time, position), tf.constant(start, tf.int64), spec)
    found = {head: values.numpy() for head, values in made.items()}
    place = (np.array(time, float) - start - origin) / HOP
    nearest = np.floor(place + 0.5)
    height = np.maximum(1 - np.abs(np.arange(FRAMES)[:, None] - nearest) / 3.5, 0)
    np.testing.assert_allclose(found["beat"][:, 0], height.max(axis=1, initial=0.0), atol=1e-6)
    first = np.array(position, int) == 1
    downbeat = height[:, first].max(axis=1, initial=0.0)
    for frame in range(FRAMES):
        distance = np.abs(place - frame)
        closest = [p for p, d in zip(position, distance, strict=True) if d == distance.min()]
        if UNKNOWN in closest and len(set(closest)) > 1:
            continue  # two beats as near: either may tell
        expected = targets.UNKNOWN if UNKNOWN in closest else downbeat[frame]
        assert found["downbeat"][frame, 0] == pytest.approx(expected, abs=1e-6)


def test_cross_entropy_is_log_loss_weighted_and_masked():
    truth, guess = RNG.integers(0, 2, (2, 7, 1)).astype(np.float32), logits(2, 7, 1)
    truth[0, 3] = truth[1, 0] = targets.UNKNOWN
    value = np.asarray(cross_entropy(truth, guess, 5.0))
    assert value.shape == (2, 7)
    for i, j in np.ndindex(2, 7):
        if truth[i, j, 0] < 0:
            assert value[i, j] == 0
        else:
            plain = log_loss(truth[i, j], expit(guess[i, j].astype(np.float64)), labels=[0, 1])
            assert value[i, j] == pytest.approx(plain * (5.0 if truth[i, j, 0] else 1.0), rel=1e-5)


def foscarin_loss(target, logit, tolerance, weight):
    """The loss as its authors' code has it, window by window: spread, crop, weigh; without what cropping leaves off."""

    def spread(x, reach):
        return np.array([x[max(k - reach, 0) : k + reach + 1].max() for k in range(len(x))])

    known, beat = target >= 0, (target == 1).astype(float)
    look_at = known * (beat + (1 - spread(beat, 2 * tolerance)))
    probability = expit(spread(logit, tolerance))
    loss = -look_at * (weight * beat * np.log(probability) + (1 - beat) * np.log1p(-probability))
    inner = np.zeros(len(target))
    inner[2 * tolerance : len(target) - 2 * tolerance] = 1
    return inner * loss


@pytest.mark.parametrize("tolerance", [1, 3])
def test_shift_tolerant_loss_is_its_authors(tolerance):
    truth = RNG.choice([targets.UNKNOWN, 0.0, 0.0, 0.0, 0.0, 0.5, 1.0], (3, 60, 1)).astype(np.float32)
    truth[0, :, 0] = np.arange(60) % 20 == 0
    guess = logits(3, 60, 1)
    found = np.asarray(shift_tolerant(truth, guess, tolerance, 2.0))
    expected = [foscarin_loss(truth[i, :, 0], np.float64(guess[i, :, 0]), tolerance, 2.0) for i in range(3)]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_a_peak_may_lie_three_frames_off_and_no_further():
    truth = np.zeros((1, 60, 1), np.float32)
    truth[0, 30] = 1.0

    def loss(*peaks):
        guess = np.full((1, 60, 1), -10.0, np.float32)
        guess[0, list(peaks)] = 10.0
        return float(np.sum(shift_tolerant(truth, guess, 3)))

    assert loss(30) == pytest.approx(loss(27)) == pytest.approx(loss(33))
    assert loss(33) < 0.1 < 9.0 < loss(34)
    assert loss() > 9.0
    assert loss(30, 45) > 9.0


def test_losses_take_half_precision_and_follow_the_settings():
    truth, guess = np.zeros((1, FRAMES, 1), np.float32), logits(1, FRAMES, 1)
    truth[0, 30] = 1.0
    task = Beats(loss="shift_tolerant", tolerance=0.02, positive_weights={"downbeat": 4.0}, weights={"beat": 0.5})
    losses = task.losses(SPEC)
    assert losses["beat"](truth, tf.cast(guess, tf.bfloat16)).dtype == tf.float32
    np.testing.assert_allclose(losses["downbeat"](truth, guess), shift_tolerant(truth, guess, 2, 4.0))
    np.testing.assert_allclose(losses["beat"](truth, guess), shift_tolerant(truth, guess, 2, 1.0))
    np.testing.assert_allclose(Beats().losses(SPEC)["beat"](truth, guess), cross_entropy(truth, guess))
    assert task.loss_weights(SPEC) == {"beat": 0.5, "downbeat": 1.0}


def test_f1_is_scikit_learns_over_the_frames_that_are_told():
    metric = F1()
    truth, guess = RNG.choice([targets.UNKNOWN, 0.0, 0.25, 0.5, 1.0], (4, 30, 1)), logits(4, 30, 1)
    for i in range(2):
        metric.update_state(truth[2 * i : 2 * i + 2], guess[2 * i : 2 * i + 2])
    told = truth >= 0
    assert float(metric.result()) == pytest.approx(f1_score(truth[told] >= 0.5, guess[told] > 0), rel=1e-6)


def test_activations_are_probabilities_and_the_decoder_s_parameters_are_told():
    values = logits(1, 5, 1)
    np.testing.assert_allclose(Beats().activations({"beat": values})["beat"], expit(values), rtol=1e-5)
    params = Beats(decoder={"min_bpm": 40.0}).decoder_params()
    assert params["min_bpm"] == 40.0


def test_the_picture_shows_the_beats_of_the_labels():
    truth = {head: values[:, None] for head, values in made([1600, 3200, 4800], [1, 2, UNKNOWN]).items()}
    heard = {head: expit(logits(FRAMES, 1)) for head in truth}
    upper = Beats().picture(heard, truth, SPEC).axes[0]
    lines = {drawn.get_label(): drawn for drawn in upper.collections if isinstance(drawn, LineCollection)}
    assert [x[0, 0] for x in lines["a bar begins"].get_segments()] == pytest.approx([0.1])
    assert [x[0, 0] for x in lines["a beat"].get_segments()] == pytest.approx([0.2, 0.3])
    curves = [line for line in upper.get_lines() if len(line.get_xdata()) == FRAMES]
    np.testing.assert_allclose(curves[0].get_ydata(), heard["beat"][:, 0])


def test_models_that_do_not_fit_are_refused():
    def with_heads(**heads):
        return dataclasses.replace(SPEC, heads=heads)

    Beats().check("any", with_heads(beat=HEAD))
    assert Beats().heads(with_heads(beat=HEAD, frame=HeadSpec(88, 21))) == ["beat"]
    with pytest.raises(ConfigError, match="task 'beats' needs head 'beat', and model 'any' gives frame"):
        Beats().check("any", with_heads(frame=HeadSpec(88, 21)))
    with pytest.raises(ConfigError, match="head 'downbeat' of model 'any' must have one class"):
        Beats().check("any", with_heads(beat=HEAD, downbeat=HeadSpec(2, 0)))
    short = dataclasses.replace(SPEC, num_frames=24)
    with pytest.raises(ConfigError, match=r"shift_tolerant leaves 12 frames at either end .* gives 24; take longer"):
        Beats(loss="shift_tolerant").check("any", short)
    Beats(loss="shift_tolerant").check("any", dataclasses.replace(SPEC, num_frames=25))
    Beats().check("any", short)
