"""Parts of the taggers against what they are by hand, by NumPy and by other people's layers."""

from __future__ import annotations

import keras
import librosa
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from musicnet_tf.models.tagging import _blocks, hts_at
from musicnet_tf.models.tagging._attention import ClassTokens, Positions, SelfAttention, transform
from musicnet_tf.models.tagging._spec_augment import SpecAugment
from musicnet_tf.models.tagging.frontends import HarmonicBands
from musicnet_tf.models.tagging.vggish import Vggish

RATE = 16000


def draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def sine(hertz, amplitude=1.0, seconds=0.5):
    return (amplitude * np.sin(2 * np.pi * hertz * np.arange(int(seconds * RATE)) / RATE)).astype(np.float32)[None]


def with_random_weights(layer, *shape):
    layer.build((None, *shape))
    for i, variable in enumerate(layer.weights):
        variable.assign(draw(*variable.shape, seed=10 + i))
    return layer


def test_levels_of_vggish_are_those_of_an_unscaled_transform():
    """A full-scale sine on a bin has the magnitude of half the window's sum there, 100."""
    model = Vggish(chunk_frames=50)
    levels = np.asarray(model.spectra(sine(2000)))[0, 20, :, 0]  # bin 64 of 512
    bands = librosa.filters.mel(sr=RATE, n_fft=512, n_mels=64, fmin=125, fmax=7500, htk=True, norm=None)
    taper = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    magnitudes = np.abs(np.fft.rfft(taper * sine(2000)[0, 3000:3400], 512))
    assert magnitudes[64] == pytest.approx(100, rel=1e-4)
    np.testing.assert_allclose(levels, np.log(bands @ magnitudes + 0.01), atol=0.02)
    silence = np.asarray(model.spectra(np.zeros((1, 8000), np.float32)))
    np.testing.assert_allclose(silence, np.log(0.01), atol=1e-4)


def test_harmonic_filters_by_hand():
    layer = HarmonicBands(RATE, 256, 512)
    layer.build((None, RATE))
    assert layer.num_fundamentals == 128, "half semitones from C1 to below E6"
    np.testing.assert_allclose(layer.centres[0, :3], [32.703, 33.661, 34.648], atol=1e-3)
    np.testing.assert_allclose(layer.centres[5], 6 * layer.centres[0], rtol=1e-6)
    filters = np.asarray(layer.filters()).reshape(257, 6, 128)
    # The third harmonic of A4 at 1320 Hz is 0.1079 * 1320 + 24.7 = 167.1 Hz wide at its foot. Bin 42 is at 1312.5 Hz.
    a4 = 2 * (69 - 24)
    assert layer.centres[2, a4] == pytest.approx(1320)
    assert filters[42, 2, a4] == pytest.approx(1 - 2 * 7.5 / 167.128, abs=1e-4)
    assert np.flatnonzero(filters[:, 2, a4]).tolist() == [40, 41, 42, 43, 44], "1250 to 1375 Hz"
    layer.q.assign(2.0)
    assert np.flatnonzero(np.asarray(layer.filters())[:, 2 * 128 + a4]).tolist() == [41, 42, 43], "half as wide"


def test_a_tone_is_the_first_harmonic_of_its_pitch_and_the_third_of_what_lies_a_twelfth_below():
    layer = HarmonicBands(RATE, 256, 4096)
    bands = np.asarray(layer(sine(987.767)))[0, 15]  # B5
    assert bands.shape == (128, 6)
    assert np.argmax(bands[:, 0]) == 2 * (83 - 24)
    # E4 is 19 semitones below, where a fifth is 2 cents wider than in just intonation.
    assert np.argmax(bands[:, 2]) == 2 * (64 - 24)


def test_the_gradient_of_the_width_is_its_difference():
    layer, audio = HarmonicBands(RATE, 256, 512), draw(1, 2048)
    layer(audio)

    def total(q):
        layer.q.assign(q)
        return float(tf.reduce_sum(layer(audio)))

    layer.q.assign(1.3)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(layer(audio))
    slope = float(tape.gradient(loss, layer.q.value))
    assert slope < 0, "wider filters hear more"
    assert slope == pytest.approx((total(1.305) - total(1.295)) / 0.01, rel=0.02)


def stripes(masked):
    """How wide the runs of `True` are."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], masked.astype(int), [0]])))
    return edges[1::2] - edges[::2]


def test_one_mask_is_narrower_than_stated_and_anywhere():
    layer, spectra = SpecAugment(masks=1, frames=9, bands=4, seed=0), draw(2000, 30, 12, 1)
    heard = np.asarray(layer(spectra, training=True))
    mean = spectra.mean(axis=(1, 2, 3))
    masked = np.isclose(heard[..., 0], mean[:, None, None], atol=1e-6)
    assert (heard[..., 0][~masked] == spectra[..., 0][~masked]).all()
    frames, bands = masked.all(axis=2), masked.all(axis=1)
    assert (masked == frames[:, :, None] | bands[:, None]).mean() > 0.999
    for cells, width in ((frames, 9), (bands, 4)):
        runs = [stripes(example) for example in cells]
        assert max(map(len, runs)) == 1
        widths = np.array([run[0] if len(run) else 0 for run in runs])
        # All widths from 0 on are as likely: 2000 draws leave each within 4 deviations of its share.
        expected, deviation = 2000 / width, np.sqrt(2000 / width * (1 - 1 / width))
        assert (np.abs(np.bincount(widths, minlength=width) - expected) < 4 * deviation).all()
        assert len(np.bincount(widths)) == width
        assert cells[:, 0].any()
        assert cells[:, -1].any()


def covered(length, width):
    """How likely each cell is to lie under a mask, by counting all masks that there are."""
    likely = np.zeros(length)
    for size in range(width):
        for first in range(length - size + 1):
            likely[first : first + size] += 1 / (width * (length - size + 1))
    return likely


def test_two_masks_take_the_stated_share():
    """Of 64 frames and 8 bands at most, mean widths are 31.5 and 3.5; some masks overlap."""
    spectra = draw(400, 250, 64, 1)
    share = np.mean(np.asarray(SpecAugment(seed=1)(spectra, training=True)) != spectra)
    frames, bands = covered(250, 64), covered(64, 8)
    assert frames.sum() == pytest.approx(31.5)
    assert bands.sum() == pytest.approx(3.5)
    kept = ((1 - frames) ** 2).mean() * ((1 - bands) ** 2).mean()
    assert share == pytest.approx(1 - kept, rel=0.05)


def test_masks_are_of_training_alone_and_their_seed_decides_them():
    spectra = draw(3, 200, 40, 1)
    np.testing.assert_array_equal(SpecAugment()(spectra), spectra)
    one, same, other = (np.asarray(SpecAugment(seed=seed)(spectra, training=True)) for seed in (5, 5, 6))
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()
    again = SpecAugment.from_config(SpecAugment(1, 30, 5, seed=5).get_config())
    assert (again.masks, again.frames, again.bands, again.seed) == (1, 30, 5, 5)
    layer = SpecAugment(seed=5)
    first, second = (np.asarray(layer(spectra, training=True)) for _ in range(2))
    assert (first != second).any(), "every step has masks of its own"
    assert ((first[0] == spectra[0]) != (first[1] == spectra[1])).any(), "and so has every example"


def test_masks_wider_than_the_spectra_are_cut():
    heard = SpecAugment(seed=0)(draw(50, 6, 4, 1), training=True)
    assert np.isfinite(heard).all()


def test_a_residual_block_passes_by_what_fits_and_convolves_what_does_not():
    x = keras.Input((8, 6, 4))
    plain, wider, strided = (
        keras.Model(x, _blocks.residual(x, filters, strides=strides)) for filters, strides in ((4, 1), (6, 1), (4, 2))
    )
    assert [sum("conv" in layer.name for layer in m.layers) for m in (plain, wider, strided)] == [2, 3, 3]
    assert [m.output.shape[1:] for m in (plain, wider, strided)] == [(8, 6, 4), (8, 6, 6), (4, 3, 4)]
    for layer in plain.layers:
        if "conv" in layer.name:
            layer.kernel.assign(layer.kernel * 0)
    audio = draw(2, 8, 6, 4)
    np.testing.assert_allclose(plain(audio), np.maximum(audio, 0), atol=1e-6)


def test_gates_are_between_0_and_1_and_told_from_means():
    x = keras.Input((9, 3))
    network = keras.Model(x, _blocks.squeeze_and_excite(x))
    first, second = [layer for layer in network.layers if isinstance(layer, layers.Dense)]
    value = draw(2, 9, 3)
    hidden = np.maximum(value.mean(axis=1) @ first.kernel.numpy(), 0)
    gate = 1 / (1 + np.exp(-hidden @ second.kernel.numpy()))
    assert (gate > 0).all()
    assert (gate < 1).all()
    np.testing.assert_allclose(network(value), value * gate[:, None], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["max", "average"])
def test_pools_drop_what_is_left_over(kind):
    value = np.arange(7, dtype=np.float32).reshape(1, 7, 1)
    expected = [2, 5] if kind == "max" else [1, 4]
    assert np.asarray(_blocks.pool(value, 3, kind))[0, :, 0].tolist() == expected


def test_attention_is_that_of_keras():
    ours = with_random_weights(SelfAttention(3), 5, 12)
    theirs = layers.MultiHeadAttention(3, 4)
    theirs.build((None, 5, 12), (None, 5, 12))
    kernel, bias, project, project_bias = (w.numpy() for w in ours.weights)
    parts = [
        (k.reshape(12, 3, 4), b.reshape(3, 4)) for k, b in zip(np.split(kernel, 3, 1), np.split(bias, 3), strict=True)
    ]
    (q, qb), (k, kb), (v, vb) = parts
    theirs.set_weights([q, qb, k, kb, v, vb, project.reshape(3, 4, 12), project_bias])
    x = draw(2, 5, 12)
    np.testing.assert_allclose(ours(x), theirs(x, x), rtol=1e-4, atol=1e-4)
    again = SelfAttention.from_config(ours.get_config())
    assert (again.num_heads, again.qkv_bias) == (3, True)


def test_attention_may_do_without_biases():
    layer = SelfAttention(2, qkv_bias=False)
    layer.build((None, 5, 4))
    assert [tuple(w.shape) for w in layer.weights] == [(4, 12), (4, 4), (4,)]


def test_class_tokens_come_first():
    x = draw(2, 3, 4)
    layer = ClassTokens(2)
    tokens = np.asarray(layer(x))
    np.testing.assert_array_equal(tokens[:, 2:], x)
    np.testing.assert_array_equal(tokens[0, :2], layer.tokens)
    np.testing.assert_array_equal(tokens[1, :2], layer.tokens)
    fixed = ClassTokens(learned=False)
    fixed(x)
    assert fixed.trainable_weights == []
    assert 0 <= np.min(fixed.tokens) < np.max(fixed.tokens) <= 1
    other = ClassTokens.from_config(fixed.get_config())
    other(x)
    np.testing.assert_array_equal(other.tokens, fixed.tokens)


def test_positions_are_added_from_the_first_on():
    layer, x = Positions(5), draw(2, 3, 4)
    heard = layer(x)
    np.testing.assert_allclose(heard, x + np.asarray(layer.positions)[:3], rtol=1e-6)


def test_offsets_of_cells_by_hand():
    # Cells 0 1 / 2 3 of a square; from -1 to 1 down, three offsets across each.
    assert hts_at.relative_positions(2).tolist() == [[4, 3, 1, 0], [5, 4, 2, 1], [7, 6, 4, 3], [8, 7, 5, 4]]


def test_seams_by_hand():
    masks = hts_at.seams(side=4, window=2, shift=1)
    assert masks.shape == (4, 4, 4)
    assert (masks[0] == 0).all(), "wholly inside"
    apart = [[0, -100, 0, -100], [-100, 0, -100, 0]] * 2
    assert masks[1].tolist() == apart, "the right column came from the left edge"
    assert (masks[3] == np.where(np.eye(4), 0, -100)).all(), "the corner is of four edges"


def reached(layer, cell, side):
    """The cells that change with one, by rows."""
    x = draw(1, side**2, 4)
    other = x.copy()
    other[0, cell] += 1
    moved = np.abs(np.asarray(layer(x)) - np.asarray(layer(other))).max(axis=(0, 2))
    return set(np.flatnonzero(moved > 1e-6).tolist())


def test_attention_stays_within_windows():
    layer = with_random_weights(hts_at.WindowAttention(2, side=4, window=2), 16, 4)
    assert reached(layer, 0, 4) == {0, 1, 4, 5}
    assert reached(layer, 14, 4) == {10, 11, 14, 15}


def test_windows_askew_reach_over_borders_but_not_around_edges():
    layer = with_random_weights(hts_at.WindowAttention(2, side=4, window=2, shift=1), 16, 4)
    assert reached(layer, 5, 4) == {5, 6, 9, 10}
    assert reached(layer, 0, 4) == {0}
    assert reached(layer, 3, 4) == {3}
    assert reached(layer, 4, 4) == {4, 8}
    assert reached(layer, 13, 4) == {13, 14}


def test_attention_in_a_window_adds_what_is_learned_of_offsets():
    """With queries of zero the bias alone decides; all of it on the cell to the right, and values passed on."""
    layer = hts_at.WindowAttention(1, side=2, window=2)
    layer.build((None, 4, 3))
    kernel = np.zeros((3, 9), np.float32)
    kernel[:, 6:] = np.eye(3)
    layer._qkv.kernel.assign(kernel)
    layer._project.kernel.assign(np.eye(3))
    bias = np.full((9, 1), -50.0, np.float32)
    bias[3] = 50.0  # from a cell to that one column on, in the same row
    layer.bias.assign(bias)
    x = draw(1, 4, 3)
    heard = np.asarray(layer(x))[0]
    np.testing.assert_allclose(heard[[0, 2]], x[0, [1, 3]], atol=1e-5)
    np.testing.assert_allclose(heard[[1, 3]], np.tile(x[0].mean(axis=0), (2, 1)), atol=1e-5)


def test_spectra_unfold_in_the_order_in_which_they_were_folded():
    """Time and band are written into the features of the last stage's tokens, 8 to a side: four folds, two bands."""
    model = hts_at.HtsAt()
    fold, band, column = np.meshgrid(np.arange(4), np.arange(2), np.arange(8), indexing="ij")
    tokens = np.stack([8 * fold + column, band], axis=-1).reshape(1, 64, 2).astype(np.float32)
    frames = np.asarray(model._unfold(tokens, 8))
    assert frames.shape == (1, 32, 4)
    assert frames[0, :, 0].tolist() == frames[0, :, 2].tolist() == list(range(32))
    assert (frames[0, :, [1, 3]].T == [0, 1]).all()


def test_merging_brings_neighbours_together():
    x = keras.Input((16, 1))
    network = keras.Model(x, hts_at._merge(x, 4))
    norm = next(layer for layer in network.layers if isinstance(layer, layers.LayerNormalization))
    image = np.arange(16, dtype=np.float32).reshape(1, 16, 1)
    merged = np.asarray(keras.Model(x, norm.input)(image))
    assert merged[0].tolist() == [[0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15]]
    assert network.output.shape == (None, 4, 2)


def test_what_goes_past_a_block_is_decided_for_each_example():
    x = keras.Input((3, 4))
    network = keras.Model(x, transform(x, lambda t: t, 8, depth_dropout=0.5))
    keras.utils.set_random_seed(0)
    value = draw(40, 3, 4)
    left = np.asarray(network(value, training=True))
    passed = np.isclose(left, value).all(axis=(1, 2))
    assert 2 < passed.sum() < 20, "about a quarter pass both parts by"
    assert not np.isclose(np.asarray(network(value, training=False)), value).all(axis=(1, 2)).any()
