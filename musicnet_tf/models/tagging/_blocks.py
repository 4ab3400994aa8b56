"""Blocks of layers that families of taggers share.

Shapes are `(batch, time, channels)` or `(batch, time, frequency, channels)`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from keras import layers

from musicnet_tf.errors import ConfigError

Size = int | tuple[int, int]
"""Along time, or along time and frequency; one number stands for both."""


def batch_norm(**options: Any) -> layers.BatchNormalization:
    """Normalisation of each channel by batches, with the constants of PyTorch, in which these families were written."""
    return layers.BatchNormalization(momentum=0.9, epsilon=1e-5, synchronized=True, **options)


def convolve(
    x: Any, filters: int, kernel: Size = 3, strides: Size = 1, use_bias: bool = True, dilation: Size = 1
) -> Any:
    """A convolution over all axes that `x` has, and normalisation, without a nonlinearity."""
    layer = layers.Conv1D if len(x.shape) == 3 else layers.Conv2D
    options = {"strides": strides, "dilation_rate": dilation, "use_bias": use_bias}
    return batch_norm()(layer(filters, kernel, padding="same", **options)(x))


def rectified(x: Any, filters: int, kernel: Size = 3, strides: Size = 1, use_bias: bool = True) -> Any:
    """`convolve`, then ReLU."""
    return layers.ReLU()(convolve(x, filters, kernel, strides, use_bias))


def pool(x: Any, size: Size, kind: str = "max") -> Any:
    """Maxima (`max`) or means (`average`) of cells that do not overlap; what is left over is dropped.

    Raises:
        ConfigError: where there is less than one cell.
    """
    rank = len(x.shape) - 2
    sizes = (size,) * rank if isinstance(size, int) else size
    for axis, length, wanted in zip(("frames", "bands"), x.shape[1:], sizes, strict=False):
        if length < wanted:
            raise ConfigError(
                f"{length} {axis} are left where {wanted} are pooled: take longer chunks, more bands or less pooling"
            )
    name = f"{'Max' if kind == 'max' else 'Average'}Pooling{rank}D"
    return getattr(layers, name)(size)(x)


def convolve_and_pool(x: Any, filters: int, size: Size, kernel: Size = 3, strides: Size = 1) -> Any:
    """Convolution, normalisation, ReLU, maxima."""
    return pool(rectified(x, filters, kernel, strides), size)


def residual(
    x: Any,
    filters: int,
    kernel: Size = 3,
    strides: Size = 1,
    use_bias: bool = True,
    gate: Callable[[Any], Any] | None = None,
    past: Size | None = None,
) -> Any:
    """Two convolutions, through a gate where there is one, beside a way that has one where shapes differ.

    Its kernel is that of the two, or `past`.
    """
    added = convolve(rectified(x, filters, kernel, strides, use_bias), filters, kernel, use_bias=use_bias)
    added = gate(added) if gate else added
    if strides != 1 or x.shape[-1] != filters:
        x = convolve(x, filters, kernel if past is None else past, strides, use_bias)
    return layers.ReLU()(layers.add([x, added]))


def squeeze_and_excite(x: Any) -> Any:
    """Scales each channel by a gate between 0 and 1 that is told from the means of all (Hu et al. 2018).

    As many units as channels are between the two, as Won et al. (2020) have it.
    """
    channels = x.shape[-1]
    gate = layers.GlobalAveragePooling1D(keepdims=True)(x)
    gate = layers.Dense(channels, activation="relu")(gate)
    return layers.multiply([x, layers.Dense(channels, activation="sigmoid")(gate)])


def dense(x: Any, units: int) -> Any:
    """A dense layer, normalisation, ReLU."""
    return layers.ReLU()(batch_norm()(layers.Dense(units)(x)))
