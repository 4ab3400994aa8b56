"""The MusicNet paper's networks and their successors against sums written out in NumPy, window by window."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view
from scipy import signal

from musicnet_tf.layers import RootMeanSquare, SlidingDense, Windows
from musicnet_tf.registry import MODELS
from musicnet_tf.validation import ConfigError, construct

FAMILIES = {
    "linear_spectrogram": {"points": 256},
    "mlp": {"hidden": 11, "window": 700, "hop_length": 100},
    "waveform_cnn": {"hidden": 11, "window": 700, "receptive_field": 300, "stride": 25, "hop_length": 100},
    "waveform_cnn mean": {"hidden": 11, "window": 700, "receptive_field": 333, "stride": 7, "pooling": "mean"},
    "waveform_cnn max": {"hidden": 11, "window": 700, "receptive_field": 300, "stride": 50, "pooling": "max"},
    "filterbank_mlp": {"hidden": 11, "window": 2048, "filter_length": 1024, "num_filters": 40},
    "translation_invariant": {
        "window": 2048,
        "filter_length": 1024,
        "num_filters": 40,
        "width": 10,
        "layer_2": 5,
        "layer_3": 6,
    },
}


def make(family, **fields):
    return MODELS.get(family.split()[0])(**FAMILIES[family], **fields)


def noise(*shape, seed=0):
    return np.random.default_rng(seed).normal(0, 0.3, shape).astype(np.float32)


def awake(network, seed=0):
    """The network with weights of one size everywhere, where linear layers begin at zero."""
    rng = np.random.default_rng(seed)
    for variable in network.trainable_variables:
        variable.assign(rng.normal(0, 0.1, variable.shape))
    return network


def kernel(network, name):
    return np.asarray(network.get_layer(name).kernel, np.float64)


def unit(window):
    return window / np.sqrt(np.mean(window.astype(np.float64) ** 2))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_stretch_gives_what_its_windows_give_one_by_one(family):
    one, many = make(family), make(family, window_frames=4)
    network = awake(one.build())
    stretch = many.build()
    stretch.set_weights(network.get_weights())
    spec, hop = one.spec(), one.hop_length
    assert many.spec().window_length == spec.window_length + 3 * hop
    assert many.spec().clock == spec.clock
    audio = noise(2, many.spec().window_length)
    together = np.asarray(stretch(audio)["frame"])
    for k in range(4):
        alone = np.asarray(network(audio[:, k * hop : k * hop + spec.window_length])["frame"])
        np.testing.assert_allclose(together[:, k : k + 1], alone, rtol=1e-4, atol=1e-5)
    assert np.ptp(together, axis=1).max() > 1e-3


@pytest.mark.parametrize(("units", "field", "stride", "samples"), [(7, 100, 5, 160), (7, 98, 5, 163), (4, 50, 50, 50)])
def test_sliding_dense_is_a_dense_layer_on_every_region(units, field, stride, samples):
    layer, audio = SlidingDense(units, field, stride), noise(3, samples)
    output = np.asarray(layer(audio))
    regions = sliding_window_view(audio, field, axis=1)[:, ::stride]
    np.testing.assert_allclose(output, regions @ np.asarray(layer.kernel), atol=1e-5)
    assert layer.compute_output_shape((3, samples)) == output.shape
    assert layer.num_regions(samples) == regions.shape[1]


@pytest.mark.parametrize(
    "layer", [SlidingDense(3, 40, 20, "l2"), Windows(40, 20), RootMeanSquare(40, 20)], ids=lambda x: type(x).__name__
)
def test_a_config_makes_the_same_layer_again(layer):
    again = type(layer).from_config(layer.get_config())
    assert again.get_config() == layer.get_config()
    audio = noise(2, 100)
    assert again.compute_output_shape(audio.shape) == tuple(again(audio).shape) == tuple(layer(audio).shape)


def test_the_mlp_written_out():
    network = awake(make("mlp").build())
    window = noise(1, 700)
    expected = np.maximum(0, unit(window) @ kernel(network, "filters")) @ kernel(network, "notes")
    np.testing.assert_allclose(np.asarray(network(window)["frame"])[0], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", ["waveform_cnn", "waveform_cnn mean", "waveform_cnn max"])
def test_the_waveform_cnn_written_out(family):
    model = make(family)
    network = awake(model.build())
    window = noise(1, 700)
    starts = range(0, 700 - model.receptive_field + 1, model.stride)
    assert len(starts) == model.num_regions
    heard = np.stack([unit(window)[0, s : s + model.receptive_field] for s in starts])
    hidden = np.maximum(0, heard @ kernel(network, "filters"))
    notes = kernel(network, "notes")
    expected = {
        "none": lambda: np.einsum("rh,rhn->n", hidden, notes) / model.num_regions,
        "mean": lambda: hidden.mean(axis=0) @ notes,
        "max": lambda: hidden.max(axis=0) @ notes,
    }[model.pooling]()
    np.testing.assert_allclose(np.asarray(network(window)["frame"])[0, 0], expected, rtol=1e-4, atol=1e-5)


def test_regions_and_maps_are_as_many_as_published():
    assert MODELS.get("waveform_cnn")().num_regions == 97
    assert MODELS.get("waveform_cnn")(window=2048, receptive_field=1998, stride=5).num_regions == 11
    network = MODELS.get("translation_invariant")().build()
    assert network.get_layer("layer_2").output.shape == (None, 25, 193, 128)
    assert network.get_layer("layer_3").output.shape == (None, 1, 193, 256)


def test_the_translation_invariant_network_written_out():
    model = make("translation_invariant")
    network = awake(model.build())
    window = noise(1, 2048)
    image = np.asarray(keras.Model(network.input, network.get_layer("layer_2").input)(window), np.float64)[0, :, :, 0]
    layer_2, layer_3 = kernel(network, "layer_2")[0, :, 0], kernel(network, "layer_3")[:, 0]
    assert image.shape == (3, 40)
    along = np.stack([signal.correlate(image, f[None], mode="valid")[:, ::2] for f in layer_2.T], axis=-1)
    over = np.einsum("tfc,tck->fk", np.maximum(0, along), layer_3)
    expected = np.maximum(0, over).ravel() @ kernel(network, "notes")
    np.testing.assert_allclose(np.asarray(network(window)["frame"])[0, 0], expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("family", "power"), [("mlp", 1), ("waveform_cnn", 1), ("waveform_cnn mean", 1), ("linear_spectrogram", 2)]
)
def test_loudness_does_not_count_where_windows_are_normalised(family, power):
    audio = noise(1, make(family).spec().window_length)
    network, raw = awake(make(family).build()), awake(make(family, normalize=False).build())
    loud, soft = (np.asarray(network(gain * audio)["frame"]) for gain in (1.0, 0.1))
    np.testing.assert_allclose(soft, loud, rtol=1e-3, atol=1e-4)
    loud, soft = (np.asarray(raw(gain * audio)["frame"]) for gain in (1.0, 0.1))
    np.testing.assert_allclose(soft, 0.1**power * loud, rtol=1e-3, atol=1e-3)
    assert np.isfinite(network(np.zeros_like(audio))["frame"]).all()


def test_l2_counts_the_filters_and_dropout_leaves_some_out():
    network = awake(make("mlp", l2=0.5, dropout=0.5).build())
    audio = noise(1, 700)
    network(audio)
    assert float(sum(network.losses)) == pytest.approx(0.5 * np.sum(kernel(network, "filters") ** 2), rel=1e-5)
    still = np.asarray(network(audio, training=False)["frame"])
    np.testing.assert_array_equal(still, network(audio, training=False)["frame"])
    assert np.abs(np.asarray(network(audio, training=True)["frame"]) - still).max() > 1e-3


@pytest.mark.parametrize(
    ("name", "fields", "told"),
    [
        ("waveform_cnn", {"receptive_field": 20000}, "receptive_field 20000 is longer than the window"),
        ("translation_invariant", {"hop_length": 500}, "hop_length 500 is no multiple of stride 512"),
    ],
)
def test_geometry_that_does_not_fit_is_refused(name, fields, told):
    with pytest.raises(ConfigError, match=told):
        construct(MODELS.get(name), fields, where="x")
