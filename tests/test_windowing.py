"""Windowing against a model in NumPy whose receptive field is known."""

import dataclasses
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from musicnet_tf import windowing
from musicnet_tf.errors import AudioError, ModelError
from musicnet_tf.models import HeadSpec, ModelSpec
from musicnet_tf.timebase import FrameClock

HOP = 16
KERNEL = 64  # samples that one feature sees, from 32 before its centre to 31 after
CONTEXT = 5  # features that one output sees
RNG = np.random.default_rng(5)
FILTERS = RNG.normal(size=(KERNEL, 6)).astype(np.float32) / KERNEL
MIXING = RNG.normal(size=(CONTEXT, 6, 3)).astype(np.float32)
BIAS = np.float32(0.3)  # so that zeros beyond the features are not the features of silence
MARGIN = CONTEXT // 2 + KERNEL // 2 // HOP


def convolve(windows: np.ndarray, origin: int, num_frames: int) -> np.ndarray:
    """Two layers with zeros beyond their input, as `padding="same"` has them, and a sigmoid."""
    left = max(0, KERNEL // 2 - origin)
    right = max(0, origin + (num_frames - 1) * HOP + KERNEL // 2 - windows.shape[1])
    padded = np.pad(windows, ((0, 0), (left, right)))
    first = origin - KERNEL // 2 + left
    starts = first + HOP * np.arange(num_frames)
    frames = padded[:, starts[:, None] + np.arange(KERNEL)]
    features = np.pad(np.maximum(frames @ FILTERS + BIAS, 0), ((0, 0), (CONTEXT // 2, CONTEXT // 2), (0, 0)))
    logits = sum(features[:, i : i + num_frames] @ MIXING[i] for i in range(CONTEXT))
    return 1 / (1 + np.exp(-logits))


def convolutional_spec(num_frames: int = 24, origin: int = 0, margin: int = MARGIN) -> ModelSpec:
    clock = FrameClock(8000, HOP, origin)
    return ModelSpec(clock, num_frames * HOP + origin, num_frames, margin, {"frame": HeadSpec(3)})


def predictor(spec: ModelSpec):
    def predict(windows: np.ndarray) -> dict[str, np.ndarray]:
        assert windows.dtype == np.float32 and windows.shape[1] == spec.window_length
        return {"frame": convolve(windows, spec.clock.origin, spec.num_frames)}

    return predict


def one_pass(audio: np.ndarray, origin: int) -> np.ndarray:
    """The same network over the whole recording at once, with silence before and after."""
    num_frames = -(-len(audio) // HOP)
    before = origin + MARGIN * HOP
    padded = np.concatenate([np.zeros(before), audio, np.zeros(2 * MARGIN * HOP + KERNEL)]).astype(np.float32)
    return convolve(padded[None], origin, num_frames + 2 * MARGIN)[0, MARGIN:-MARGIN]


@pytest.mark.parametrize("origin", [0, 8, 40])
@pytest.mark.parametrize("length", [1, 15, 16, 17, 383, 384, 5000])
def test_stitched_windows_equal_one_pass(length: int, origin: int) -> None:
    audio = RNG.normal(size=length).astype(np.float32)
    spec = convolutional_spec(origin=origin)
    stitched = windowing.posteriorgram(audio, spec, predictor(spec), batch_size=3)["frame"]
    assert len(stitched) == windowing.recording_clock(spec).num_frames(length)
    np.testing.assert_allclose(stitched, one_pass(audio, origin), atol=1e-5)


def test_too_small_a_margin_would_be_noticed() -> None:
    """The test above can fail: with one frame less than the receptive field needs, it does."""
    audio = RNG.normal(size=5000).astype(np.float32)
    spec = convolutional_spec(margin=1)
    stitched = windowing.posteriorgram(audio, spec, predictor(spec))["frame"]
    assert np.abs(stitched - one_pass(audio, 0)).max() > 1e-2


@settings(max_examples=60, deadline=None)
@given(sizes=st.lists(st.integers(0, 700), max_size=12), batch_size=st.integers(1, 9), origin=st.sampled_from([0, 8]))
def test_any_blocks_and_batches_give_the_same(sizes: list[int], batch_size: int, origin: int) -> None:
    audio = np.random.default_rng(sum(sizes)).normal(size=sum(sizes)).astype(np.float32)
    spec = convolutional_spec(origin=origin)
    blocks = np.split(audio, np.cumsum(sizes)[:-1]) if sizes else []
    chunks = list(windowing.posteriorgrams(blocks, spec, predictor(spec), batch_size))
    got = np.concatenate([c["frame"] for c in chunks]) if chunks else np.zeros((0, 3))
    whole = windowing.posteriorgram(audio, spec, predictor(spec), batch_size=2)["frame"]
    assert got.shape == whole.shape == (-(-len(audio) // HOP), 3)
    np.testing.assert_allclose(got, whole, atol=1e-6)
    assert all(0 < len(c["frame"]) <= batch_size * (spec.num_frames - 2 * MARGIN) for c in chunks)


@settings(max_examples=40, deadline=None)
@given(length=st.integers(1, 3000), kept=st.integers(1, 24 - 2 * MARGIN), batch_size=st.integers(1, 5))
def test_keeping_fewer_frames_of_a_window_gives_the_same(length: int, kept: int, batch_size: int) -> None:
    audio = np.random.default_rng(length).normal(size=length).astype(np.float32)
    spec = convolutional_spec(origin=8)
    chunks = list(windowing.posteriorgrams([audio], spec, predictor(spec), batch_size, kept))
    np.testing.assert_allclose(np.concatenate([c["frame"] for c in chunks]), one_pass(audio, 8), atol=1e-5)
    assert all(len(c["frame"]) <= kept * batch_size for c in chunks)


def test_a_frame_is_given_as_soon_as_its_right_context_was_heard() -> None:
    spec, heard = convolutional_spec(), 0

    def blocks():
        nonlocal heard
        for _ in range(2000):
            heard += 1
            yield np.ones(1, np.float32)

    for count, _ in enumerate(windowing.posteriorgrams(blocks(), spec, predictor(spec), batch_size=1, kept=2), 1):
        if heard < 2000:
            assert heard == (2 * count + MARGIN) * HOP


def test_a_predictor_with_a_map_is_handed_all_batches_and_may_run_ahead() -> None:
    spec, log = convolutional_spec(), []

    class TwoAhead:
        def map(self, batches):
            taken = []
            for batch in batches:
                log.append("taken")
                taken.append(batch)
                if len(taken) > 2:
                    yield predictor(spec)(taken.pop(0))
            yield from map(predictor(spec), taken)

    audio = RNG.normal(size=3000).astype(np.float32)
    chunks = []
    for chunk in windowing.posteriorgrams([audio], spec, TwoAhead(), batch_size=1):
        log.append("given")
        chunks.append(chunk["frame"])
    assert log[:6] == ["taken", "taken", "taken", "given", "taken", "given"]
    np.testing.assert_allclose(np.concatenate(chunks), one_pass(audio, 0), atol=1e-5)


@pytest.mark.parametrize("batch_size", [1, 7, None])
def test_single_frame_windows_are_centred(batch_size: int | None) -> None:
    """A paper model sees 2,048 samples round one instant: frame k must be centred on sample 512 k."""
    spec = ModelSpec(FrameClock(44100, 512, 1024), 2048, 1, 0, {"frame": HeadSpec(1)})
    audio = np.zeros(10_000, np.float32)
    audio[[0, 512 * 7, 9_999]] = [1, 2, 3]

    def centre_of_gravity(windows: np.ndarray) -> dict[str, np.ndarray]:
        position = (np.abs(windows) * np.arange(-1024, 1024)).sum(1) / np.maximum(np.abs(windows).sum(1), 1e-9)
        return {"frame": position[:, None, None]}

    offset = windowing.posteriorgram(audio, spec, centre_of_gravity, batch_size)["frame"][:, 0]
    assert len(offset) == 20  # centres 0, 512, … 9,728
    np.testing.assert_allclose(offset[:3], [0, -512, -1024], atol=1e-3)
    np.testing.assert_allclose(offset[6:9], [512, 0, -512], atol=1e-3)
    assert offset[19] == 9_999 - 19 * 512


def test_windows_shorter_than_their_distance() -> None:
    spec = ModelSpec(FrameClock(8000, 100, 10), 20, 1, 0, {"frame": HeadSpec(1)})
    audio = np.arange(950, dtype=np.float32)
    blocks = np.split(audio, [3, 401, 402, 777])
    chunks = windowing.posteriorgrams(blocks, spec, lambda w: {"frame": w[:, 10:11, None]}, batch_size=2)
    assert np.concatenate([c["frame"] for c in chunks])[:, 0].tolist() == [100.0 * k for k in range(10)]


def test_memory_does_not_grow_with_the_recording() -> None:
    spec = ModelSpec(FrameClock(16000, 512, 1024), 2048, 1, 0, {"frame": HeadSpec(1)})
    block = np.ones(16_000, np.float32)

    def peak(num_blocks: int) -> int:
        tracemalloc.start()
        for chunk in windowing.posteriorgrams(
            (block for _ in range(num_blocks)), spec, lambda w: {"frame": w[:, :1, None]}, 64
        ):
            assert chunk["frame"].shape[1] == 1
        highest = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return highest

    assert peak(1000) < 1.1 * peak(100)


def test_what_does_not_fit_is_refused() -> None:
    spec = convolutional_spec()
    audio = np.zeros(1000, np.float32)
    with pytest.raises(AudioError, match=r"mono.*\(2, 500\)"):
        list(windowing.posteriorgrams([audio.reshape(2, 500)], spec, predictor(spec)))
    with pytest.raises(ModelError, match="no head 'frame', only onset"):
        windowing.posteriorgram(audio, spec, lambda w: {"onset": w})
    with pytest.raises(ModelError, match=r"shape \(\d, 23, 3\).*promises \(\d, 24, 3\)"):
        windowing.posteriorgram(audio, spec, lambda w: {"frame": predictor(spec)(w)["frame"][:, 1:]})
    with pytest.raises(ModelError, match=f"cannot keep 99 frames .* there are {24 - 2 * MARGIN}"):
        list(windowing.posteriorgrams([audio], spec, predictor(spec), kept=99))
    with pytest.raises(ModelError, match="margin of 12 frames"):
        windowing.posteriorgram(audio, dataclasses.replace(spec, margin=12), predictor(spec))
