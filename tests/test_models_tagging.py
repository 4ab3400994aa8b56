"""The taggers: counted by hand and on the published sheet, shaped as told, differentiable, saved and loaded alike."""

from __future__ import annotations

import functools
import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from small_taggers import SMALL, make, noise, small
from tagging_counts import BY_HAND

from musicnet_tf import config
from musicnet_tf.errors import ConfigError
from musicnet_tf.models import HeadSpec, ModelSpec
from musicnet_tf.models.tagging.tagger import EMBEDDING, Tagger
from musicnet_tf.registry import MODELS

# What is published, or computed layer by layer from the authors' code; see the families' docstrings.
PUBLISHED = [
    ("audio_spectrogram_transformer", {"num_tags": 527}, 86_594_063),
    ("crnn", {}, 394_100),
    ("fcn", {}, 447_732),
    ("harmonic_filter_cnn", {}, 3_631_551),
    ("hts_at", {"num_tags": 527}, 29_963_431),
    ("instrument_cnn", {}, 982_635),
    ("music_tagging_transformer", {}, 4_567_732),
    ("musicnn", {"back": 512, "dense": 500}, 7_972_000),
    ("musicnn", {}, 784_300),
    ("panns_cnn10", {"num_tags": 527}, 5_219_279),
    ("panns_cnn14", {"num_tags": 527}, 80_753_615),
    ("panns_cnn6", {"num_tags": 527}, 4_837_455),
    ("sample_cnn", {}, 1_869_874),
    ("sample_cnn_se", {}, 6_951_858),
    ("self_attention_cnn", {}, 10_521_652),
    ("short_chunk_cnn", {}, 3_687_348),
    ("short_chunk_resnet", {}, 12_104_244),
    ("tutorial_cnn", {"num_tags": 10}, 40_124),
    ("vggish", {"num_tags": 527}, 73_775_887),
]
# What the last layer of a kind gives, as papers or authors' code tell.
PUBLISHED_SHAPES = {
    "audio_spectrogram_transformer": ("ClassTokens", (None, 12 * 101 + 2, 768)),
    "crnn": ("Reshape", (None, 18, 128)),
    "fcn": ("MaxPooling2D", (None, 1, 1, 64)),
    "harmonic_filter_cnn": ("HarmonicBands", (None, 313, 128, 6)),
    "hts_at": ("Conv2D", (None, 64, 64, 96)),
    "instrument_cnn": ("AveragePooling2D", (None, 40, 6, 160)),
    "music_tagging_transformer": ("ClassTokens", (None, 161 + 1, 256)),
    "musicnn": ("GlobalMaxPooling1D", (None, 561 + 3 * 64)),
    "panns_cnn10": ("GlobalMaxPooling1D", (None, 512)),
    "panns_cnn14": ("GlobalMaxPooling1D", (None, 2048)),
    "panns_cnn6": ("GlobalMaxPooling1D", (None, 512)),
    "sample_cnn": ("MaxPooling1D", (None, 1, 512)),
    "sample_cnn_se": ("MaxPooling1D", (None, 1, 512)),
    "self_attention_cnn": ("ClassTokens", (None, 118 + 1, 256)),
    "short_chunk_cnn": ("MaxPooling2D", (None, 1, 1, 512)),
    "short_chunk_resnet": ("Conv2D", (None, 2, 1, 512)),
    "tutorial_cnn": ("MaxPooling2D", (None, 1, 1, 64)),
    "vggish": ("MaxPooling2D", (None, 6, 4, 512)),
}

QUICK = {"tutorial_cnn", "vggish"}
"""Families that are built in a moment at their full size."""

WITH_LAYERS_OF_OURS = {"audio_spectrogram_transformer", "harmonic_filter_cnn", "hts_at"}
"""Families whose weights are not those of Keras' layers alone, but for those with the same layers as these."""


def slow_but(quick, names=SMALL):
    return [name if name in quick else pytest.param(name, marks=pytest.mark.slow) for name in names]


@functools.cache
def built(name):
    """A small model and its network, which a test must not change."""
    keras.utils.set_random_seed(1)
    model = small(name)
    return model, model.build()


@functools.cache
def heard(name):
    """Of `noise`: the embedding, and the tags."""
    model, network = built(name)
    outputs = network(noise(model), training=False)
    return [np.asarray(outputs[head]) for head in (EMBEDDING, "tag")]


def trainable(network):
    return sum(math.prod(variable.shape) for variable in network.trainable_variables)


def families(cls=Tagger):
    for family in cls.__subclasses__():
        yield from families(family)
        if family.name:
            yield family.name


def test_all_families_are_here():
    assert set(families()) == set(SMALL) == set(BY_HAND) == {name for name, _, _ in PUBLISHED}


@pytest.mark.parametrize(("name", "fields", "count"), PUBLISHED)
def test_layers_counted_by_hand_are_what_is_published(name, fields, count):
    model = make(name, **fields)
    assert BY_HAND[name](model) == count
    assert f"{count:,}" in type(model).__doc__


@pytest.mark.parametrize("name", SMALL)
def test_a_small_network_has_the_parameters_counted_by_hand(name):
    model, network = built(name)
    assert trainable(network) == BY_HAND[name](model)


@pytest.mark.parametrize("name", slow_but(QUICK))
def test_the_whole_network_is_as_published(name):
    kind, shape = PUBLISHED_SHAPES[name]
    for fields, count in [row[1:] for row in PUBLISHED if row[0] == name]:
        model = make(name, **fields)
        with tf.Graph().as_default():  # in which weights are shapes, and take no memory
            network = model.build()
            assert trainable(network) == count
        assert network.output["tag"].shape == (None, model.num_frames, model.num_tags)
        assert network.output[EMBEDDING].shape == (None, model.num_frames, model.num_features)
    layers = [layer for layer in network.layers if type(layer).__name__ == kind and layer.name != EMBEDDING]
    assert layers[-1].output.shape == shape


@pytest.mark.parametrize("name", SMALL)
def test_a_small_network_is_shaped_as_it_says(name):
    model, network = built(name)
    spec, (_, tags) = model.spec(), heard(name)
    assert tags.shape == (3, spec.num_frames, 5)
    assert tags.dtype == "float32"
    assert np.isfinite(tags).all()
    assert np.std(tags[0] - tags[1]) > 0, "what is heard counts"
    assert network.name == name
    hop = spec.window_length // spec.num_frames
    assert (spec.clock.hop_length, spec.clock.origin, spec.margin) == (hop, hop // 2, 0)


@pytest.mark.parametrize("name", SMALL)
def test_tags_are_told_from_the_embedding(name):
    model, network = built(name)
    embedding, tags = heard(name)
    assert embedding.shape == (3, model.num_frames, model.num_features)
    assert embedding.dtype == "float32"
    assert model.spec().heads == {"tag": HeadSpec(5), "embedding": HeadSpec(model.num_features)}
    last = network.get_layer("tag")
    assert last.kernel.shape[-2] == embedding.shape[2]
    np.testing.assert_allclose(last(embedding), tags, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", SMALL)
def test_every_weight_has_a_finite_gradient(name):
    model, network = built(name)
    audio = noise(model, count=5)
    wanted = np.random.default_rng(1).normal(size=(5, model.num_frames, 5))
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.square(network(audio, training=False)["tag"] - wanted))
    for variable, gradient in zip(
        network.trainable_variables, tape.gradient(loss, network.trainable_variables), strict=True
    ):
        assert gradient is not None, variable.path
        dense = np.asarray(tf.convert_to_tensor(gradient))  # that of a table is sparse
        assert np.isfinite(dense).all(), variable.path
        assert np.abs(dense).max() > 0, variable.path


@pytest.mark.parametrize("name", slow_but(WITH_LAYERS_OF_OURS))
def test_saved_weights_make_the_same_network_again(name, tmp_path):
    model, network = built(name)
    audio = noise(model)
    network.save_weights(tmp_path / "a.weights.h5")
    keras.utils.set_random_seed(2)
    other = model.build()
    expected, differing = (n(audio, training=False)["tag"] for n in (network, other))
    other.load_weights(tmp_path / "a.weights.h5")
    assert np.abs(differing - expected).max() > 1e-4
    np.testing.assert_array_equal(other(audio, training=False)["tag"], expected)


@pytest.mark.parametrize("name", slow_but(WITH_LAYERS_OF_OURS))
def test_a_graph_for_batches_of_any_size_tells_the_same(name):
    """As what is exported does."""
    model, network = built(name)
    signature = [tf.TensorSpec((None, model.chunk_length), tf.float32)]
    graph = tf.function(lambda audio: network(audio, training=False), input_signature=signature)
    told = graph(noise(model))
    for head, expected in zip((EMBEDDING, "tag"), heard(name), strict=True):
        np.testing.assert_allclose(told[head], expected, rtol=1e-4, atol=1e-5)


def test_spectra_are_masked_in_training_alone():
    plain, masked = (
        small("instrument_cnn", dropout=0.0, block_dropout=0.0, spec_augment=stripes)
        for stripes in (None, {"masks": 1, "frames": 20, "bands": 8})
    )
    networks = [model.build() for model in (plain, masked)]
    networks[1].set_weights(networks[0].get_weights())
    audio = noise(plain, count=6)
    one, other = (network(audio, training=False)["tag"] for network in networks)
    np.testing.assert_array_equal(one, other)
    one, other = (network(audio, training=True)["tag"] for network in networks)
    assert np.abs(one - other).max() > 1e-3
    assert make("panns_cnn14").spec_augment.model_dump() == {"masks": 2, "frames": 64, "bands": 8}
    assert plain.spec_augment is None


@pytest.mark.parametrize("name", SMALL)
def test_a_config_makes_the_same_model_again(name):
    model = small(name)
    fields = model.model_dump(mode="json")
    assert fields.pop("name") == name
    assert type(model)(**fields) == model
    assert ModelSpec.from_dict(model.spec().to_dict()) == model.spec()


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_tags_are_float32_under_a_mixed_policy(name):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = small(name)
        network = model.build()
        tags = network(noise(model), training=False)["tag"]
        assert tags.dtype == "float32"
        assert np.isfinite(tags).all()
        assert {v.dtype for v in network.trainable_variables} == {"float32"}
    finally:
        keras.config.set_dtype_policy("float32")


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_a_layer_made_from_its_config_does_the_same(name):
    model, network = built(name)
    audio = noise(model)
    again = type(network).from_config(network.get_config(), custom_objects=_layers_of_ours(network))
    again.set_weights(network.get_weights())
    np.testing.assert_array_equal(again(audio, training=False)["tag"], network(audio, training=False)["tag"])


def _layers_of_ours(network):
    return {type(layer).__name__: type(layer) for layer in network.layers if type(layer).__module__.startswith("mus")}


@pytest.mark.parametrize(
    ("name", "fields", "said"),
    [
        ("fcn", {"filters": (4, 6, 8)}, "3 filters need as many pools, not 2"),
        ("hts_at", {"heads": (2,)}, "2 stages need as many numbers of heads, not 1"),
        ("hts_at", {"chunk_frames": 100}, "100 frames of 8 bands do not fold into a square"),
        ("hts_at", {"num_mels": 9, "chunk_frames": 144}, "bands in multiples of 8"),
        ("panns_cnn6", {"spec_augment": {"frames": 0}}, "spec_augment.frames"),
        ("instrument_cnn", {"pools": ((1, 2), (5, 2))}, "3 filters need as many pools, not 2"),
        ("instrument_cnn", {"chunk_frames": 45}, "45 spectra is not made of frames of 10"),
        ("instrument_cnn", {"frame_spectra": 4}, "of 4, or these not of steps of 5"),
        ("vggish", {"dense": ()}, "dense"),
        ("crnn", {"num_tags": 0}, "num_tags"),
        ("crnn", {"recurrent": ()}, "recurrent"),
        ("short_chunk_cnn", {"dropout": 1.0}, "dropout"),
    ],
)
def test_a_config_that_cannot_be_is_refused(name, fields, said):
    with pytest.raises(ConfigError, match=said):
        config.construct(MODELS.get(name), {**SMALL[name], **fields}, where="x")


@pytest.mark.parametrize(
    ("name", "fields", "said"),
    [
        ("fcn", {"chunk_frames": 3}, "3 frames are left where 4 are pooled: take longer chunks"),
        ("short_chunk_cnn", {"num_mels": 4}, "1 bands are left where 2 are pooled"),
        ("panns_cnn6", {"sample_rate": 16000}, "14000 Hz reach above the Nyquist frequency 8000 Hz"),
        ("harmonic_filter_cnn", {"num_harmonics": 300}, "300 harmonics at 16000 Hz leave no fundamental"),
        ("music_tagging_transformer", {"heads": 3}, "8 features cannot be divided among 3 heads"),
        ("music_tagging_transformer", {"max_tokens": 5}, "7 tokens are more than the 6 positions"),
        ("audio_spectrogram_transformer", {"chunk_frames": 15}, "a patch of 16 does not fit into 15 frames"),
        ("hts_at", {"window": 3}, "8 tokens along a side cannot be divided into windows of 3"),
    ],
)
def test_geometry_that_leaves_nothing_is_refused_when_built(name, fields, said):
    with pytest.raises(ConfigError, match=said):
        small(name, **fields).build()
