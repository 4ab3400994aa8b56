"""The decoder of tags against scores computed by hand, and cut anyhow; and where chunks lie in a recording."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from musicnet_tf import decode as decoders
from musicnet_tf import windowing
from musicnet_tf.decode.heard_tags import short
from musicnet_tf.decode.tags import TagDecoding, decode, names_of
from musicnet_tf.errors import ConfigError, ModelError
from musicnet_tf.events import TagSpans
from musicnet_tf.manifest import Manifest
from musicnet_tf.models import HeadSpec, ModelSpec
from musicnet_tf.registry import DECODERS
from musicnet_tf.timebase import FrameClock

RATE, HOP = 1000, 500
NAMES = ("cello", "flute", "piano")


def spec(frames=1, hop=HOP, labels=NAMES, features=0) -> ModelSpec:
    """Of a model that hears chunks of so many frames."""
    heads = {"tag": HeadSpec(3, labels=labels)} | ({"embedding": HeadSpec(features)} if features else {})
    return ModelSpec(FrameClock(RATE, hop, hop // 2), frames * hop, frames, 0, heads)


def sigmoid(x):
    return 1 / (1 + np.exp(-np.asarray(x, np.float64)))


LOGITS = np.array([[2.0, -1.0, 0.0], [4.0, 1.0, -3.0], [0.0, -3.0, -3.0], [-2.0, -1.0, -2.0]])
HEADS = {"tag": sigmoid(LOGITS).astype(np.float32)}
FOURTHS = {"tag": np.array([[0.9, 0.5, 0.1], [0.7, 0.25, 0.1], [0.4, 0.75, 0.0], [0.0, 0.5, 0.2]])}


def scores(heads=HEADS, duration=None, **params) -> list[float]:
    return decode(heads, spec(), TagDecoding(**params), duration).scores.tolist()


# --- chunks → recording


def test_the_mean_of_probabilities_by_hand():
    assert scores(FOURTHS) == pytest.approx([0.5, 0.5, 0.1])


def test_the_mean_of_logits_by_hand():
    # (2 + 4 + 0 - 2) / 4 = 1; (-1 + 1 - 3 - 1) / 4 = -1; (0 - 3 - 3 - 2) / 4 = -2
    assert scores(of="logits") == pytest.approx([0.7310586, 0.2689414, 0.1192029], abs=1e-6)


@pytest.mark.parametrize("of", ["probabilities", "logits"])
def test_the_maximum_by_hand(of):
    assert scores(FOURTHS, aggregate="max", of=of) == pytest.approx([0.9, 0.75, 0.2], abs=1e-6)


def test_votes_by_hand():
    assert scores(FOURTHS, aggregate="vote") == [0.5, 0.75, 0.0]
    assert scores(FOURTHS, aggregate="vote", threshold=0.4) == [0.75, 0.75, 0.0]
    assert scores(FOURTHS, aggregate="vote", thresholds={"piano": 0.1, "cello": 0.95}) == [0.0, 0.75, 0.75]


EXCLUSIVE = {"tag": np.array([[0.6, 0.3, 0.1], [0.5, 0.1, 0.4], [0.1, 0.2, 0.7]])}


def test_tags_that_exclude_one_another_by_hand():
    assert scores(EXCLUSIVE, exclusive=True) == pytest.approx([0.4, 0.2, 0.4])
    assert scores(EXCLUSIVE, exclusive=True, aggregate="vote") == pytest.approx([2 / 3, 0.0, 1 / 3])
    geometric = np.cbrt([0.6 * 0.5 * 0.1, 0.3 * 0.1 * 0.2, 0.1 * 0.4 * 0.7])
    assert scores(EXCLUSIVE, exclusive=True, of="logits") == pytest.approx((geometric / geometric.sum()).tolist())
    tags = decode(EXCLUSIVE, spec(), TagDecoding(exclusive=True, threshold=0.9))
    assert tags.active.tolist() == [[True, False, False], [True, False, False], [False, False, True]]
    assert tags.present.tolist() == [True, False, False], "one of two that are equal, whatever the threshold"


def test_softmax_logits_are_averaged_as_they_came_from_the_network():
    logits = np.random.default_rng(3).normal(0, 3, (5, 3))
    softmax = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    mean = np.exp(logits.mean(axis=0)) / np.exp(logits.mean(axis=0)).sum()
    assert scores({"tag": softmax}, exclusive=True, of="logits") == pytest.approx(mean.tolist(), rel=1e-5)


def test_certainty_has_a_finite_logit():
    certain = {"tag": np.array([[1.0, 0.0, 0.5], [0.0, 0.0, 0.5]])}
    assert scores(certain, of="logits") == pytest.approx([0.5, 0.0, 0.5], abs=1e-6)


def test_the_last_chunk_counts_by_what_of_it_is_recording():
    tags = decode(FOURTHS, spec(), TagDecoding(), duration=1.6)  # the last of four half seconds has a tenth
    weights = np.array([1, 1, 1, 0.2]) / 3.2
    np.testing.assert_allclose(tags.scores, weights @ FOURTHS["tag"], rtol=1e-6)
    assert tags.stop.tolist() == [0.5, 1.0, 1.5, 1.6]
    assert scores(FOURTHS, 1.6, aggregate="vote")[1] == pytest.approx((1 + 1 + 0.2) / 3.2)
    assert scores(FOURTHS, 1.6, aggregate="max") == scores(FOURTHS, aggregate="max")
    assert scores(FOURTHS, 2.0) == scores(FOURTHS)


def test_a_recording_shorter_than_a_chunk_is_that_chunk():
    one = {"tag": FOURTHS["tag"][:1]}
    tags = decode(one, spec(), TagDecoding(), duration=0.001)
    assert tags.scores.tolist() == tags.timeline[0].tolist()
    assert (tags.start.tolist(), tags.stop.tolist()) == ([0.0], [0.001])


# --- which are borne, and when


def test_what_the_recording_bears_and_when():
    params = TagDecoding(threshold=0.45, thresholds={"piano": 0.15})
    tags = decode(FOURTHS, spec(), params, duration=1.75)
    assert tags.borne() == {"cello", "flute"} and params.count(tags) == 2  # of piano, 0.3 / 3.5 is less than 0.15
    assert tags.spans() == TagSpans([0.0, 0.0, 1.0, 1.5], [1.0, 0.5, 1.75, 1.75], ["cello", "flute", "flute", "piano"])


def test_what_was_heard_beyond_the_end_bears_nothing():
    tags = decode(FOURTHS, spec(), TagDecoding(), duration=0.75)
    assert tags.scores.tolist() == pytest.approx([(0.9 + 0.35) / 1.5, (0.5 + 0.125) / 1.5, 0.1])
    assert tags.spans() == TagSpans([0.0, 0.0], [0.75, 0.5], ["cello", "flute"])


def test_the_line_tells_what_is_borne_or_what_is_likeliest():
    params = TagDecoding()
    assert params.details(decode({"tag": [[0.71, 0.2, 0.983]]}, spec(), params)) == "; piano .98, cello .71"
    assert params.details(decode({"tag": [[0.3, 0.2, 0.1]]}, spec(), params)) == "; most likely cello .30"
    seven = ModelSpec(FrameClock(RATE, HOP, HOP // 2), HOP, 1, 0, {"tag": HeadSpec(7)})
    told = params.details(decode({"tag": [[0.9] * 6 + [0.999]]}, seven, params))
    assert told == "; tag 6 1.00, tag 0 .90, tag 1 .90, tag 2 .90, tag 3 .90 and 2 more"
    assert TagDecoding(top=6).details(decode({"tag": [[0.9] * 7]}, seven, TagDecoding(top=6))).count(",") == 5
    assert [short(0.0), short(0.005), short(0.996)] == [".00", ".01", "1.00"]


def test_top_keeps_the_highest_in_the_order_of_the_labels():
    tags = decode(FOURTHS, spec(), TagDecoding(top=2, aggregate="max"))
    assert tags.names == ("cello", "flute")
    np.testing.assert_array_equal(tags.timeline, np.float32(FOURTHS["tag"][:, :2]))
    assert [tag for tag, _ in tags.ranked()] == ["cello", "flute"]
    late = {"tag": np.array([[0.6, 0.5, 0.1], [0.2, 0.5, 0.1]])}
    assert decode(late, spec(), TagDecoding(top=1)).names == ("flute",)
    assert decode(late, spec(), TagDecoding(top=1), duration=0.6).names == ("cello",), "the last counts for little"
    assert len(decode(FOURTHS, spec(), TagDecoding(top=9)).names) == 3


def test_tags_without_labels_are_numbered():
    assert names_of(spec(labels=())) == ("tag 0", "tag 1", "tag 2")


def test_nothing_heard_bears_nothing():
    for params in (TagDecoding(threshold=0.0), TagDecoding(exclusive=True), TagDecoding(aggregate="max", of="logits")):
        tags = params.start(spec()).finish()
        assert tags.scores.tolist() == [0.0, 0.0, 0.0]
        assert tags.borne() == set() and len(tags.spans()) == 0 and tags.timeline.shape == (0, 3)


# --- in pieces


@st.composite
def heard(draw):
    frames = draw(st.integers(1, 12))
    unit = st.floats(0, 1, width=32)
    rows = draw(st.lists(st.lists(unit, min_size=3, max_size=3), min_size=frames, max_size=frames))
    cuts = sorted(draw(st.lists(st.integers(0, frames), max_size=4)))
    return np.array(rows, np.float32), [0, *cuts, frames]


PARAMS = st.builds(
    TagDecoding,
    aggregate=st.sampled_from(["mean", "max", "vote"]),
    of=st.sampled_from(["probabilities", "logits"]),
    exclusive=st.booleans(),
    threshold=st.floats(0.01, 1),
)


@given(heard(), PARAMS)
def test_pieces_give_what_the_whole_gives(cut, params):
    values, bounds = cut
    heads = {"tag": values, "embedding": 10 * values[:, :2]}
    whole = decode(heads, spec(features=2), params)
    decoder, rows = params.start(spec(features=2)), []
    for start, stop in itertools.pairwise(bounds):
        decoder.push({name: part[start:stop] for name, part in heads.items()})
        rows += decoder.live()
    tags = decoder.finish()
    for name in ("scores", "timeline", "start", "stop", "embedding", "present", "active"):
        assert np.array_equal(getattr(tags, name), getattr(whole, name)), name
    assert np.all((tags.scores >= 0) & (tags.scores <= 1 + 1e-9))
    borne = {tag: [row["event"] for row in rows if row["tag"] == tag] for tag in NAMES}
    for tag, active in zip(NAMES, whole.active.T, strict=True):
        begins = int(np.sum(active & ~np.append(False, active[:-1])))
        assert borne[tag] == (["begin", "end"] * begins)[: 2 * begins - int(active[-1])]


def test_rows_tell_of_changes_alone():
    decoder = TagDecoding().start(spec())
    decoder.push({"tag": FOURTHS["tag"][:3]})
    assert decoder.live() == [
        {"event": "begin", "time": 0.0, "tag": "cello", "score": pytest.approx(0.9)},
        {"event": "begin", "time": 0.0, "tag": "flute", "score": 0.5},
        {"event": "end", "time": 0.5, "tag": "flute", "score": 0.25},
        {"event": "end", "time": 1.0, "tag": "cello", "score": pytest.approx(0.4)},
        {"event": "begin", "time": 1.0, "tag": "flute", "score": 0.75},
    ]
    decoder.push({"tag": FOURTHS["tag"][3:]})
    assert decoder.live() == []
    assert decoder.look_ahead == 0.25


# --- what is refused


@pytest.mark.parametrize(
    ("heads", "message"),
    [
        ({"frame": np.zeros((2, 3))}, "tags need a head 'tag', the model gives frame"),
        ({"tag": np.zeros((2, 4))}, r"head 'tag' has shape \(2, 4\), expected \(2, 3\)"),
        ({"tag": np.zeros(3)}, "head 'tag' has shape"),
        ({"tag": np.zeros((2, 3)), "embedding": np.zeros((1, 5))}, r"head 'embedding' has shape \(1, 5\)"),
        ({"tag": np.full((2, 3), np.nan)}, "head 'tag' holds what is not a finite number"),
        ({"tag": np.zeros((2, 3)), "embedding": np.full((2, 1), np.inf)}, "head 'embedding' holds what is not"),
    ],
)
def test_a_damaged_model_is_refused(heads, message):
    with pytest.raises(ModelError, match=message):
        decode(heads, spec(), TagDecoding())


def test_heads_stay_the_same_within_a_recording():
    decoder = TagDecoding().start(spec())
    decoder.push({"tag": FOURTHS["tag"], "embedding": np.zeros((4, 2))})
    with pytest.raises(ModelError, match="heads changed from tag, embedding to tag"):
        decoder.push(FOURTHS)


def test_parameters_come_from_the_manifest_and_are_checked():
    params = {"aggregate": "vote", "thresholds": {"piano": 0.25}}
    manifest = Manifest(name="m", task="tags", spec=spec().to_dict(), decoder=params)
    assert decoders.decoding_of(manifest, top=2, of=None) == TagDecoding(**params, top=2)
    assert DECODERS.get("tags") is TagDecoding
    with pytest.raises(ConfigError, match="aggregate=median: "):
        decoders.decoding_of(manifest, aggregate="median")
    with pytest.raises(
        ConfigError, match="thresholds: the model tells no tag 'pianos', did you mean 'piano'\\?; it tells c"
    ):
        TagDecoding(thresholds={"pianos": 0.5}).start(spec())


# --- where chunks lie in a recording


def loudness(frames: int, hop: int):
    """A model whose tags are the means of the samples of each frame's own stretch."""

    def predict(windows: np.ndarray) -> dict[str, np.ndarray]:
        means = windows[:, : frames * hop].reshape(len(windows), frames, hop).mean(axis=2)
        return {"tag": np.stack([means, means / 2, means / 4], axis=2)}

    return predict


@given(st.integers(1, 4000), st.integers(1, 4), st.sampled_from([100, 499, 500]), st.integers(1, 5))
def test_stretches_lie_side_by_side_from_the_first_sample_on(samples, frames, hop, batch_size):
    audio = np.random.default_rng(samples).uniform(0, 1, samples).astype(np.float32)
    geometry = spec(frames, hop)
    heads = windowing.posteriorgram(audio, geometry, loudness(frames, hop), batch_size)
    padded = np.pad(audio, (0, -samples % hop)).reshape(-1, hop)
    np.testing.assert_allclose(heads["tag"][:, 0], padded.mean(axis=1), rtol=1e-5)
    tags = decode(heads, geometry, TagDecoding(), samples / RATE)
    assert tags.start.tolist() == pytest.approx((np.arange(len(padded)) * hop / RATE).tolist())
    assert tags.stop.tolist() == pytest.approx([*tags.start[1:].tolist(), samples / RATE])
    centres = windowing.recording_clock(geometry).times(len(padded))
    assert np.all((centres >= tags.start) & (centres < tags.start + hop / RATE))


def test_stretches_that_are_heard_one_by_one_are_the_same():
    audio = np.arange(3300, dtype=np.float32) / 3300
    whole = windowing.posteriorgram(audio, spec(4), loudness(4, HOP))["tag"]
    for kept in (1, 2, 3):
        parts = list(windowing.posteriorgrams([audio], spec(4), loudness(4, HOP), kept=kept))
        np.testing.assert_array_equal(np.concatenate([part["tag"] for part in parts]), whole)
