"""One test for all networks: built as configured, shaped as stated, counted as published, stitched as promised."""

from __future__ import annotations

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import ROOT

from musicnet_tf import config
from musicnet_tf.errors import ConfigError
from musicnet_tf.layers import HarmonicShift
from musicnet_tf.models import HeadSpec, ModelSpec
from musicnet_tf.registry import MODELS

# Those that tell events or frames; tests/test_models_tagging.py has those that tag.
NAMES = [name for name in MODELS.names() if "tag" not in MODELS.get(name)().spec().heads]

CONFIGS = sorted([*(ROOT / "configs").glob("*.yaml"), *(ROOT / "configs/paper").glob("*.yaml")])

# Every family once, as small as it goes.
SMALL = {
    "harmonic_cnn": {"channels": 8, "window_frames": 40, "dilations": (1, 2)},
    "linear_spectrogram": {"points": 512},
    "mlp": {"hidden": 20, "window": 512},
    "waveform_cnn": {"hidden": 20, "window": 512, "receptive_field": 320, "stride": 64},
    "filterbank_mlp": {"hidden": 20, "window": 2048, "filter_length": 1024, "num_filters": 64},
    "translation_invariant": {
        "window": 2048,
        "filter_length": 1024,
        "num_filters": 64,
        "width": 16,
        "layer_2": 6,
        "layer_3": 10,
    },
    "onsets_and_frames": {"window_frames": 4, "filters": (4, 4, 6), "dense": 12, "recurrent": 6},
    "high_resolution": {"window_frames": 4, "filters": (4, 6), "dense": 12, "recurrent": 6},
    "basic_pitch": {"window_frames": 4},
    "harmonic_shift": {"window_frames": 4, "front_channels": 2, "channels": 6, "blocks": 1},
    "beat_blstm": {"window_frames": 4, "recurrent": (6, 6)},
    "beat_tcn": {"window_frames": 60, "filters": (4, 4), "channels": 8, "dilations": (1, 2)},
    "note_beat_tcn": {
        "transcriber": {"channels": 8, "dilations": (1,)},
        "window_frames": 60,
        "filters": (8, 8),
        "channels": 16,
        "dilations": (1,),
    },
}

# What these hear of a window has no edge, as they are recurrent or normalise; tests/test_models_transcription.py
# measures how little counts beyond the margins of those that transcribe.
WITHOUT_EDGE = {"onsets_and_frames", "high_resolution", "basic_pitch", "harmonic_shift", "beat_blstm"}

COUNTS = [
    ("harmonic_cnn", {}, 79_271),
    # 3 x 3 from 32 to 16, scale and shift of its normalisation, then 1 x 1 with a bias
    ("harmonic_cnn", {"offset": True}, 79_271 + 9 * 32 * 16 + 2 * 16 + 16 + 1),
    ("linear_spectrogram", {"points": 512}, 65_536),
    ("linear_spectrogram", {"points": 1024}, 131_072),
    ("linear_spectrogram", {"points": 4096}, 524_288),
    ("linear_spectrogram", {"points": 8192}, 1_048_576),
    ("linear_spectrogram", {"points": 1024, "taper": "hann", "spectrum": "log_power"}, 131_072),
    ("linear_spectrogram", {"points": 1024, "spectrum": "relugram"}, 131_072),
    ("mlp", {"hidden": 500, "window": 2048}, 1_088_000),
    ("mlp", {"hidden": 2500, "window": 2048}, 5_440_000),
    ("mlp", {"hidden": 500, "window": 16384}, 8_256_000),
    ("mlp", {"hidden": 500, "window": 2048, "normalize": False}, 1_088_000),
    ("waveform_cnn", {"window": 2048, "receptive_field": 1998, "stride": 5, "pooling": "mean"}, 1_063_000),
    ("waveform_cnn", {}, 11_328_000),
    ("filterbank_mlp", {}, 6_619_136),
    ("filterbank_mlp", {"hidden": 0}, 1_638_400),
    ("translation_invariant", {}, 7_159_808),
    ("onsets_and_frames", {}, 22_600_568),
    (
        "onsets_and_frames",
        {"filters": (32, 32, 64), "dense": 512, "recurrent": 128, "offset": False, "window_frames": 20},
        6_793_280,
    ),
    ("high_resolution", {}, 20_218_778),
    ("basic_pitch", {}, 16_782),
    ("harmonic_shift", {"front_channels": 4, "channels": 16, "blocks": 2}, 26_040),
    ("harmonic_shift", {}, 136_620),
    ("harmonic_shift", {"front_channels": 16, "channels": 64, "blocks": 4}, 678_420),
    ("beat_blstm", {"window_frames": 4}, 59_651),
    ("beat_tcn", {}, 363_254),
    ("note_beat_tcn", {}, 221_394),
]


def make(name, **fields):
    return MODELS.get(name)(**fields)


def noise(*shape):
    return np.random.default_rng(0).normal(0, 0.1, shape).astype(np.float32)


def trainable(network):
    return sum(int(np.prod(v.shape)) for v in network.trainable_variables)


def awake(network):
    """The network, with values that count where layers begin at zero or near it."""
    rng = np.random.default_rng(0)
    for variable in network.trainable_variables:
        if np.abs(variable).max() < 1e-3:
            variable.assign(rng.normal(0, 0.1, variable.shape))
    return network


def assert_shaped(model, network):
    spec = model.spec()
    awake(network)
    outputs = network(noise(2, spec.window_length), training=False)
    assert set(outputs) == set(spec.heads)
    for head, value in outputs.items():
        assert tuple(value.shape) == (2, spec.num_frames, spec.heads[head].num_classes)
        assert value.dtype == "float32"
        assert np.isfinite(value).all()
        assert np.std(value) > 0
    last = spec.clock.frame_to_sample(spec.num_frames - 1)
    assert 0 <= spec.clock.origin <= last < spec.window_length


@functools.cache
def built(name):
    keras.utils.set_random_seed(1)
    model = make(name, **SMALL.get(name, {}))
    return model, awake(model.build())


def frames_of(name):
    return make(name, **SMALL.get(name, {})).spec().num_frames


@pytest.fixture(
    params=[
        # Its twelve recurrent layers take seconds to trace.
        pytest.param(name, marks=pytest.mark.slow) if name == "high_resolution" else name
        for name in NAMES
    ]
)
def small(request):
    """A small model of each family and its network, which a test must not change."""
    return built(request.param)


@pytest.fixture(params=[name for name in NAMES if frames_of(name) > 1 and name not in WITHOUT_EDGE])
def fully(request):
    """Of the families that give many frames a window, those whose receptive field is bounded."""
    return built(request.param)


def test_a_small_one_of_each_family_is_shaped_as_it_says(small):
    assert_shaped(*small)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_the_network_of_every_config(path):
    model = config.load(path).model
    if "window_frames" in type(model).model_fields:  # the weights do not depend on it, the time does
        model = model.model_copy(update={"window_frames": min(model.window_frames, 4)})
    network = model.build()
    assert_shaped(model, network)
    assert network.name == model.name
    if model.name == "harmonic_cnn":
        assert trainable(network) < 1_000_000


@pytest.mark.parametrize(("name", "fields", "count"), COUNTS)
def test_parameters_are_as_many_as_published(name, fields, count):
    model = make(name, **fields)
    assert trainable(model.build()) == count
    assert f"{count:,}" in type(model).__doc__


def test_a_config_makes_the_same_model_again(small):
    model, _ = small
    fields = model.model_dump(mode="json")
    assert fields.pop("name") == model.name
    assert type(model)(**fields) == model
    assert ModelSpec.from_dict(model.spec().to_dict()) == model.spec()


def test_saved_weights_make_the_same_network_again(small, tmp_path):
    model, _ = small
    keras.utils.set_random_seed(1)
    network = awake(model.build())
    audio = noise(2, model.spec().window_length)
    for variable in network.non_trainable_variables:  # running statistics too must travel
        variable.assign(variable + 0.1)
    expected = network(audio, training=False)
    network.save_weights(tmp_path / "a.weights.h5")
    keras.utils.set_random_seed(2)
    other = model.build()
    differing = other(audio, training=False)
    other.load_weights(tmp_path / "a.weights.h5")
    restored = other(audio, training=False)
    for head in expected:
        assert np.abs(differing[head] - expected[head]).max() > 1e-3
        np.testing.assert_array_equal(restored[head], expected[head])


def test_the_seed_decides_the_weights(small):
    model, _ = small
    keras.utils.set_random_seed(7)
    one = model.build().get_weights()
    keras.utils.set_random_seed(7)
    assert all(np.array_equal(a, b) for a, b in zip(one, model.build().get_weights(), strict=True))


@pytest.mark.parametrize("name", [name for name in NAMES if frames_of(name) == 1])
def test_a_network_of_windows_hears_its_midpoint(name):
    model, network = built(name)
    spec = model.spec()
    assert spec.clock.origin == spec.window_length // 2
    assert spec.margin == 0
    audio = noise(1, spec.window_length)
    assert np.abs(network(audio)["frame"] - network(audio[:, ::-1].copy() * 0.5)["frame"]).max() > 1e-6


def _inner(values, first, after):
    return {head: np.asarray(value)[0, first:after] for head, value in values.items()}


def test_beyond_the_margin_no_frame_hears_the_edge(fully):
    """Later by a few hops, the same frames come out, a few frames earlier."""
    model, network = fully
    spec = model.spec()
    shift, frames, margin = 5, spec.num_frames, spec.margin
    assert frames - 2 * margin - shift > 3
    audio = noise(1, spec.window_length + shift * spec.clock.hop_length)
    here = network(audio[:, : spec.window_length])
    there = network(audio[:, -spec.window_length :])
    one, other = _inner(here, margin + shift, frames - margin), _inner(there, margin, frames - margin - shift)
    edge, outer = _inner(here, shift, margin), _inner(there, 0, margin - shift)
    for head in one:
        np.testing.assert_allclose(one[head], other[head], atol=1e-5)
        assert np.abs(edge[head] - outer[head]).max() > 1e-3, "a margin of 0 would do, and this test shows nothing"


def test_what_lies_outside_the_receptive_field_changes_nothing(fully):
    model, network = fully
    spec = model.spec()
    hop, frames, changed = spec.clock.hop_length, spec.num_frames, 4
    audio = noise(1, spec.window_length)
    before = network(audio)
    for side in ("start", "end"):
        other = audio.copy()
        if side == "start":
            other[:, : changed * hop] *= -3
        else:
            other[:, -changed * hop :] *= -3
        after = network(other)
        for head in spec.heads:
            difference = np.abs(after[head] - before[head]).max(axis=(0, 2))
            difference = difference if side == "start" else difference[::-1]
            assert difference[changed + spec.margin :].max() <= 1e-5
            # Not much is given away: frames just inside are indeed reached, but for the taper's faint ends.
            reached = int(np.flatnonzero(difference > 1e-5).max())
            assert changed + spec.margin - 8 <= reached < frames


def test_the_margin_counts_convolutions_and_spectrum():
    model = make("harmonic_cnn")
    # 3 + (1 + 2 + 4 + 8 + 4 + 2) frames of convolutions; half a window of 4096 is 6.4 hops.
    assert model.spec().margin == 3 + 21 + 7
    assert model.spec().heads["onset"] == HeadSpec(88, 21)


def test_harmonic_shift_by_hand():
    x = np.arange(1, 6, dtype=np.float32).reshape(1, 1, 5, 1)
    layer = HarmonicShift((-1, 0, 2))
    output = np.asarray(layer(x))[0, 0]
    assert output[:, 0].tolist() == [0, 1, 2, 3, 4]  # the pitch below
    assert output[:, 1].tolist() == [1, 2, 3, 4, 5]
    assert output[:, 2].tolist() == [3, 4, 5, 0, 0]  # two above
    assert layer.compute_output_shape((None, 7, 5, 1)) == (None, 7, 5, 3)
    assert HarmonicShift.from_config(layer.get_config()).shifts == (-1, 0, 2)
    assert np.asarray(HarmonicShift((-2,))(x))[0, 0, :, 0].tolist() == [0, 0, 1, 2, 3]
    assert np.asarray(HarmonicShift((1, 2))(x))[0, 0].tolist() == [[2, 3], [3, 4], [4, 5], [5, 0], [0, 0]]


def test_frames_look_at_onsets_but_do_not_bend_them():
    network = make("harmonic_cnn", **SMALL["harmonic_cnn"]).build()
    onset = next(layer for layer in network.layers if layer.name == "onset_logits")
    audio = noise(1, 40 * 320)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(network(audio)["frame"])
    assert tape.gradient(loss, onset.trainable_variables) == [None, None]
    before = network(audio)["frame"]
    onset.bias.assign(onset.bias + 3.0)
    assert np.abs(network(audio)["frame"] - before).max() > 1e-4


def test_logits_are_float32_under_a_mixed_policy():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        for name, fields in SMALL.items():
            model = make(name, **fields)
            network = model.build()
            assert_shaped(model, network)
            assert {v.dtype for v in network.trainable_variables} == {"float32"}
    finally:
        keras.config.set_dtype_policy("float32")


@pytest.mark.parametrize(
    ("name", "fields", "key"),
    [
        ("harmonic_cnn", {"hop_length": 0}, "hop_length"),
        ("harmonic_cnn", {"window_lengths": []}, "window_lengths"),
        ("harmonic_cnn", {"dilations": [1, 0]}, "dilations.1"),
        ("linear_spectrogram", {"taper": "hamming"}, "taper"),
        ("linear_spectrogram", {"points": 0}, "points"),
        ("mlp", {"hop_length": -1}, "hop_length"),
        ("mlp", {"dropout": 1.0}, "dropout"),
    ],
)
def test_impossible_geometry_is_refused(name, fields, key):
    with pytest.raises(ConfigError, match=f"^x: key '{key}': "):
        config.construct(MODELS.get(name), fields, where="x")


def test_a_sample_rate_too_low_for_the_spectra_is_refused():
    with pytest.raises(ConfigError, match="Nyquist"):
        make("harmonic_cnn", sample_rate=8000).build()
