"""Every family of taggers, as small as it goes, and something for them to hear."""

from __future__ import annotations

import numpy as np

from musicnet_tf.registry import MODELS

# Every family, as small as it goes; tags are five.
SMALL = {
    "audio_spectrogram_transformer": {"num_mels": 32, "chunk_frames": 36, "features": 12, "heads": 3, "depth": 2},
    "crnn": {
        "num_mels": 16,
        "chunk_frames": 40,
        "filters": (4, 6),
        "pools": ((2, 4), (5, 4)),
        "recurrent": (5, 3),
    },
    "fcn": {"num_mels": 16, "chunk_frames": 40, "filters": (4, 6), "pools": ((4, 2), (5, 4))},
    "harmonic_filter_cnn": {"chunk_frames": 288, "hop_length": 64, "channels": 4},
    "hts_at": {
        "num_mels": 8,
        "chunk_frames": 128,
        "features": 6,
        "depths": (2, 1),
        "heads": (2, 3),
        "window": 4,
    },
    "instrument_cnn": {
        "num_mels": 16,
        "chunk_frames": 40,
        "frame_spectra": 10,
        "filters": (4, 6, 8),
        "pools": ((1, 2), (5, 2), (1, 2)),
        "temporal_filters": 6,
        "dilations": (1, 2),
        "dense": 7,
    },
    "music_tagging_transformer": {
        "num_mels": 16,
        "chunk_frames": 24,
        "filters": 4,
        "features": 8,
        "heads": 2,
        "hidden": 12,
        "depth": 2,
        "max_tokens": 10,
    },
    "musicnn": {"num_mels": 20, "chunk_frames": 12, "tall": 6, "long": 3, "back": 5, "dense": 7},
    "panns_cnn10": {"num_mels": 16, "chunk_frames": 16, "filters": (4, 6), "dense": 8},
    "panns_cnn14": {"num_mels": 16, "chunk_frames": 16, "filters": (4, 6, 8), "dense": 8},
    "panns_cnn6": {"num_mels": 16, "chunk_frames": 16, "filters": (4, 6), "dense": 8},
    "sample_cnn": {"filters": (4, 4, 6, 6, 8), "last_filters": 8},
    "sample_cnn_se": {"filters": (4, 4, 6, 6, 8), "last_filters": 8, "dense": 7},
    "self_attention_cnn": {
        "num_mels": 16,
        "chunk_frames": 20,
        "filters": (4, 6, 6, 8),
        "heads": 2,
        "hidden": 12,
    },
    "short_chunk_cnn": {"num_mels": 16, "chunk_frames": 16, "filters": (4, 4, 6)},
    "short_chunk_resnet": {"num_mels": 16, "chunk_frames": 16, "filters": (6, 8, 12)},
    "tutorial_cnn": {"num_mels": 16, "chunk_frames": 60, "filters": (4, 6), "pools": ((5, 4), (12, 4))},
    "vggish": {"num_mels": 16, "chunk_frames": 16, "filters": (4, 4, 6, 6), "dense": (8, 9)},
}


def make(name, **fields):
    return MODELS.get(name)(**fields)


def small(name, **fields):
    return make(name, **{"num_tags": 5, **SMALL[name], **fields})


def noise(model, count=3):
    """Noise, and silence last."""
    audio = np.random.default_rng(0).normal(0, 0.1, (count, model.spec().window_length)).astype(np.float32)
    audio[-1] = 0
    return audio
