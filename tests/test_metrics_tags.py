"""Scores of tags against scikit-learn and by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from sklearn import metrics as sklearn_metrics

from musicnet_tf.events import TagSpans
from musicnet_tf.metrics import tags
from musicnet_tf.metrics.tags import Items


def items_of(truth, scores, threshold=0.5) -> Items:
    scores = np.array(scores, float)
    return Items(np.array(truth, bool), scores, scores >= threshold)


@st.composite
def drawn_items(draw) -> Items:
    """Few distinct scores, so that some are equal; tags and items without positives, or without negatives."""
    shape = (draw(st.integers(1, 12)), draw(st.integers(2, 5)))
    scores = draw(arrays.arrays(float, shape, elements=st.integers(0, 8).map(lambda eighths: eighths / 8)))
    return items_of(draw(arrays.arrays(bool, shape)), scores)


@st.composite
def regular_items(draw) -> Items:
    """Each tag is true of some items and not of others, and each item bears some tags and not others."""
    num_tags = draw(st.integers(2, 5))
    shape = (num_tags + draw(st.integers(0, 6)), num_tags)
    scores = draw(arrays.arrays(float, shape, elements=st.integers(0, 8).map(lambda eighths: eighths / 8)))
    truth, rows = draw(arrays.arrays(bool, shape)), np.arange(shape[0])
    truth[rows, rows % num_tags], truth[rows, (rows + 1) % num_tags] = True, False
    return items_of(truth, scores)


@st.composite
def drawn_single(draw) -> Items:
    """Each item bears one tag, and the tag of the highest score is found; no two scores of an item are equal."""
    size, num_tags = draw(st.integers(1, 12)), draw(st.integers(4, 6))
    label = draw(arrays.arrays(int, size, elements=st.integers(0, num_tags - 1)))
    scores = np.array([draw(st.permutations(range(num_tags))) for _ in range(size)], float)
    return Items(np.eye(num_tags, dtype=bool)[label], scores, scores == num_tags - 1)


HAND = items_of(
    [[1, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 0]],
    [[0.9, 0.6, 0.1], [0.4, 0.2, 0.7], [0.6, 0.5, 0.3], [0.1, 0.3, 0.2]],
)
"""Of tag a: found in items 0 and 2, true of 0 and 1; ranked 0, 2, 1, 3. Tag c is true of none, and found in item 1."""


def test_each_tag_by_hand():
    a, b, c = tags.by_tag("abc", HAND).values()
    # a: precision at its positives 1 and 2/3; of 4 pairs of a positive and a negative, 3 are in order.
    assert a == pytest.approx(
        {
            "positives": 2,
            "found": 2,
            "precision": 1 / 2,
            "recall": 1 / 2,
            "f1": 1 / 2,
            "roc_auc": 3 / 4,
            "pr_auc": (1 + 2 / 3) / 2,
            "pr_floor": 1 / 2,
        }
    )
    # b: its positive comes second of four, and two are found.
    assert b == pytest.approx(
        {
            "positives": 1,
            "found": 2,
            "precision": 1 / 2,
            "recall": 1,
            "f1": 2 / 3,
            "roc_auc": 2 / 3,
            "pr_auc": 1 / 2,
            "pr_floor": 1 / 4,
        }
    )
    assert c == {"positives": 0, "found": 1}


def test_averages_by_hand():
    found = tags.averages(HAND)
    assert found["macro/pr_auc"] == pytest.approx((5 / 6 + 1 / 2) / 2)  # c, which nothing bears, is in no mean
    assert found["macro/roc_auc"] == pytest.approx((3 / 4 + 2 / 3) / 2)
    assert found["macro/f1"] == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert found["macro/pr_floor"] == pytest.approx((1 / 2 + 1 / 4) / 2)
    assert found["weighted/f1"] == pytest.approx((2 * 1 / 2 + 2 / 3) / 3)
    # Of all twelve entries two are right of five found, and three are true.
    assert found["micro/precision"] == pytest.approx(2 / 5) and found["micro/recall"] == pytest.approx(2 / 3)
    assert found["micro/f1"] == pytest.approx(2 * 2 / (5 + 3)) and found["micro/pr_floor"] == pytest.approx(3 / 12)
    # Of the three items that bear a tag: it comes first, second and second of each one's three.
    assert found["samples/pr_auc"] == pytest.approx((1 + 1 / 2 + 1 / 2) / 3)
    assert found["samples/roc_auc"] == pytest.approx((1 + 1 / 2 + 1 / 2) / 3)
    assert tags.averages(HAND, ["micro"]).keys() == {f"micro/{name}" for name in tags.score(HAND)}


@settings(max_examples=15)
@given(drawn_items())
def test_each_tag_equals_scikit_learn(items):
    for tag, row in enumerate(tags.by_tag([str(k) for k in range(items.truth.shape[1])], items).values()):
        truth, scores, found = items.of(tag)
        assert (row["positives"], row["found"]) == (truth.sum(), found.sum())
        if not truth.any():
            assert len(row) == 2
            continue
        precision, recall, f1, _ = sklearn_metrics.precision_recall_fscore_support(
            truth, found, average="binary", pos_label=True, zero_division=0
        )
        assert [row[name] for name in ("precision", "recall", "f1")] == pytest.approx([precision, recall, f1])
        assert row["pr_auc"] == pytest.approx(sklearn_metrics.average_precision_score(truth, scores))
        assert row["pr_floor"] == pytest.approx(truth.mean())
        assert ("roc_auc" in row) == (not truth.all())
        if not truth.all():
            assert row["roc_auc"] == pytest.approx(sklearn_metrics.roc_auc_score(truth, scores))


@settings(max_examples=15)
@given(regular_items())
def test_averages_equal_scikit_learn(items):
    found = tags.averages(items)
    for kind in tags.AVERAGES:
        precision, recall, f1, _ = sklearn_metrics.precision_recall_fscore_support(
            items.truth, items.found, average=kind, zero_division=0
        )
        expected = {
            "precision": precision,
            "recall": recall,
            "roc_auc": sklearn_metrics.roc_auc_score(items.truth, items.scores, average=kind),
            "pr_auc": sklearn_metrics.average_precision_score(items.truth, items.scores, average=kind),
            "f1": f1,
        }
        assert {name: found[f"{kind}/{name}"] for name in expected} == pytest.approx(expected)


@settings(max_examples=15)
@given(regular_items())
def test_tags_that_are_never_or_always_true_move_no_average_that_they_have_no_part_in(items):
    size = len(items.truth)
    never = with_tag(items, np.zeros(size, bool))
    kinds = ("macro", "weighted")
    assert tags.averages(never, kinds) == pytest.approx(tags.averages(items, kinds))
    found = np.count_nonzero(items.found) + size
    correct = np.count_nonzero(items.found & items.truth)
    assert tags.averages(never, ["micro"])["micro/precision"] == pytest.approx(correct / found)
    always = with_tag(items, np.ones(size, bool))
    before, after = (tags.averages(each, kinds) for each in (items, always))
    assert [after[f"{kind}/roc_auc"] for kind in kinds] == [before[f"{kind}/roc_auc"] for kind in kinds]
    num_tags = items.truth.shape[1]
    assert after["macro/pr_auc"] == pytest.approx((num_tags * before["macro/pr_auc"] + 1) / (num_tags + 1))


def with_tag(items: Items, truth: np.ndarray) -> Items:
    """With one more tag, found in every item."""
    column = truth[:, np.newaxis]
    return Items(
        np.hstack([items.truth, column]), np.hstack([items.scores, column]), np.hstack([items.found, column | True])
    )


def test_nothing_is_said_where_nothing_is_true():
    empty = items_of(np.zeros((3, 2)), np.full((3, 2), 0.9))
    assert tags.averages(empty) == tags.top_k(empty, 1) == tags.accuracy(empty) == {}
    no_items = items_of(np.zeros((0, 2)), np.zeros((0, 2)))
    assert tags.averages(no_items) == {} and tags.by_tag("ab", no_items)["b"] == {"positives": 0, "found": 0}


@settings(max_examples=15)
@given(drawn_single())
def test_single_labels_equal_scikit_learn(items):
    true, found = items.truth.argmax(axis=1), items.found.argmax(axis=1)
    labels = np.arange(items.truth.shape[1])
    assert tags.accuracy(items) == {"accuracy": pytest.approx(sklearn_metrics.accuracy_score(true, found))}
    counts = sklearn_metrics.confusion_matrix(true, found, labels=labels)
    table = tags.confusion([f"tag {k}" for k in labels], items)
    assert [list(row.values()) for row in table.values()] == counts.tolist() and next(iter(table)) == "tag 0"
    for k in (1, 3):
        expected = sklearn_metrics.top_k_accuracy_score(true, items.scores, k=k, labels=labels)
        assert tags.top_k(items, k) == {f"top{k}": pytest.approx(expected)}
    # As many are found as items, one each: precision, recall and F are the accuracy.
    assert tags.score(items)["f1"] == pytest.approx(tags.accuracy(items)["accuracy"])


def test_one_of_the_best_tags_may_be_any_of_several():
    items = items_of(
        [[1, 0, 1, 0], [0, 0, 0, 1], [0, 0, 0, 0]], [[0.1, 0.9, 0.8, 0], [0.4, 0.3, 0.2, 0.1], [1, 1, 1, 1]]
    )
    assert tags.top_k(items, 1) == {"top1": 0} and tags.top_k(items, 2) == {"top2": 1 / 2}
    assert tags.top_k(items, 3) == {"top3": 1 / 2} and tags.top_k(items, 4) == {}
    equal = items_of([[0, 1, 0], [1, 0, 0]], np.ones((2, 3)))
    assert tags.top_k(equal, 1) == {"top1": 1 / 2} and tags.top_k(equal, 2) == {"top2": 1}  # in the order of the tags


def test_items_of_several_labels_are_not_confused():
    items = Items(
        *np.array([[[1, 1], [1, 0], [1, 0], [0, 1]], np.zeros((4, 2)), [[1, 0], [0, 1], [0, 0], [0, 1]]], bool)
    )
    assert tags.confusion("ab", items) == {"a": {"a": 0, "b": 1}, "b": {"a": 0, "b": 1}}
    assert tags.accuracy(items) == {"accuracy": pytest.approx(1 / 3)}


def test_a_recording_bears_what_lasts_long_enough_in_total():
    spans = TagSpans([0, 1, 5, 9, 0, -2], [2, 3, 6, 99, np.inf, 0.5], ["a", "a", "a", "b", "whole", "before"])
    names = ("a", "b", "whole", "before", "never")
    assert tags.borne(spans, names, 10.0).tolist() == [True, True, True, True, False]
    # a lasts 3 + 1 s, as what overlaps counts once; b 1 s within the recording, `before` half a second.
    assert tags.borne(spans, names, 10.0, 0.5).tolist() == [True, True, True, False, False]
    assert tags.borne(spans, names, 10.0, 1.0).tolist() == [True, False, True, False, False]
    assert tags.borne(spans, names, 10.0, 4.0).tolist() == [False, False, True, False, False]
    assert tags.borne(spans, names, 10.0, 3.99).tolist() == [True, False, True, False, False]
