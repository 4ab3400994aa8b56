"""Trainable parameters of taggers, layer by layer, from what papers and authors' code say; an oracle without Keras."""

from __future__ import annotations

import math
from itertools import pairwise


def conv(taps, inputs, outputs, bias=True):
    return outputs * (taps * inputs + bias)


def dense(inputs, outputs, bias=True):
    return conv(1, inputs, outputs, bias)


def norm(channels):
    """Of batches or of layers: a scale and a shift."""
    return 2 * channels


def block(taps, inputs, outputs, bias=True):
    return conv(taps, inputs, outputs, bias) + norm(outputs)


def chain(taps, *widths):
    return sum(block(taps, *pair) for pair in pairwise(widths))


def residual(taps, inputs, outputs, strided):
    way_past = block(taps, inputs, outputs) if strided or inputs != outputs else 0
    return block(taps, inputs, outputs) + block(taps, outputs, outputs) + way_past


def gru(inputs, units):
    """Three gates, each with weights of input and state and two biases, as cuDNN has them."""
    return 3 * (units * (inputs + units) + 2 * units)


def transformer(width, hidden, qkv_bias=True):
    attention = dense(width, 3 * width, qkv_bias) + dense(width, width)
    return attention + dense(width, hidden) + dense(hidden, width) + 2 * norm(width)


def hidden_layer(inputs, units):
    return dense(inputs, units) + norm(units)


def fcn(m):
    return norm(1) + chain(9, 1, *m.filters) + dense(m.filters[-1], m.num_tags)


def crnn(m):
    recurrent = sum(gru(*pair) for pair in pairwise((m.filters[-1], *m.recurrent)))
    return norm(1) + chain(9, 1, *m.filters) + recurrent + dense(m.recurrent[-1], m.num_tags)


def with_hidden_layer(m):
    last = m.filters[-1]
    return norm(1) + chain(9, 1, *m.filters) + hidden_layer(last, last) + dense(last, m.num_tags)


def short_chunk_resnet(m):
    last = m.filters[-1]
    blocks = sum(residual(9, *pair, strided=True) for pair in pairwise((1, *m.filters)))
    return norm(1) + blocks + hidden_layer(last, last) + dense(last, m.num_tags)


def musicnn(m):
    tall = sum(block(7 * int(share * m.num_mels), 1, m.tall) for share in (0.7, 0.4))
    long = sum(block(length, 1, m.long) for length in (129, 65, 33))
    front = 2 * m.tall + 3 * m.long
    pooled = 2 * (front + 3 * m.back)
    return (
        norm(1)
        + tall
        + long
        + chain(7, front, *[m.back] * 3)
        + hidden_layer(pooled, m.dense)
        + (dense(m.dense, m.num_tags))
    )


def sample_cnn(m):
    last = block(1, m.filters[-1], m.last_filters)
    return chain(3, 1, *m.filters) + last + dense(m.last_filters, m.num_tags)


def sample_cnn_se(m):
    def gated(taps, inputs, outputs, strided=False):
        return residual(taps, inputs, outputs, strided) + 2 * dense(outputs, outputs)

    first, *others = pairwise((1, *m.filters))
    blocks = gated(3, *first, strided=True) + sum(gated(3, *pair) for pair in others)
    last = gated(1, m.filters[-1], m.last_filters) + hidden_layer(m.last_filters, m.dense)
    return blocks + last + dense(m.dense, m.num_tags)


def panns(taps, convolutions):
    def count(m):
        widths = [1, *(width for width in m.filters for _ in range(convolutions))]
        blocks = sum(block(taps, *pair, bias=False) for pair in pairwise(widths))
        return norm(m.num_mels) + blocks + dense(m.filters[-1], m.dense) + dense(m.dense, m.num_tags)

    return count


def vggish(m):
    a, b, c, d = m.filters
    convolutions = conv(9, 1, a) + conv(9, a, b) + conv(9, b, c) + conv(9, c, c) + conv(9, c, d) + conv(9, d, d)
    flat = (m.chunk_frames // 16) * (m.num_mels // 16) * d
    widths = (flat, *m.dense, *([m.bottleneck] if m.bottleneck else []), m.num_tags)
    return convolutions + sum(dense(*pair) for pair in pairwise(widths))


def harmonic_filter_cnn(m):
    c = m.channels
    convolutions = block(9, m.num_harmonics, c) + block(9, c, 2 * c)
    blocks = 3 * residual(9, c, c, strided=False) + 2 * residual(9, 2 * c, 2 * c, strided=False)
    q = 1
    return q + norm(m.num_harmonics) + convolutions + blocks + hidden_layer(2 * c, 2 * c) + dense(2 * c, m.num_tags)


def self_attention_cnn(m):
    last = m.filters[-1]
    blocks = sum(residual(9, *pair, strided=True) for pair in pairwise((1, *m.filters)))
    pooler = dense(last, last)
    return norm(1) + blocks + m.depth * transformer(last, m.hidden) + pooler + dense(last, m.num_tags)


def instrument_cnn(m):
    """Convolutions have no biases; the way past a residual block is 1 x 1."""
    blocks = block(9, 1, m.filters[0], bias=False)
    for inputs, outputs in pairwise(m.filters):
        blocks += block(9, inputs, outputs, bias=False) + block(9, outputs, outputs, bias=False)
        blocks += block(1, inputs, outputs, bias=False) if inputs != outputs else 0
    width = m.temporal_filters
    temporal = block(1, 2 * m.filters[-1], width, bias=False) + len(m.dilations) * block(3, width, width, bias=False)
    return norm(m.num_mels) + blocks + temporal + dense(2 * width, m.dense) + dense(m.dense, m.num_tags)


def music_tagging_transformer(m):
    f, width = m.filters, m.features
    blocks = residual(9, 1, f, strided=False) + 2 * residual(9, f, f, strided=False)
    tokens = dense(m.num_mels // 8 * f, width) + width + (m.max_tokens + 1) * width
    head = norm(width) + dense(width, m.num_tags)
    return norm(1) + blocks + tokens + m.depth * transformer(width, m.hidden, qkv_bias=False) + head


def audio_spectrogram_transformer(m):
    width = m.features
    patches = math.prod((size - m.patch) // m.stride + 1 for size in (m.chunk_frames, m.num_mels))
    tokens = conv(m.patch**2, 1, width) + 2 * width + (patches + 2) * width
    return tokens + m.depth * transformer(width, 4 * width) + 2 * norm(width) + dense(width, m.num_tags)


def hts_at(m):
    side, width, total = m.num_mels, m.features, norm(m.num_mels)
    total += conv(16, 1, width) + norm(width)
    for stage, (depth, heads) in enumerate(zip(m.depths, m.heads, strict=True)):
        if stage:
            total += norm(4 * width) + dense(4 * width, 2 * width, bias=False)
            side, width = side // 2, 2 * width
        offsets = (2 * min(side, m.window) - 1) ** 2
        total += depth * (transformer(width, 4 * width) + offsets * heads)
    bands = side // 4
    return total + norm(width) + conv(3, bands * width, m.num_tags)


BY_HAND = {
    "audio_spectrogram_transformer": audio_spectrogram_transformer,
    "crnn": crnn,
    "fcn": fcn,
    "harmonic_filter_cnn": harmonic_filter_cnn,
    "hts_at": hts_at,
    "instrument_cnn": instrument_cnn,
    "music_tagging_transformer": music_tagging_transformer,
    "musicnn": musicnn,
    "panns_cnn10": panns(9, 2),
    "panns_cnn14": panns(9, 2),
    "panns_cnn6": panns(25, 1),
    "sample_cnn": sample_cnn,
    "sample_cnn_se": sample_cnn_se,
    "self_attention_cnn": self_attention_cnn,
    "short_chunk_cnn": with_hidden_layer,
    "short_chunk_resnet": short_chunk_resnet,
    "tutorial_cnn": with_hidden_layer,
    "vggish": vggish,
}
