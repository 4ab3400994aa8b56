"""The notes task: losses by their formulas, F1 by scikit-learn, activations and heads."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from scipy.special import expit
from sklearn.metrics import f1_score, log_loss

from musicnet_tf.models import HeadSpec, ModelSpec
from musicnet_tf.tasks.notes import F1, Notes
from musicnet_tf.timebase import FrameClock

HEAD = HeadSpec(88, 21)
FULL = ModelSpec(FrameClock(16000, 320), 16000, 50, 13, dict.fromkeys(("onset", "frame", "offset", "velocity"), HEAD))
FRAME_ONLY = dataclasses.replace(FULL, heads={"frame": HEAD})
RNG = np.random.default_rng(0)


def logits(*shape):
    return RNG.normal(0, 3, shape).astype(np.float32)


def test_cross_entropy_is_ten_times_the_mean_log_loss():
    loss = Notes().losses(FULL)["frame"]
    truth, guess = RNG.integers(0, 2, (2, 5, 88)).astype(np.float32), logits(2, 5, 88)
    value = np.asarray(loss(truth, guess))
    assert value.shape == (2, 5)
    expected = [
        [10 * log_loss(truth[i, j], expit(np.float64(guess[i, j])), labels=[0, 1]) for j in range(5)] for i in range(2)
    ]
    np.testing.assert_allclose(value, expected, rtol=1e-5)


def test_cross_entropy_of_soft_targets_is_least_at_the_target():
    loss = Notes().losses(FULL)["onset"]
    target = np.full((1, 1, 3), 0.8, np.float32)
    at = {p: float(loss(target, np.full((1, 1, 3), np.log(p / (1 - p)), np.float32))[0, 0]) for p in (0.7, 0.8, 0.9)}
    assert at[0.8] == pytest.approx(-10 * (0.8 * np.log(0.8) + 0.2 * np.log(0.2)), rel=1e-5)
    assert at[0.8] < min(at[0.7], at[0.9])
    extreme = loss(np.array([[[1.0, 0.0]]], np.float32), np.array([[[-200.0, 200.0]]], np.float32))
    assert float(extreme[0, 0]) == pytest.approx(2000.0)  # stays finite


def test_square_loss_is_the_papers():
    loss = Notes(frame_loss="square").losses(FRAME_ONLY)["frame"]
    truth, guess = RNG.integers(0, 2, (3, 1, 128)).astype(np.float32), logits(3, 1, 128)
    np.testing.assert_allclose(loss(truth, guess), 0.5 * ((truth - guess) ** 2).sum(axis=-1), rtol=1e-5)


def test_velocity_loss_counts_onsets_alone():
    loss = Notes().losses(FULL)["velocity"]
    level, weight, guess = RNG.uniform(0, 1, (3, 50, 88)), RNG.uniform(0, 1, (3, 50, 88)), logits(3, 50, 88)
    weight *= RNG.uniform(0, 1, weight.shape) < 0.01
    weight[2] = 0  # a window whose velocities are not known
    value = np.asarray(loss(np.stack([level, weight], -1).astype(np.float32), guess))
    error = (weight * (level - expit(guess)) ** 2).sum(axis=(1, 2))
    np.testing.assert_allclose(value[:2], error[:2] / weight[:2].sum(axis=(1, 2)), rtol=1e-4)
    assert value[2] == 0
    faint = np.zeros((1, 50, 88, 2), np.float32)
    faint[0, 3, 4] = 1.0, 0.25  # less than one onset's weight is not blown up
    assert float(loss(faint, np.zeros((1, 50, 88), np.float32))[0]) == pytest.approx(0.25 * 0.25, rel=1e-6)


def test_losses_take_half_precision():
    truth = np.ones((1, 2, 3), np.float32)
    loss = Notes().losses(FULL)["frame"](truth, tf.cast(truth, tf.bfloat16))
    assert loss.dtype == tf.float32


@pytest.mark.parametrize("threshold", [0.0, 0.5])
def test_f1_is_scikit_learns_pooled_over_batches(threshold):
    metric = F1(threshold)
    batches = [(RNG.uniform(0, 1, (2, 7, 12)).astype(np.float32), logits(2, 7, 12)) for _ in range(3)]
    for truth, guess in batches:
        metric.update_state(truth, guess)
    truth, guess = (np.concatenate([np.ravel(b[i]) for b in batches]) for i in range(2))
    assert float(metric.result()) == pytest.approx(f1_score(truth >= 0.5, guess > threshold), rel=1e-5)
    metric.reset_state()
    assert float(metric.result()) == 0.0
    metric.update_state(np.array([[0.5, 0.49]]), np.array([[threshold + 0.1, threshold]]))  # both just so
    assert float(metric.result()) == 1.0
    again = F1.from_config(metric.get_config())
    assert (again.threshold, again.name) == (threshold, "f1")


def test_activations_are_what_the_losses_estimate():
    values = {head: logits(1, 2, 3) for head in FULL.heads}
    served = Notes().activations(values)
    for head, value in values.items():
        np.testing.assert_allclose(served[head], expit(value), rtol=1e-5)
    linear = Notes(frame_loss="square").activations(values)
    np.testing.assert_array_equal(linear["frame"], np.clip(values["frame"], 0, 1))
    np.testing.assert_allclose(linear["onset"], expit(values["onset"]), rtol=1e-5)


def test_metrics_cut_where_the_activation_is_a_half():
    for task in (Notes(), Notes(frame_loss="square")):
        ((metric,),) = (task.metrics(FRAME_ONLY)["frame"],)
        threshold = np.full((1, 1, 1), metric.threshold, np.float32)
        assert float(task.activations({"frame": threshold})["frame"][0, 0, 0]) == 0.5
    assert {head: [m.name for m in found] for head, found in Notes().metrics(FULL).items()} == {
        "frame": ["f1"],
        "onset": ["f1"],
        "offset": ["f1"],
        "velocity": [],
    }


NOTE = {"onset": 5000, "offset": 10000, "pitch": 60, "velocity": 100}
RECORD = {f"notes/{name}": tf.constant([value], tf.int64) for name, value in NOTE.items()}
"""In a window that starts at sample 1000 the note lasts from frame 12.5 to 28.125."""


def test_every_head_of_the_model_and_no_other_is_trained():
    other = dataclasses.replace(FULL, heads={"frame": HEAD, "beat": HeadSpec(1), "onset": HEAD})
    for spec, heads in ((FULL, list(FULL.heads)), (FRAME_ONLY, ["frame"]), (other, ["frame", "onset"])):
        task = Notes()
        assert task.heads(spec) == heads
        targets = task.targets(RECORD, tf.constant(1000, tf.int64), spec)
        for found in (targets, task.losses(spec), task.loss_weights(spec), task.metrics(spec)):
            assert sorted(found) == sorted(heads)


def test_targets_stand_at_their_own_events():
    targets = Notes(onset_width=0.04).targets(RECORD, tf.constant(1000, tf.int64), FULL)
    targets = {head: value.numpy() for head, value in targets.items()}
    c = 60 - 21
    assert np.flatnonzero(targets["frame"][:, c]).tolist() == list(range(13, 29))
    assert targets["onset"][11:15, c] == pytest.approx([0.25, 0.75, 0.75, 0.25], abs=1e-6)
    assert targets["offset"][27:31, c] == pytest.approx([0.4375, 0.9375, 0.5625, 0.0625], abs=1e-6)
    assert targets["velocity"][12, c] == pytest.approx([100 / 127, 0.75], abs=1e-6)
    for value in targets.values():
        assert not np.delete(value, c, axis=1).any()


def test_weights_that_are_not_named_keep_their_default():
    weights = Notes(weights={"onset": 3.0}).loss_weights(FULL)
    assert weights == {"onset": 3.0, "frame": 1.0, "offset": 1.0, "velocity": 0.5}


def test_the_decoder_starts_from_the_config():
    task = Notes(decoder={"onset_threshold": 0.3})
    assert task.decoder_params()["onset_threshold"] == 0.3
    assert task.decoder_params()["frame_threshold"] == 0.5
