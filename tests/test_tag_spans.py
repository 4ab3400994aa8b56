"""Tags as events: stretches that bear them, what counts as bearing within a frame, names of a head's classes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from musicnet_tf.errors import ConfigError, ScoreError
from musicnet_tf.events import Tags, TagSpans
from musicnet_tf.models import HeadSpec, ModelSpec
from musicnet_tf.timebase import FrameClock

NAMES = ("a", "b", "c")


@st.composite
def spans(draw):
    """Stretches in whole hundredths, so that those that touch do so exactly."""
    rows = draw(st.lists(st.tuples(st.integers(0, 60), st.integers(1, 30), st.sampled_from(NAMES)), max_size=12))
    return TagSpans([r[0] / 100 for r in rows], [(r[0] + r[1]) / 100 for r in rows], [r[2] for r in rows])


def bearing(held, name):
    """Hundredths at which a tag is borne, of the first 100, by looking at each."""
    mine = held.tag == name
    middle = (np.arange(100) + 0.5) / 100
    return ((held.start[mine] < middle[:, None]) & (middle[:, None] < held.stop[mine])).any(axis=1)


def test_a_frame_bears_a_tag_for_longer_than_the_least():
    held = TagSpans([0.0, 0.5, 1.9], [0.25, 1.5, 4.0], ["a", "b", "b"])
    frames = [0.0, 1.0, 2.0], [1.0, 2.0, 3.0]
    assert held.active(("a", "b"), *frames).tolist() == [[True, True], [False, True], [False, True]]
    # `b` is in the second frame for 0.5 s and for 0.1 s, but never for more than 0.5 s at a stretch
    assert held.active(("a", "b"), *frames, least=0.25).tolist() == [[False, True], [False, True], [False, True]]
    assert held.active(("b",), *frames, least=0.5).tolist() == [[False], [False], [True]]
    assert held.active(("c", "a"), *frames)[0].tolist() == [False, True]
    assert held.active((), *frames).shape == (3, 0)


def test_tags_of_the_whole_have_no_end():
    held = TagSpans.of_whole(["x", "y"])
    assert held.active(("y",), [0.0, 1e6], [1.0, 1e6 + 1], least=0.999).all()
    assert held.shift(2.0).stop.tolist() == [np.inf, np.inf]
    assert held.shift(2.0).start.tolist() == [2.0, 2.0]


def test_stretches_that_overlap_or_touch_are_one_when_merged():
    held = TagSpans([3.0, 0.0, 1.0, 0.5, 0.0, 2.5], [4.0, 1.0, 2.0, 0.7, 9.0, np.inf], ["a", "a", "a", "a", "b", "c"])
    expected = TagSpans([0.0, 0.0, 2.5, 3.0], [2.0, 9.0, np.inf, 4.0], ["a", "b", "c", "a"])
    assert held.merged() == expected
    assert TagSpans.empty().merged() == TagSpans.empty()


@given(spans())
@settings(max_examples=50)
def test_merging_keeps_what_is_borne_and_leaves_gaps_between_stretches(held):
    merged = held.merged()
    for name in NAMES:
        np.testing.assert_array_equal(bearing(merged, name), bearing(held, name))
        mine = merged.tag == name
        assert (merged.start[mine][1:] > merged.stop[mine][:-1]).all()
    assert merged.merged() == merged
    assert sorted(zip(merged.start, merged.tag, strict=True)) == list(zip(merged.start, merged.tag, strict=True))


@given(spans(), st.integers(1, 25), st.integers(0, 12))
@settings(max_examples=50)
def test_active_is_the_longest_run_within_a_frame(held, length, least):
    edges = np.arange(0, 101, length)
    found = held.merged().active(NAMES, edges[:-1] / 100, edges[1:] / 100, least=(least + 0.5) / 100)
    for column, name in enumerate(NAMES):
        sounding = "".join("x" if x else " " for x in bearing(held, name))
        for row, start in enumerate(edges[:-1]):
            longest = max(map(len, sounding[start : start + length].split()), default=0)
            assert found[row, column] == (longest > least), (name, start)


def test_concatenated_and_shifted_stretches_keep_their_tags():
    whole = TagSpans.concatenate([TagSpans([0.0], [1.0], ["a"]), TagSpans.empty(), TagSpans([2.0], [3.0], ["longer"])])
    assert whole.shift(1.5) == TagSpans([1.5, 3.5], [2.5, 4.5], ["a", "longer"])
    assert TagSpans.concatenate([]) == TagSpans.empty()
    assert whole != whole.shift(0.5)
    assert whole != "tags"


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (([0.0, 1.0], [1.0, 1.0], ["a", "b"]), r"tag 1 \(b\): must end after it begins \(start=1.0, stop=1.0\)"),
        (([0.0], [np.nan], ["a"]), r"tag 0 \(a\): must end after it begins"),
        (([-np.inf], [0.0], ["a"]), r"tag 0 \(a\): must end after it begins"),
        (([0.0], [1.0], ["a", "b"]), r"columns of shapes \(1,\), \(1,\) and \(2,\); all must be \(n,\)"),
    ],
)
def test_stretches_that_cannot_be_are_refused(columns, message):
    with pytest.raises(ScoreError, match=message):
        TagSpans(*columns)


def test_heard_tags_are_ranked_by_score_and_then_by_their_order():
    heard = Tags(("a", "b", "c"), np.array([0.2, 0.7, 0.2]), np.zeros(0), np.zeros(0), np.zeros((0, 3)))
    assert heard.ranked() == [("b", 0.7), ("a", 0.2), ("c", 0.2)]
    assert len(heard) == 3


def test_labels_of_a_head_survive_json_and_are_as_many_as_its_classes():
    head = HeadSpec(2, labels=["violin", "cello"])
    spec = ModelSpec(FrameClock(16000, 160), 16000, 100, 0, {"tag": head, "frame": HeadSpec(88, 21)})
    fields = spec.to_dict()
    assert fields["heads"] == {
        "tag": {"num_classes": 2, "first_pitch": 0, "labels": ["violin", "cello"]},
        "frame": {"num_classes": 88, "first_pitch": 21},
    }
    assert ModelSpec.from_dict(fields) == spec
    with pytest.raises(ConfigError, match="a head of 3 classes cannot have 2 labels"):
        HeadSpec(3, labels=("violin", "cello"))
