"""HTS-AT: attention within windows of spectra, whose tokens merge from stage to stage, and tags told in time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pydantic
from keras import layers, ops

from musicnet_tf.errors import ConfigError
from musicnet_tf.models.tagging._attention import SelfAttention, layer_norm, small, transform
from musicnet_tf.models.tagging.tagger import AudioSetTagger
from musicnet_tf.registry import MODELS

_PATCH = 4
_FOLDS = 4
_LAST_FILTER_FRAMES = 3
_FAR = -100.0


def relative_positions(side: int) -> np.ndarray:
    """Which of `(2 * side - 1)**2` offsets lies between two cells of a square, int `(side**2, side**2)`."""
    rows, columns = np.divmod(np.arange(side**2), side)
    down = rows[:, None] - rows + side - 1
    across = columns[:, None] - columns + side - 1
    return down * (2 * side - 1) + across


def seams(side: int, window: int, shift: int) -> np.ndarray:
    """What keeps cells apart that only a cyclic shift brought into one window, float32 `(windows, cells, cells)`.

    Added before a softmax: 0 where two cells are neighbours indeed, -100 where they are from opposite edges.
    """
    region = np.zeros(side, int)
    region[side - window :] = 1
    region[side - shift :] = 2
    image = 3 * region[:, None] + region
    count = side // window
    cells = image.reshape(count, window, count, window).transpose(0, 2, 1, 3).reshape(count**2, window**2)
    return np.where(cells[:, :, None] == cells[:, None], 0.0, _FAR).astype(np.float32)


class WindowAttention(SelfAttention):
    """Attention among the cells of each square window of an image, which knows how they lie (Liu et al. 2021).

    `(batch, side**2, features)` → the same.

    Args:
        side: of the image, in cells; a multiple of the window's.
        window: side of a window.
        shift: by how many cells the windows lie askew.

    Raises:
        ConfigError: where the windows do not fill the image.
    """

    def __init__(self, num_heads: int, side: int, window: int, shift: int = 0, **kwargs: Any) -> None:
        super().__init__(num_heads, **kwargs)
        if side % window:
            raise ConfigError(f"{side} tokens along a side cannot be divided into windows of {window}")
        self.side, self.window, self.shift = side, window, shift
        self._offsets = relative_positions(window).reshape(-1)
        self._seams = seams(side, window, shift) if shift else None

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Adds `bias`, for each offset and head."""
        super().build(input_shape)
        shape = ((2 * self.window - 1) ** 2, self.num_heads)
        self.bias = self.add_weight(name="bias", shape=shape, initializer=small())

    def call(self, x: Any, training: bool | None = None) -> Any:
        features, count, window = x.shape[-1], self.side // self.window, self.window
        image = ops.reshape(x, (-1, self.side, self.side, features))
        image = ops.roll(image, (-self.shift, -self.shift), axis=(1, 2)) if self.shift else image
        cells = ops.transpose(ops.reshape(image, (-1, count, window, count, window, features)), (0, 1, 3, 2, 4, 5))
        seen = super().call(ops.reshape(cells, (-1, window**2, features)), training=training)
        cells = ops.transpose(ops.reshape(seen, (-1, count, count, window, window, features)), (0, 1, 3, 2, 4, 5))
        image = ops.reshape(cells, (-1, self.side, self.side, features))
        image = ops.roll(image, (self.shift, self.shift), axis=(1, 2)) if self.shift else image
        return ops.reshape(image, (-1, self.side**2, features))

    def score(self, products: Any) -> Any:
        cells = self.window**2
        bias = ops.reshape(ops.take(self.bias, self._offsets, axis=0), (cells, cells, self.num_heads))
        scores = products + ops.cast(ops.transpose(bias, (2, 0, 1)), products.dtype)
        if self._seams is None:
            return scores
        apart = ops.reshape(scores, (-1, len(self._seams), self.num_heads, cells, cells))
        apart = apart + ops.cast(self._seams[:, None], products.dtype)
        return ops.reshape(apart, (-1, self.num_heads, cells, cells))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "side": self.side, "window": self.window, "shift": self.shift}


@MODELS.register("hts_at")
class HtsAt(AudioSetTagger):
    """Log-mel spectra of 10.24 s, folded into a square → four stages of a Swin transformer → tags of 32 frames.

    A frame is 0.32 s; the mean of the frames' logits is what the authors tell of a clip. The spectra's 1,024 frames
    are cut into four, laid below one another; 4 × 4 of its cells are a token. The last layer is a convolution over both
    tokens that share their time, and three frames. The embedding is what it sees of a frame, 1,536 numbers. Trainable
    parameters with the defaults and AudioSet's 527 tags: 29,963,431; the authors' code makes a dense layer from tags to
    tags besides, which it does not use.

    Attributes:
        features: of a token in the first stage; each stage has twice as many as that before.
        depths: blocks of each stage.
        heads: of attention in each stage.
        window: tokens along the sides of the squares within which attention stays.
        depth_dropout: share of examples that go past the last block in training, and less past those before.
    """

    source = "Chen et al. 2022, HTS-AT: A Hierarchical Token-Semantic Audio Transformer"

    chunk_frames: int = pydantic.Field(default=1024, gt=0)
    features: int = pydantic.Field(default=96, gt=0)
    depths: tuple[pydantic.PositiveInt, ...] = pydantic.Field(default=(2, 2, 6, 2), min_length=1)
    heads: tuple[pydantic.PositiveInt, ...] = (4, 8, 16, 32)
    window: int = pydantic.Field(default=8, gt=0)
    depth_dropout: float = pydantic.Field(default=0.1, ge=0, lt=1)
    dropout: float = pydantic.Field(default=0.0, ge=0, lt=1)

    @pydantic.model_validator(mode="after")
    def _fits_into_a_square(self) -> HtsAt:
        if len(self.heads) != len(self.depths):
            raise ValueError(f"{len(self.depths)} stages need as many numbers of heads, not {len(self.heads)}")
        side, unit = self._side, _PATCH * 2 ** (len(self.depths) - 1)
        if self.chunk_frames != _FOLDS * side or side % (unit * _FOLDS):
            raise ValueError(
                f"{self.chunk_frames} frames of {self.num_mels} bands do not fold into a square: there must be"
                f" {_FOLDS**2} times as many frames as bands, and bands in multiples of {unit}"
            )
        return self

    @property
    def _side(self) -> int:
        """Of the square that spectra are folded into."""
        return _FOLDS * self.num_mels

    @property
    def num_frames(self) -> int:
        return self.chunk_frames // (_PATCH * 2 ** (len(self.depths) - 1))

    @property
    def num_features(self) -> int:
        return self.num_mels * self.features // 4

    def embed(self, audio: Any) -> Any:
        folded = layers.Reshape((_FOLDS, self._side, self.num_mels))(self.spectra(audio))
        image = layers.Reshape((self._side, self._side, 1))(ops.transpose(folded, (0, 1, 3, 2)))
        side = self._side // _PATCH
        patches = layers.Conv2D(self.features, _PATCH, strides=_PATCH)(image)
        x = layer_norm()(layers.Reshape((side**2, self.features))(patches))
        rates = iter(np.linspace(0, self.depth_dropout, sum(self.depths)).tolist())
        for stage, (depth, heads) in enumerate(zip(self.depths, self.heads, strict=True)):
            if stage:
                x, side = _merge(x, side), side // 2
            for block in range(depth):
                attend = self._attention(heads, side, askew=block % 2 == 1)
                x = transform(x, attend, 4 * x.shape[-1], depth_dropout=next(rates))
        return self._unfold(layer_norm()(x), side)

    def _attention(self, heads: int, side: int, askew: bool) -> Callable[[Any], Any]:
        if side <= self.window:
            return WindowAttention(heads, side, side)
        return WindowAttention(heads, side, self.window, self.window // 2 if askew else 0)

    def _unfold(self, x: Any, side: int) -> Any:
        """Tokens of the square → what each frame has, all bands of it: `(batch, num_frames, features)`."""
        bands, features = side // _FOLDS, x.shape[-1]
        x = ops.reshape(x, (-1, _FOLDS, bands, side, features))
        return ops.reshape(ops.transpose(x, (0, 1, 3, 2, 4)), (-1, _FOLDS * side, bands * features))

    def tag(self, features: Any) -> Any:
        x = layers.Dropout(self.dropout, dtype="float32")(features)
        return layers.Conv1D(self.num_tags, _LAST_FILTER_FRAMES, padding="same", dtype="float32", name="tag")(x)


def _merge(x: Any, side: int) -> Any:
    """Four neighbouring tokens → one of twice the features: `(batch, side**2 / 4, 2 * features)`."""
    features = x.shape[-1]
    x = ops.reshape(x, (-1, side // 2, 2, side // 2, 2, features))
    x = ops.reshape(ops.transpose(x, (0, 1, 3, 2, 4, 5)), (-1, (side // 2) ** 2, 4 * features))
    return layers.Dense(2 * features, use_bias=False)(layer_norm()(x))
