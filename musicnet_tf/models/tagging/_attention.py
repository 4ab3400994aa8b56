"""Transformers for families of taggers; shapes are `(batch, tokens, features)`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from keras import layers, ops

from musicnet_tf.errors import ConfigError


def small() -> keras.initializers.Initializer:
    """Draws what transformers begin with; each weight needs one of its own, as one draws the same again."""
    return keras.initializers.TruncatedNormal(stddev=0.02)


def layer_norm(epsilon: float = 1e-5) -> layers.LayerNormalization:
    """Normalisation of each token, with the constant of PyTorch by default."""
    return layers.LayerNormalization(epsilon=epsilon)


class SelfAttention(layers.Layer):
    """Tokens look at one another: scaled dot products of several heads, and a projection (Vaswani et al. 2017).

    Args:
        num_heads: among which features are divided.
        dropout: share of the attention that is left out in training.
        qkv_bias: whether queries, keys and values have biases; the projection has one.

    Raises:
        ConfigError: where features are no multiple of the heads.
    """

    def __init__(self, num_heads: int, dropout: float = 0.0, qkv_bias: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.num_heads = num_heads
        self.dropout = dropout
        self.qkv_bias = qkv_bias
        self._leave_out = layers.Dropout(dropout, dtype=self.dtype_policy)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Adds the dense layers."""
        features: int = input_shape[-1]  # type: ignore[assignment]
        if features % self.num_heads:
            raise ConfigError(f"{features} features cannot be divided among {self.num_heads} heads of attention")
        self._qkv = self._dense(3 * features, "qkv", use_bias=self.qkv_bias)
        self._project = self._dense(features, "project")
        for layer in (self._qkv, self._project):
            layer.build(input_shape)

    def _dense(self, units: int, name: str, use_bias: bool = True) -> layers.Dense:
        return layers.Dense(units, use_bias=use_bias, kernel_initializer=small(), dtype=self.dtype_policy, name=name)

    def call(self, x: Any, training: bool | None = None) -> Any:
        """`(batch, tokens, features)` → the same."""
        _, tokens, features = x.shape
        size = features // self.num_heads
        heads = ops.reshape(self._qkv(x), (-1, tokens, 3, self.num_heads, size))
        queries, keys, values = ops.unstack(ops.transpose(heads, (2, 0, 3, 1, 4)), 3)
        scores = self.score(ops.matmul(queries * size**-0.5, ops.swapaxes(keys, -1, -2)))
        weights = self._leave_out(ops.softmax(scores), training=training)
        seen = ops.transpose(ops.matmul(weights, values), (0, 2, 1, 3))
        return self._project(ops.reshape(seen, (-1, tokens, features)))

    def score(self, products: Any) -> Any:
        """What softmax is taken of, from products `(batch, num_heads, tokens, tokens)`; the same here."""
        return products

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        config = {"num_heads": self.num_heads, "dropout": self.dropout, "qkv_bias": self.qkv_bias}
        return {**super().get_config(), **config}


class ClassTokens(layers.Layer):
    """Puts tokens of its own before all others, at which what stands for the whole is read.

    Args:
        num_tokens: how many.
        learned: whether they are trained; if not, they are as drawn, uniformly between 0 and 1.
    """

    def __init__(self, num_tokens: int = 1, learned: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.num_tokens = num_tokens
        self.learned = learned

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Adds `tokens`."""
        initializer = small() if self.learned else keras.initializers.RandomUniform(0.0, 1.0, seed=0)
        self.tokens = self.add_weight(
            name="tokens",
            shape=(self.num_tokens, input_shape[-1]),
            initializer=initializer,
            trainable=self.learned,
        )

    def call(self, x: Any) -> Any:
        """`(batch, tokens, features)` → `(batch, num_tokens + tokens, features)`."""
        own = ops.broadcast_to(self.tokens[None], (ops.shape(x)[0], *self.tokens.shape))
        return ops.concatenate([ops.cast(own, x.dtype), x], axis=1)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return (input_shape[0], self.num_tokens + input_shape[1], input_shape[2])  # type: ignore[operator]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "num_tokens": self.num_tokens, "learned": self.learned}


class Positions(layers.Layer):
    """Adds to each token what is learned of its position; there may be fewer tokens than positions.

    Raises:
        ConfigError: where there are more.
    """

    def __init__(self, num_positions: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.num_positions = num_positions

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Adds `positions`."""
        if input_shape[1] > self.num_positions:  # type: ignore[operator]
            raise ConfigError(
                f"{input_shape[1]} tokens are more than the {self.num_positions} positions: take shorter chunks"
            )
        shape = (self.num_positions, input_shape[-1])
        self.positions = self.add_weight(name="positions", shape=shape, initializer=small())

    def call(self, x: Any) -> Any:
        return x + ops.cast(self.positions[: x.shape[1]], x.dtype)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "num_positions": self.num_positions}


def feed_forward(x: Any, hidden: int, dropout: float = 0.0, dropout_within: float = 0.0) -> Any:
    """Two dense layers for each token, with a GELU between them."""
    features = x.shape[-1]
    x = layers.Dense(hidden, activation="gelu", kernel_initializer=small())(x)
    x = layers.Dense(features, kernel_initializer=small())(layers.Dropout(dropout_within)(x))
    return layers.Dropout(dropout)(x)


def transform(
    x: Any,
    attend: Callable[[Any], Any],
    hidden: int,
    dropout: float = 0.0,
    depth_dropout: float = 0.0,
    epsilon: float = 1e-5,
) -> Any:
    """A block of a transformer that normalises first: attention, then `feed_forward`, each added to what came in.

    Args:
        x: `(batch, tokens, features)`.
        attend: attention, of the same shape.
        hidden: units between the dense layers.
        dropout: after attention and after each dense layer.
        depth_dropout: share of examples that go past either part in training (Huang et al. 2016).
        epsilon: of the normalisations.
    """
    past = layers.Dropout(depth_dropout, noise_shape=(None, 1, 1))
    x = layers.add([x, past(layers.Dropout(dropout)(attend(layer_norm(epsilon)(x))))])
    return layers.add([x, past(feed_forward(layer_norm(epsilon)(x), hidden, dropout, dropout))])


def transform_then_normalize(x: Any, attend: Callable[[Any], Any], hidden: int, dropout: float = 0.0) -> Any:
    """A block of a transformer that normalises what each part gives, as BERT's do; arguments as of `transform`."""
    x = layer_norm(1e-12)(layers.add([x, layers.Dropout(dropout)(attend(x))]))
    return layer_norm(1e-12)(layers.add([x, feed_forward(x, hidden, dropout)]))
