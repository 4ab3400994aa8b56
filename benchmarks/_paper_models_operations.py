"""How many floating-point operations the MusicNet paper's networks and their successors take, from their geometry.

A stretch of `W` points (`window_frames`) shares what its windows have in common as far as the network does. Counted are
matrix products and Fourier transforms, which are all that grows with the width of a layer; what is done once for each
number (ReLU, pooling, normalisation, the loss, the optimiser) is left out, so that the count is a lower bound. A
multiply-add is two operations.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

from musicnet_tf.models import Model
from musicnet_tf.models.filterbank_mlp import FilterbankMlp, FilterbankModel
from musicnet_tf.models.linear_spectrogram import LinearSpectrogram
from musicnet_tf.models.mlp import Mlp
from musicnet_tf.models.translation_invariant import TranslationInvariant
from musicnet_tf.models.waveform_cnn import WaveformCnn

NOTES = 128
"""Outputs of every model of the paper."""


@dataclasses.dataclass(frozen=True)
class Product:
    """A layer's matrix product over a whole stretch.

    Attributes:
        multiply_adds: of the forward direction. Each of the two products of the backward direction, for the weights'
            gradient and for the input's, takes as many.
        trained: whether the weights have a gradient.
        passes_back: whether layers below are trained, so that the input needs a gradient.
        float32: whether the layer computes in float32 whatever the policy.
    """

    multiply_adds: int
    trained: bool = True
    passes_back: bool = False
    float32: bool = False

    def operations(self, training: bool) -> int:
        """Forward alone, or with what training needs of the backward direction."""
        return 2 * self.multiply_adds * (1 + training * (self.trained + self.passes_back))


def operations(model: Model, training: bool, policy: str = "float32") -> dict[str, float]:
    """Floating-point operations of one point by the type that they are done in, such as `bfloat16`.

    The formulas, of a stretch of `W` points, in multiply-adds forward:

    - `linear_spectrogram`: `W * n * 128`, and `W` real transforms of `N = 2n` samples at `2.5 N log2(N)` operations,
      half of what is customary for complex ones.
    - `mlp`: `W * hidden * (window + 128)`; windows share no product, as each sample meets another weight in each.
    - `waveform_cnn`: `regions * receptive_field * hidden`, with `R + (W - 1) * hop / stride` regions where `stride`
      divides the hop and `W * R` where not; then `W * hidden * 128`, times `R` where nothing is pooled.
    - `filterbank_mlp`, `translation_invariant`: `frames * filter_length * 2 * num_filters` of the fixed bank, with
      `T + (W - 1) * hop / stride` frames, `T` of one window. Then `W * T * num_filters * hidden + W * hidden * 128`
      (without a hidden layer `W * T * num_filters * 128`), or, with `P` places along frequency,
      `frames * P * width * layer_2 + W * T * P * layer_2 * layer_3 + W * P * layer_3 * 128`.

    Training adds a product of the same size for each trained layer's weights, and one for its input but in the first
    trained layer; what is fixed and the transforms below it are only computed forward.

    Args:
        model: whose `window_frames` is `W`.
        training: forward and backward, or forward alone.
        policy: of mixed precision, as `train.mixed_precision`.
    """
    points = model.spec().num_frames
    done: dict[str, float] = {}
    for product in products(model):
        dtype = "float32" if product.float32 else policy.removeprefix("mixed_")
        done[dtype] = done.get(dtype, 0.0) + product.operations(training) / points
    if isinstance(model, LinearSpectrogram):
        done["float32"] += real_transform(2 * model.points)
    return done


def real_transform(size: int) -> float:
    """Operations of the Fourier transform of so many real numbers, as is customary to count them."""
    return 2.5 * size * math.log2(size)


def floor(done: Mapping[str, float], rates: Mapping[str, float]) -> float:
    """Seconds that operations take at the rates measured for their types, in operations a second."""
    return sum(count / rates[dtype] for dtype, count in done.items())


def products(model: Model) -> list[Product]:
    """The matrix products of one stretch, from the audio on.

    Raises:
        TypeError: where the model is none of the paper's.
    """
    if isinstance(model, LinearSpectrogram):
        return [Product(model.window_frames * model.points * NOTES, float32=True)]
    if isinstance(model, Mlp):
        points = model.window_frames
        return [
            Product(points * model.window * model.hidden),
            Product(points * model.hidden * NOTES, passes_back=True, float32=True),
        ]
    if isinstance(model, WaveformCnn):
        return _waveform_cnn(model)
    if isinstance(model, FilterbankModel):
        return _filterbank(model)
    raise TypeError(f"no formula for model {model.name!r}")


def _waveform_cnn(model: WaveformCnn) -> list[Product]:
    points, own = model.window_frames, model.num_regions
    shared = model.hop_length % model.stride == 0
    regions = own + (points - 1) * model.hop_length // model.stride if shared else points * own
    filters = Product(regions * model.receptive_field * model.hidden)
    if model.pooling == "none":
        return [filters, Product(points * own * model.hidden * NOTES, passes_back=True)]
    return [filters, Product(points * model.hidden * NOTES, passes_back=True, float32=True)]


def _filterbank(model: FilterbankModel) -> list[Product]:
    points, own = model.window_frames, model.map_frames
    frames = own + (points - 1) * model.hop_length // model.stride
    bank = Product(frames * model.filter_length * 2 * model.num_filters, trained=False, float32=True)
    if isinstance(model, TranslationInvariant):
        places = (model.num_filters - model.width) // model.frequency_stride + 1
        return [
            bank,
            Product(frames * places * model.width * model.layer_2),
            Product(points * own * places * model.layer_2 * model.layer_3, passes_back=True),
            Product(points * places * model.layer_3 * NOTES, passes_back=True),
        ]
    if not isinstance(model, FilterbankMlp):
        raise TypeError(f"no formula for model {model.name!r}")
    if not model.hidden:
        return [bank, Product(points * own * model.num_filters * NOTES)]
    return [
        bank,
        Product(points * own * model.num_filters * model.hidden),
        Product(points * model.hidden * NOTES, passes_back=True, float32=True),
    ]
