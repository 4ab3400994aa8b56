"""The signature for whole WAV files: what it gives is what cutting, predicting and stitching outside gives."""

from __future__ import annotations

import contextlib
import functools
import io
import wave

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from musicnet_tf import inference, signatures, windowing
from musicnet_tf.models import HeadSpec, ModelSpec
from musicnet_tf.timebase import FrameClock

pytest_plugins = ["tiny_models"]
RATE, HOP, WINDOW = 16000, 320, 16000
KEPT = 24  # frames of a window without its margins


def pcm(samples: np.ndarray, rate: int = RATE) -> bytes:
    """A WAV of int16 `(samples,)` or `(samples, channels)`."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setparams((1 if samples.ndim == 1 else samples.shape[1], 2, rate, 0, "NONE", ""))
        file.writeframes(samples.astype("<i2").tobytes())
    return buffer.getvalue()


def noise(length: int, *channels: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed + length).integers(-20000, 20000, (length, *channels)).astype(np.int16)


@pytest.fixture(scope="module")
def served(tiny_export):
    """The signature `wav` of an export, of bytes objects."""
    loaded = tf.saved_model.load(str(tiny_export))
    signature = loaded.signatures[inference.WAV_SIGNATURE]

    def call(*recordings: bytes, keep=loaded) -> dict[str, np.ndarray]:
        return {name: values.numpy() for name, values in signature(wav=tf.constant(recordings, tf.string)).items()}

    return call


@pytest.fixture(scope="module")
def local(tiny_run):
    """Head → posteriorgram of int16 samples, without the graph's help."""
    predictor = inference.load(tiny_run)

    def call(samples: np.ndarray) -> dict[str, np.ndarray]:
        mono = (samples / np.float32(32768)).reshape(len(samples), samples[:1].size or 1).mean(axis=1)
        return windowing.posteriorgram(mono, predictor.manifest.geometry, predictor)

    return call


def assert_stitched(found: dict[str, np.ndarray], expected: list[dict[str, np.ndarray]]) -> None:
    lengths = [len(posteriorgram["frame"]) for posteriorgram in expected]
    np.testing.assert_array_equal(found[inference.NUM_FRAMES], lengths)
    assert found[inference.NUM_FRAMES].dtype == np.int32
    for head in expected[0]:
        assert found[head].shape == (len(expected), max(lengths), 88)
        for row, posteriorgram in zip(found[head], expected, strict=True):
            np.testing.assert_allclose(row[: len(posteriorgram[head])], posteriorgram[head], rtol=0, atol=1e-6)
            assert not row[len(posteriorgram[head]) :].any()


EDGES = [1, HOP - 1, HOP, HOP + 1, KEPT * HOP, KEPT * HOP + 1, WINDOW - 1, WINDOW, WINDOW + 1, 3 * WINDOW + 7]


def test_recordings_of_every_length_in_one_batch(served, local):
    recordings = [noise(length) for length in EDGES]
    found = served(*map(pcm, recordings))
    assert_stitched(found, [local(samples) for samples in recordings])
    assert np.ptp(found["frame"][-1]) > 0.01, "two constants would be equal too"


def test_channels_are_averaged_and_neighbours_do_not_matter(served, local):
    stereo, six = noise(20000, 2), noise(9000, 6)
    assert_stitched(served(pcm(six), pcm(stereo)), [local(six), local(stereo)])
    assert_stitched(served(pcm(stereo)), [local(stereo)])
    np.testing.assert_allclose(
        served(pcm(np.stack([stereo[:, 0]] * 2, axis=1)))["onset"], served(pcm(stereo[:, 0]))["onset"], atol=1e-6
    )


def test_no_samples_and_no_recordings_give_no_frames(served, local):
    nothing = np.zeros(0, np.int16)
    assert_stitched(served(pcm(nothing)), [local(nothing)])
    assert_stitched(served(pcm(nothing), pcm(noise(700))), [local(nothing), local(noise(700))])
    outputs = served()
    assert outputs.pop(inference.NUM_FRAMES).shape == (0,)
    assert {values.shape for values in outputs.values()} == {(0, 0, 88)}


@settings(max_examples=10)
@given(st.lists(st.integers(1, 40000), min_size=1, max_size=4), st.integers(1, 3))
def test_any_batch_is_stitched_as_outside(served, local, lengths, channels):
    recordings = [noise(length, channels) for length in lengths]
    assert_stitched(served(*map(pcm, recordings)), [local(samples) for samples in recordings])


@st.composite
def geometries(draw) -> ModelSpec:
    """Of any model whose frames are centred in its window: hops longer than windows, margins or none."""
    hop, margin, kept = draw(st.integers(1, 9)), draw(st.integers(0, 3)), draw(st.integers(1, 5))
    origin = draw(st.integers(-margin * hop, 12))
    last_centre = origin + (margin + kept - 1) * hop
    heads = {"a": HeadSpec(2), "b": HeadSpec(1)}
    window = draw(st.integers(max(0, last_centre) + 1, max(0, last_centre) + 20))
    return ModelSpec(FrameClock(1000, hop, origin), window, 2 * margin + kept, margin, heads)


def positions(xp, windows, spec: ModelSpec):
    """A model that copies samples, each frame others, so that no frame may be taken for another."""
    frames = np.arange(spec.num_frames)
    return {
        name: xp.stack([windows[:, int(at)] for at in (frames * 7 + place) % spec.window_length], axis=1)[..., None]
        * np.arange(1, head.num_classes + 1, dtype=np.float32)
        for place, (name, head) in enumerate(spec.heads.items())
    }


@settings(max_examples=12)
@given(geometries(), st.lists(st.integers(0, 90), min_size=1, max_size=4).filter(any), st.integers(1, 200))
def test_stitching_is_that_of_windowing_for_any_geometry(spec, lengths, samples_per_batch):
    recordings = [noise(length, seed=place) for place, length in enumerate(lengths)]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(windowing, "SAMPLES_PER_BATCH", samples_per_batch)  # so that there are several batches
        wav = tf.constant([pcm(samples, 1000) for samples in recordings], tf.string)
        found = signatures.of_recordings(wav, spec, functools.partial(positions, tf, spec=spec))
        outside = functools.partial(positions, np, spec=spec)
        expected = [windowing.posteriorgram(samples / np.float32(32768), spec, outside) for samples in recordings]
    np.testing.assert_array_equal(found[inference.NUM_FRAMES], [len(each["a"]) for each in expected])
    for name, head in spec.heads.items():
        most = max((len(each[name]) for each in expected), default=0)
        assert found[name].shape == (len(expected), most, head.num_classes)
        for row, each in zip(found[name].numpy(), expected, strict=True):
            np.testing.assert_array_equal(row[: len(each[name])], each[name])
            assert not row[len(each[name]) :].any()


def packed(subtype: str, container: str = "WAV") -> bytes:
    import soundfile

    buffer = io.BytesIO()
    soundfile.write(buffer, np.zeros(100), RATE, format=container, subtype=subtype)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("recordings", "message"),
    [
        ([pcm(noise(100), 44100)], r"takes a WAV of 16000 samples a second; resample this one, which has\] \[44100\]"),
        ([pcm(noise(9)), pcm(noise(100), 8000)], r"which has\] \[8000\]"),
        ([pcm(noise(10, 9))], r"up to 8 channels; mix this one down, which has\] \[9\]"),
        (
            [pcm(np.zeros(600 * RATE + 1))],
            r"9600000 samples a channel, 600 seconds; .*serving_default.*\] \[9600001\]",
        ),
        ([pcm(noise(1))] * 65, r"at most 64 recordings go in one request, got\] \[65\]"),
        ([packed("PCM_24")], "24"),
        ([packed("PCM_16", "FLAC")], r"not a WAV file of 16-bit PCM; its size in bytes is\] \[\d+\]"),
        ([b""], r"not a WAV file of 16-bit PCM; its size in bytes is\] \[0\]"),
        ([pcm(noise(9))[:40]], "too short"),
        ([b"\x80" + pcm(noise(9))[1:]], "not a WAV file"),
    ],
)
def test_what_is_refused_says_why(served, recordings, message):
    with pytest.raises(tf.errors.InvalidArgumentError, match=message) as caught:
        served(*recordings)
    assert ".py" not in str(caught.value), "no line of our code is told to a client"


@pytest.mark.parametrize(
    ("lengths", "message"),
    [
        ([900, 1, 1], r"may have 2000 samples together, 2 seconds; .*\n2700"),
        ([200] * 37, r"a request may hold up to 16000 bytes; send fewer. It holds.*\n16428"),
        ([666] * 3, ""),
    ],
)
def test_a_batch_has_limits_of_its_own(monkeypatch, lengths, message):
    monkeypatch.setattr(inference, "MAX_WAV_SECONDS", 1)
    monkeypatch.setattr(inference, "MAX_WAV_BATCH_SECONDS", 2)
    monkeypatch.setattr(signatures, "_OTHER_BYTES", 0)
    spec = ModelSpec(FrameClock(1000, 5), 20, 4, 0, {"a": HeadSpec(1)})
    wav = tf.constant([pcm(noise(length), 1000) for length in lengths])
    expectation = pytest.raises(tf.errors.InvalidArgumentError, match=message) if message else contextlib.nullcontext()
    with expectation:
        signatures.of_recordings(wav, spec, functools.partial(positions, tf, spec=spec))


def test_the_limits_themselves_are_allowed(served):
    assert served(*[pcm(noise(1, 8))] * 64)[inference.NUM_FRAMES].tolist() == [1] * 64


@settings(max_examples=40)
@given(st.data())
def test_damaged_bytes_are_refused_or_read_and_never_more(data):
    """Of a model that only counts: what matters is what the decoder makes of the header."""
    whole = pcm(noise(50, 2), 1000)
    damaged = bytearray(whole[: data.draw(st.integers(0, len(whole)))])
    for _ in range(data.draw(st.integers(0, 4))):
        if damaged:
            damaged[data.draw(st.integers(0, min(len(damaged), 60) - 1))] = data.draw(st.integers(0, 255))
    spec = ModelSpec(FrameClock(1000, 5), 20, 4, 0, {"a": HeadSpec(1)})
    try:
        found = signatures.of_recordings(
            tf.constant([bytes(damaged)]), spec, functools.partial(positions, tf, spec=spec)
        )
    except tf.errors.InvalidArgumentError:
        return
    assert found["a"].shape[1] == found[inference.NUM_FRAMES][0] <= len(damaged)
