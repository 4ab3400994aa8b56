"""The tags task: targets by their definition, losses by their formulas, and frames that no one knows."""

from __future__ import annotations

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, log_softmax, softmax
from sklearn.metrics import accuracy_score, average_precision_score, f1_score, log_loss

from musicnet_tf import instruments, targets
from musicnet_tf.errors import ConfigError
from musicnet_tf.events import UNKNOWN, Notes, TagSpans
from musicnet_tf.models import HeadSpec, ModelSpec
from musicnet_tf.tasks.tags import Accuracy, PrAuc, Tags, cross_entropy, softmax_cross_entropy
from musicnet_tf.timebase import FrameClock
from musicnet_tf.validation import construct

RATE, HOP, FRAMES = 1000, 100, 6
NAMES = ("violin", "cello", "piano")
SPEC = ModelSpec(
    FrameClock(RATE, HOP, HOP // 2), HOP * FRAMES, FRAMES, 0, {"tag": HeadSpec(3), "embedding": HeadSpec(4)}
)
RNG = np.random.default_rng(0)


def record(tags=None, notes=None):
    """Tags and notes as the input pipeline reads them, at whole milliseconds."""
    tags, notes = tags or TagSpans.empty(), notes or Notes.empty()
    times = {"tags/start": tags.start, "tags/stop": tags.stop, "notes/onset": notes.onset, "notes/offset": notes.offset}
    fields = {name: tf.constant(np.rint(value * RATE), tf.int64) for name, value in times.items()}
    fields["notes/instrument"] = tf.constant(notes.instrument, tf.int64)
    return {**fields, "tags/name": tf.constant(tags.tag.tolist(), tf.string), "tags/known": tf.constant(1, tf.int64)}


def made(fields, start=0, spec=SPEC, **options):
    task = Tags(**{"tags": NAMES, **options})
    return task.targets(fields, tf.constant(start, tf.int64), spec)["tag"].numpy()


def logits(*shape):
    return RNG.normal(0, 3, shape).astype(np.float32)


def frames_of(spec, start=0):
    """Seconds at which frames begin and end, in the record."""
    edges = (start + spec.clock.origin - HOP // 2 + HOP * np.arange(spec.num_frames + 1)) / RATE
    return edges[:-1], edges[1:]


def test_a_frame_bears_the_tags_of_its_samples():
    held = TagSpans([0.05, 0.1, 0.299], [0.2, 0.6, 0.3], ["violin", "piano", "cello"])
    expected = np.array([[1, 0, 0], [1, 0, 1], [0, 1, 1], [0, 0, 1], [0, 0, 1], [0, 0, 1]], np.float32)
    np.testing.assert_array_equal(made(record(held)), expected)
    np.testing.assert_array_equal(made(record(held), start=100)[:-1], expected[1:])
    np.testing.assert_array_equal(made(record(held), least_seconds=0.05)[:3], [[0, 0, 0], [1, 0, 1], [0, 0, 1]])
    np.testing.assert_array_equal(made(record(held), tags=("piano", "horn", "cello"))[2], [1, 0, 1])


def test_what_no_one_told_is_unknown_and_silence_is_not():
    untold = {**record(), "tags/known": tf.constant(0, tf.int64)}
    assert (made(untold) == targets.UNKNOWN).all()
    assert (made(record()) == 0).all()
    assert (made(record(), labels="instruments") == 0).all()


def test_an_instrument_sounds_through_notes_that_follow_at_once():
    notes = Notes([0.0, 0.03, 0.06, 0.1, 0.15], [0.03, 0.06, 0.09, 0.14, 0.19], [60] * 5, None, [40, 40, 40, 42, 42])
    assert made(record(notes=notes), labels="instruments")[:3, :2].tolist() == [[1, 0], [0, 1], [0, 0]]
    assert made(record(notes=notes), labels="instruments", least_seconds=0.08)[:2, :2].tolist() == [[1, 0], [0, 0]]
    assert made(record(notes=notes), labels="instruments", least_seconds=0.09)[0, 0] == 0


def test_notes_of_unknown_instruments_leave_unknown_what_is_not_heard_for_sure():
    notes = Notes([0.0, 0.1, 0.3], [0.2, 0.2, 0.4], [60, 61, 62], None, [40, UNKNOWN, 73])
    found = made(record(notes=notes), labels="instruments")
    assert found[:4].tolist() == [[1, 0, 0], [1, -1, -1], [0, 0, 0], [0, 0, 0]]


spans = st.lists(st.tuples(st.integers(-200, 900), st.integers(1, 300), st.sampled_from([*NAMES, "horn"])), max_size=10)


@given(spans, st.integers(0, 400), st.sampled_from([0, 30]), st.integers(0, 99))
@settings(max_examples=15)
def test_targets_are_what_the_stretches_say(rows, start, offset, least):
    held = TagSpans([r[0] / RATE for r in rows], [(r[0] + r[1]) / RATE for r in rows], [r[2] for r in rows]).merged()
    spec = dataclasses.replace(SPEC, clock=FrameClock(RATE, HOP, HOP // 2 + offset))
    expected = held.active(NAMES, *frames_of(spec, start), least=(least + 0.25) / RATE)
    found = made(record(held), start, spec, least_seconds=(least + 0.25) / RATE)
    np.testing.assert_array_equal(found, expected)


@given(spans, st.integers(0, 400), st.integers(0, 99))
@settings(max_examples=15)
def test_instruments_are_what_the_stretches_of_their_notes_say(rows, start, least):
    program = [instruments.program_of(row[2]) for row in rows]
    onset, length = (np.array([row[i] for row in rows], float) / RATE for i in (0, 1))
    notes = Notes(onset, onset + length, np.full(len(rows), 60), None, program)
    held = instruments.spans_of_notes(notes)
    expected = held.active(NAMES, *frames_of(SPEC, start), least=(least + 0.25) / RATE)
    found = made(record(notes=notes), start, labels="instruments", least_seconds=(least + 0.25) / RATE)
    np.testing.assert_array_equal(found, expected)


def test_tags_that_exclude_one_another_are_unknown_where_there_is_not_just_one():
    held = TagSpans([0.0, 0.1, 0.4], [0.2, 0.3, 0.5], ["violin", "piano", "cello"])
    found = made(record(held), exclusive=True)
    assert found[[0, 2, 4]].tolist() == [[1, 0, 0], [0, 0, 1], [0, 1, 0]]
    assert (found[[1, 3, 5]] == targets.UNKNOWN).all()
    unsure = tf.constant([[1.0, -1.0, 1.0], [1.0, -1.0, 0.0], [1.0, 0.0, 0.0]])
    assert targets.only_one(unsure).numpy().tolist() == [[-1, -1, -1], [-1, -1, -1], [1, 0, 0]]


def test_cross_entropy_is_log_loss_weighted_and_masked():
    truth, guess = RNG.integers(0, 2, (2, 5, 3)).astype(np.float32), logits(2, 5, 3)
    truth[0, 3, 1] = truth[1, 0] = targets.UNKNOWN
    weights = np.array([1.0, 4.0, 0.5], np.float32)
    value = np.asarray(cross_entropy(truth, guess, weights))
    for i, j in np.ndindex(2, 5):
        expected = 0.0
        for tag in np.flatnonzero(truth[i, j] >= 0):
            borne = truth[i, j, tag]
            plain = log_loss([borne], [expit(float(guess[i, j, tag]))], labels=[0, 1])
            expected += plain * (weights[tag] if borne else 1.0)
        assert value[i, j] == pytest.approx(expected / 3, rel=1e-5)
    assert value[1, 0] == 0


def test_softmax_cross_entropy_is_that_of_the_tag_that_is_borne():
    guess = logits(1, 3, 3)
    truth = np.array([[[0, 1, 0], [-1, -1, -1], [0.25, 0, 0.75]]], np.float32)
    value = np.asarray(softmax_cross_entropy(truth, guess, np.array([1.0, 2.0, 1.0], np.float32)))
    told = log_softmax(guess[0].astype(np.float64), axis=-1)
    expected = [[-2.0 * told[0, 1], 0.0, -0.25 * told[2, 0] - 0.75 * told[2, 2]]]
    np.testing.assert_allclose(value, expected, rtol=1e-5)


def test_losses_take_half_precision_and_follow_the_settings():
    truth, guess = np.eye(3, dtype=np.float32)[None], logits(1, 3, 3)
    plain, weighted = (Tags(tags=NAMES, positive_weights=w).losses(SPEC)["tag"] for w in ({}, {"cello": 3.0}))
    assert plain(truth, tf.cast(guess, tf.bfloat16)).dtype == tf.float32
    np.testing.assert_allclose(plain(truth, guess), cross_entropy(truth, guess))
    np.testing.assert_allclose(weighted(truth, guess), cross_entropy(truth, guess, np.array([1, 3, 1], np.float32)))
    exclusive = Tags(tags=NAMES, exclusive=True).losses(SPEC)["tag"]
    np.testing.assert_allclose(exclusive(truth, guess), softmax_cross_entropy(truth, guess))


def seen(metrics, truth, guess):
    for part in (slice(0, 3), slice(3, None)):
        for metric in metrics:
            metric.update_state(truth[part], guess[part])
    return {metric.name: float(metric.result()) for metric in metrics}


def test_metrics_of_a_training_are_scikit_learns_over_what_is_told():
    truth = RNG.choice([targets.UNKNOWN, 0.0, 1.0], (8, 300, 3)).astype(np.float32)
    truth[..., 1] = np.minimum(truth[..., 1], 0.0)  # borne by no frame, and so not averaged in
    guess = logits(8, 300, 3) + truth
    found = seen(Tags(tags=NAMES).metrics(SPEC)["tag"], truth, guess)
    told = truth >= 0
    assert found["f1"] == pytest.approx(f1_score(truth[told], guess[told] > 0), rel=1e-6)
    areas = [
        average_precision_score(truth[..., tag][told[..., tag]], guess[..., tag][told[..., tag]]) for tag in (0, 2)
    ]
    assert found["pr_auc"] == pytest.approx(np.mean(areas), abs=0.01)  # read at 200 thresholds


def test_metrics_of_tags_that_exclude_one_another_are_scikit_learns_too():
    index = RNG.integers(0, 3, (8, 300))
    truth, guess = np.eye(3, dtype=np.float32)[index], logits(8, 300, 3)
    truth[RNG.random((8, 300)) < 0.3] = targets.UNKNOWN
    found = seen(Tags(tags=NAMES, exclusive=True).metrics(SPEC)["tag"], truth, guess)
    told = truth[..., 0] >= 0
    assert found["accuracy"] == pytest.approx(accuracy_score(index[told], guess[told].argmax(axis=-1)), rel=1e-6)
    areas = average_precision_score(truth[told], softmax(guess[told], axis=-1), average="macro")
    assert found["pr_auc"] == pytest.approx(areas, abs=0.01)


@pytest.mark.parametrize("metric", [PrAuc(3, True), Accuracy()], ids=["area", "accuracy"])
def test_metrics_come_back_from_their_config_and_count_nothing_at_first(metric):
    again = keras.metrics.deserialize(keras.metrics.serialize(metric))
    assert again.get_config() == metric.get_config()
    assert float(again.result()) == 0.0


def test_activations_are_probabilities_and_the_embedding_stays_as_it_is():
    values = {"tag": logits(1, 5, 3), "embedding": logits(1, 5, 4)}
    several, one = (Tags(tags=NAMES, exclusive=e).activations(values) for e in (False, True))
    np.testing.assert_allclose(several["tag"], expit(values["tag"]), rtol=1e-5)
    np.testing.assert_allclose(one["tag"], softmax(values["tag"], axis=-1), rtol=1e-5)
    assert one["embedding"] is values["embedding"]


def test_what_is_served_names_the_tags_and_brings_the_embedding():
    task = Tags(tags=NAMES, exclusive=True, decoder={"aggregate": "max"})
    assert task.heads(SPEC) == ["tag"]
    assert task.served(SPEC).heads == {"tag": HeadSpec(3, labels=NAMES), "embedding": HeadSpec(4)}
    other = dataclasses.replace(SPEC, heads={"frame": HeadSpec(88), "tag": HeadSpec(3)})
    assert list(task.served(other).heads) == ["tag"]
    params = task.decoder_params()
    assert (params["aggregate"], params["exclusive"]) == ("max", True)
    assert Tags(tags=NAMES).decoder_params()["exclusive"] is False


def test_the_picture_shows_what_is_told_beside_what_is_heard():
    truth = np.array([[0, 1, 0], [0, 1, -1], [0, 0, 0], [0, 0, 0], [0, 0, 0], [0, 0, 0]], np.float32)
    heard = np.array([[0.1, 0.2, 0.8]] * 6)
    left, right = Tags(tags=NAMES).picture({"tag": heard}, {"tag": truth}, SPEC).axes
    assert [label.get_text() for label in left.get_yticklabels()] == ["cello", "piano", "violin"]
    told, drawn = (ax.collections[0].get_array() for ax in (left, right))
    np.testing.assert_array_equal(told.filled(-1), truth.T[[1, 2, 0]])
    assert told.mask[1].tolist() == [False, True, False, False, False, False]
    np.testing.assert_array_equal(drawn, heard.T[[1, 2, 0]])
    assert right.get_xlim() == (0.0, 0.6)


def test_tags_that_no_recording_bears_are_named():
    entries = [{"tags": {"cello": 3.0, "horn": 1.0}, "instruments": {"0": 12, "-1": 3}}, {"instruments": {"40": 1}}]
    assert Tags(tags=NAMES).unlabelled(entries) == ["violin", "piano"]
    assert Tags(tags=NAMES, labels="instruments").unlabelled(entries) == ["cello"]
    with pytest.raises(ConfigError, match="no recording bears any of Cello; those that are borne: cello, horn"):
        Tags(tags=("Cello",)).unlabelled(entries)
    assert Tags(tags=NAMES).annotations == ("tags",)
    assert Tags(tags=NAMES, labels="instruments").annotations == ("notes",)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "key 'tags' is missing"),
        ({"tags": []}, "key 'tags': tuple should have at least 1 item"),
        ({"tags": ["a", "b", "a"]}, "'a' is named twice"),
        ({"tags": ["rock", "pop"], "positive_weights": {"rok": 2}}, "'rok' is none of the tags, did you mean 'rock'"),
        ({"tags": ["rock"], "decoder": {"thresholds": {"pop": 0.2}}}, "decoder.thresholds: 'pop' is none of the tags"),
        ({"tags": ["rock"], "exclusive": True}, "one tag alone leaves nothing to choose from"),
        ({"tags": ["kazoo"], "labels": "instruments"}, "no instrument is called 'kazoo'"),
    ],
)
def test_what_cannot_be_is_refused(fields, message):
    with pytest.raises(ConfigError, match=message) as caught:
        construct(Tags, fields, where="task")
    assert str(caught.value).startswith("task: ")
    assert "\n" not in str(caught.value)


def test_models_that_do_not_fit_are_refused():
    Tags(tags=NAMES).check("any", SPEC)
    with pytest.raises(ConfigError, match="task 'tags' needs head 'tag', and model 'any' gives frame"):
        Tags(tags=NAMES).check("any", dataclasses.replace(SPEC, heads={"frame": HeadSpec(88)}))
    wrong = r"task.tags names 2 tags, and head 'tag' of model 'any' has 3 classes; set model.num_tags=2"
    with pytest.raises(ConfigError, match=wrong):
        Tags(tags=NAMES[:2]).check("any", SPEC)
    Tags(tags=NAMES, least_seconds=0.099).check("any", SPEC)
    with pytest.raises(ConfigError, match=r"least_seconds=0.1: no frame of model 'any' .* they last 0.1 s; lower it"):
        Tags(tags=NAMES, least_seconds=0.1).check("any", SPEC)
