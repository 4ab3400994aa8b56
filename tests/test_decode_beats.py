"""The decoder of beats against ideal activations: steady, faster and slower, with gaps, in bars, cut anyhow."""

import itertools

import mir_eval
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from musicnet_tf import decode as decoders
from musicnet_tf.decode.beats import BeatDecoder, BeatDecoding, decode
from musicnet_tf.errors import ConfigError, ModelError
from musicnet_tf.events import UNKNOWN, Beats
from musicnet_tf.models import HeadSpec, ModelSpec
from musicnet_tf.registry import DECODERS
from musicnet_tf.timebase import FrameClock

CLOCKS = {
    100: FrameClock(16000, 160),
    50: FrameClock(16000, 320),
    86: FrameClock(44100, 512),
    31: FrameClock(16000, 512),
}
TARGETS = {"one": (1.0,), "three": (0.5, 1.0, 0.5), "seven": (0.25, 0.5, 0.75, 1.0, 0.75, 0.5, 0.25)}
"""Activations of the frames around a beat: as of a perfect model, with more or less broad targets."""
METHODS = ("dbn", "dbn_online", "peaks", "autocorrelation", "comb")
FIVE_TEMPI = (65, 87, 114, 195, 327)


def activations(times, clock, target="three", end=0.6) -> np.ndarray:
    values = np.zeros((int(clock.time_to_frame(times[-1] + end)), 1), np.float32)
    for frame in np.rint(clock.time_to_frame(times)).astype(int):
        for k, height in enumerate(TARGETS[target], start=-(len(TARGETS[target]) // 2)):
            if 0 <= frame + k < len(values):
                values[frame + k] = max(values[frame + k, 0], height)
    return values


def beat_times(bpm, ramp=1.0, seconds=20.0, start=0.3) -> np.ndarray:
    """From `bpm / ramp` to `bpm * ramp`."""
    count = int(seconds * bpm / 60)
    return start + np.cumsum(60 / (bpm * np.geomspace(1 / ramp, ramp, count)))


def f_measure(times, found: Beats) -> float:
    return mir_eval.beat.f_measure(np.asarray(times), found.time)


def bars(lengths, interval=0.5, start=0.3) -> Beats:
    position = np.concatenate([np.arange(1, length + 1) for length in lengths])
    return Beats(start + interval * np.arange(len(position)), position)


def both_heads(beats: Beats, clock: FrameClock) -> dict[str, np.ndarray]:
    beat = activations(beats.time, clock)
    downbeat = np.zeros_like(beat)
    ones = activations(beats.downbeats, clock)
    downbeat[: len(ones)] = ones[: len(downbeat)]
    return {"beat": beat, "downbeat": downbeat}


def in_pieces(decoder, heads, cuts):
    """Beats and rows, from heads that come in pieces."""
    rows, bounds = [], [0, *sorted(cuts), len(heads["beat"])]
    for start, stop in itertools.pairwise(bounds):
        decoder.push({name: values[start:stop] for name, values in heads.items()})
        rows += decoder.live()
    beats = decoder.finish()
    return beats, rows + decoder.live()


# --- ideal activations


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("frame_rate", CLOCKS)
def test_ideal_activations_at_five_tempi(frame_rate, target):
    for bpm in FIVE_TEMPI:
        times, params = beat_times(bpm), BeatDecoding(max_bpm=max(215, 1.1 * bpm))
        found = decode({"beat": activations(times, CLOCKS[frame_rate], target)}, CLOCKS[frame_rate], params)
        assert f_measure(times, found) == 1.0, bpm
        assert np.abs(found.time - times).max() <= 0.5 / CLOCKS[frame_rate].frame_rate + 1e-9
        assert (found.position == UNKNOWN).all()


@pytest.mark.parametrize("ramp", [np.sqrt(1.2), 1.2, 1 / np.sqrt(1.2), 1 / 1.2])
@pytest.mark.parametrize("frame_rate", [100, 50])
def test_ideal_activations_through_ramps(frame_rate, ramp):
    for bpm in FIVE_TEMPI:
        times, params = beat_times(bpm, ramp), BeatDecoding(min_bpm=50, max_bpm=max(250, 1.25 * bpm))
        found = decode({"beat": activations(times, CLOCKS[frame_rate])}, CLOCKS[frame_rate], params)
        assert f_measure(times, found) == 1.0, bpm


@pytest.mark.parametrize(
    ("frame_rate", "target"), [(100, "one"), (100, "three"), (100, "seven"), (50, "one"), (50, "three")]
)
def test_a_tenth_of_the_beats_may_be_missing(frame_rate, target):
    rng = np.random.default_rng(7)
    for bpm in FIVE_TEMPI:
        times, params = beat_times(bpm), BeatDecoding(max_bpm=max(215, 1.1 * bpm))
        missing = rng.choice(np.arange(1, len(times) - 1), len(times) // 10, replace=False)
        heads = {"beat": activations(np.delete(times, missing), CLOCKS[frame_rate], target)}
        assert f_measure(times, decode(heads, CLOCKS[frame_rate], params)) == 1.0, bpm


@pytest.mark.parametrize("offset", [0.0, 0.003, 0.101, 0.457, 2.9])
def test_beats_may_begin_anywhere(offset):
    times = offset + 0.5 * np.arange(40)
    found = decode({"beat": activations(times, CLOCKS[50])}, CLOCKS[50], BeatDecoding())
    assert len(found) == 40
    assert np.abs(found.time - times).max() <= 0.01 + 1e-9


def test_327_bpm_beyond_the_default_maximum_is_heard_at_half():
    times = beat_times(327)
    found = decode({"beat": activations(times, CLOCKS[100])}, CLOCKS[100], BeatDecoding())
    assert np.median(60 / np.diff(found.time)) == pytest.approx(327 / 2, rel=0.02)


@pytest.mark.parametrize(
    ("method", "least"), [("dbn_online", 0.95), ("peaks", 1.0), ("autocorrelation", 0.95), ("comb", 0.95)]
)
@pytest.mark.parametrize("bpm", [65, 87, 114])
def test_the_other_methods(method, least, bpm):
    times = beat_times(bpm)
    found = decode({"beat": activations(times, CLOCKS[50])}, CLOCKS[50], BeatDecoding(method=method))
    assert f_measure(times, found) >= least


def test_noise_of_a_tenth_changes_nothing():
    times, rng = beat_times(100), np.random.default_rng(3)
    clean = activations(times, CLOCKS[50])
    noisy = np.clip(clean * rng.uniform(0.6, 0.9, clean.shape) + rng.uniform(0, 0.1, clean.shape), 0, 1)
    assert f_measure(times, decode({"beat": noisy}, CLOCKS[50], BeatDecoding(audible=0.2))) == 1.0


@pytest.mark.parametrize("method", METHODS)
def test_silence_has_no_beats(method):
    heads = {"beat": np.zeros((500, 1), np.float32), "downbeat": np.zeros((500, 1), np.float32)}
    assert len(decode(heads, CLOCKS[50], BeatDecoding(method=method))) == 0
    decoder = BeatDecoder(CLOCKS[50], BeatDecoding(method=method))
    assert len(decoder.finish()) == 0  # without any frame


@pytest.mark.parametrize("method", ["dbn", "dbn_online"])
def test_there_are_few_beats_in_silence_around_music(method):
    times = 10 + 0.5 * np.arange(40)
    heads = {"beat": activations(times, CLOCKS[50], end=10)}
    found = decode(heads, CLOCKS[50], BeatDecoding(method=method))
    assert found.time[0] >= 9.9
    assert found.time[-1] <= times[-1] + (0.0 if method == "dbn" else 2 * 0.5) + 0.1


# --- bars


@pytest.mark.parametrize("lengths", [[4] * 12, [3] * 12, [2, *[4] * 12], [*[4] * 8, *[3] * 8, *[4] * 8]])
def test_places_in_bars_of_ideal_activations(lengths):
    truth = bars(lengths)
    found = decode(both_heads(truth, CLOCKS[50]), CLOCKS[50], BeatDecoding())
    assert np.abs(found.time - truth.time).max() <= 0.011
    expected = truth.position.copy()
    expected[: lengths[0] if lengths[0] == 2 else 0] = [3, 4][: 2 if lengths[0] == 2 else 0]  # a pickup ends a bar
    assert found.position.tolist() == expected.tolist()


def test_other_lengths_of_bars_are_named():
    truth = bars([5] * 10)
    params = BeatDecoding(beats_per_bar=(2, 3, 4, 5))
    assert decode(both_heads(truth, CLOCKS[50]), CLOCKS[50], params).position.tolist() == truth.position.tolist()


def test_a_downbeat_that_is_not_heard_is_inferred():
    truth = bars([3] * 12)
    heads = both_heads(truth, CLOCKS[50])
    frame = int(CLOCKS[50].time_to_frame(truth.downbeats[5]))
    heads["downbeat"][frame - 4 : frame + 5] = 0
    assert decode(heads, CLOCKS[50], BeatDecoding()).position.tolist() == truth.position.tolist()


@pytest.mark.parametrize("method", ["peaks", "comb", "autocorrelation"])
def test_other_methods_count_from_each_downbeat(method):
    truth = bars([4, 4, 3, 3, 4, 4, 4, 4, 4, 4])
    heads = both_heads(truth, CLOCKS[50])
    heads["downbeat"][: int(CLOCKS[50].time_to_frame(truth.time[2]))] = 0  # the first bar's is not heard
    found = decode(heads, CLOCKS[50], BeatDecoding(method=method))
    assert found.position.tolist() == [UNKNOWN] * 4 + truth.position[4:].tolist()


def test_the_online_model_finds_bars_after_a_while():
    truth = bars([4] * 20)
    found = decode(both_heads(truth, CLOCKS[50]), CLOCKS[50], BeatDecoding(method="dbn_online"))
    late = found.within(truth.time[40], truth.time[-1] + 0.1)
    assert late.position.tolist() == truth.position[40:].tolist()


# --- piece by piece


@pytest.mark.parametrize("method", METHODS)
@given(seed=st.integers(0, 2**32 - 1), cuts=st.lists(st.integers(0, 900), max_size=6))
@settings(max_examples=6, deadline=None)
def test_however_frames_are_cut(method, seed, cuts):
    rng = np.random.default_rng(seed)
    truth = bars([4] * 8, interval=rng.uniform(0.3, 0.6))
    heads = both_heads(truth, CLOCKS[50])
    heads = {
        k: np.clip(v * rng.uniform(0.3, 1, v.shape) + rng.uniform(0, 0.3, v.shape), 0, 1) for k, v in heads.items()
    }
    cuts = [min(cut, len(heads["beat"])) for cut in cuts]
    params = BeatDecoding(method=method)
    whole = decode(heads, CLOCKS[50], params)
    beats, rows = in_pieces(BeatDecoder(CLOCKS[50], params, downbeats=True), heads, cuts)
    assert beats == whole
    assert [row["time"] for row in rows] == whole.time.tolist()
    assert [row.get("position", UNKNOWN) for row in rows] == whole.position.tolist()
    assert {row["event"] for row in rows} <= {"beat"}


@pytest.mark.parametrize("method", ["dbn_online", "peaks"])
@pytest.mark.parametrize("frame_rate", CLOCKS)
def test_rows_come_within_the_look_ahead(method, frame_rate):
    clock, rng = CLOCKS[frame_rate], np.random.default_rng(0)
    values = activations(beat_times(70, 1.3), clock)
    values = np.clip(values * rng.uniform(0.2, 1, values.shape) + rng.uniform(0, 0.3, values.shape), 0, 1)
    decoder = BeatDecoder(clock, BeatDecoding(method=method, threshold=0.3))
    waited = []
    for frame in range(len(values)):
        decoder.push({"beat": values[frame : frame + 1]})
        waited += [clock.frame_to_time(frame) - row["time"] for row in decoder.live()]
    assert waited
    assert max(waited) <= decoder.look_ahead


def test_the_path_is_told_long_before_the_end():
    values = activations(beat_times(100, seconds=60), CLOCKS[50])
    rng = np.random.default_rng(0)  # of no two ways equally good
    values = values * rng.uniform(0.6, 0.9, values.shape) + rng.uniform(0, 0.1, values.shape)
    decoder = BeatDecoder(CLOCKS[50], BeatDecoding())
    assert decoder.look_ahead is None
    told = []
    for piece in np.array_split(values, 300):
        decoder.push({"beat": piece})
        told += [row["time"] for row in decoder.live()]
    assert len(told) > 80
    assert told == decoder.finish().time[: len(told)].tolist()


# --- the decoder's place in the house


def spec(clock=CLOCKS[50], heads=("beat", "downbeat")) -> ModelSpec:
    return ModelSpec(clock, 16000, 50, 0, {name: HeadSpec(1) for name in heads})


@pytest.mark.parametrize("heads", [("beat",), ("beat", "downbeat")])
def test_it_is_started_as_the_model_tells(heads):
    assert DECODERS.get("beats") is BeatDecoding
    truth = bars([3] * 12)
    decoder = BeatDecoding().start(spec(heads=heads))
    decoder.push(both_heads(truth, CLOCKS[50]))
    assert (decoder.finish().position != UNKNOWN).all() == ("downbeat" in heads)


def test_parameters_are_checked():
    manifest = type("M", (), {"task": "beats", "name": "m", "geometry": spec(), "decoder": {"min_bpm": 60}})()
    assert decoders.decoding_of(manifest, max_bpm=300) == BeatDecoding(min_bpm=60, max_bpm=300)
    with pytest.raises(ConfigError, match=r"max_bpm=50: .*must not be below min_bpm=60"):
        decoders.decoding_of(manifest, max_bpm=50)
    with pytest.raises(ConfigError, match=r"beats_per_bar=\(3, 3\): .*each once"):
        decoders.decoding_of(manifest, beats_per_bar=(3, 3))
    with pytest.raises(ConfigError, match="fewer lengths of bars"):
        BeatDecoding(beats_per_bar=tuple(range(1, 33)), min_bpm=10, max_bpm=400).start(spec(CLOCKS[100]))
    with pytest.raises(ConfigError, match="choose at most"):
        BeatDecoding().start(spec(FrameClock(16000, 16000)))


@pytest.mark.parametrize(
    ("heads", "said"),
    [
        ({"frame": np.zeros((5, 88))}, "beats need a head 'beat', the model gives frame"),
        ({"beat": np.zeros((5, 1))}, "beats need a head 'downbeat'"),
        ({"beat": np.zeros((5, 1)), "downbeat": np.zeros((5, 2))}, r"head 'downbeat' has shape \(5, 2\)"),
        ({"beat": np.zeros((5, 1)), "downbeat": np.zeros((4, 1))}, "heads beat and downbeat have 5 and 4 frames"),
        ({"beat": np.full((5, 1), np.nan), "downbeat": np.zeros((5, 1))}, "'beat' holds activations that are not"),
    ],
)
def test_heads_that_do_not_fit(heads, said):
    decoder = BeatDecoder(CLOCKS[50], BeatDecoding(), downbeats=True)
    with pytest.raises(ModelError, match=said):
        decoder.push(heads)
