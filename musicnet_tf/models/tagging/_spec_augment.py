"""SpecAugment: stretches of time and of frequency that a network must do without in training."""

from __future__ import annotations

from typing import Any

import keras
import pydantic
from keras import ops


class Stripes(pydantic.BaseModel):
    """What `SpecAugment` masks of every example; the defaults are those of PANNs.

    Attributes:
        masks: along time, and as many along frequency.
        frames: which every mask along time is narrower than.
        bands: which every mask along frequency is narrower than.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    masks: int = pydantic.Field(default=2, gt=0)
    frames: int = pydantic.Field(default=64, gt=0)
    bands: int = pydantic.Field(default=8, gt=0)


class SpecAugment(keras.layers.Layer):
    """Masks frames, and bands, of each example in training (Park et al. 2019); `(batch, frames, bands, channels)`.

    A mask is as wide as chance has it, from 0 to below `frames` or `bands`, and lies anywhere; masks may overlap.
    What is masked becomes the mean of its example: of normalised spectra about 0, as in PANNs.

    Args:
        masks: along time, and as many along frequency.
        frames: which every mask along time is narrower than.
        bands: which every mask along frequency is narrower than.
        seed: of the draws; by default one that `keras.utils.set_random_seed` decides.
    """

    def __init__(
        self, masks: int = 2, frames: int = 64, bands: int = 8, seed: int | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.masks, self.frames, self.bands, self.seed = masks, frames, bands, seed
        self._draws = keras.random.SeedGenerator(seed)

    def call(self, spectra: Any, training: bool | None = None) -> Any:
        """Spectra → the same, masked where `training`."""
        if not training:
            return spectra
        batch = ops.shape(spectra)[0]
        times = self._masked(batch, spectra.shape[1], self.frames)[:, :, None, None]
        bands = self._masked(batch, spectra.shape[2], self.bands)[:, None, :, None]
        mean = ops.mean(spectra, axis=(1, 2), keepdims=True)
        return ops.where(ops.logical_or(times, bands), mean, spectra)

    def _masked(self, batch: Any, length: int, width: int) -> Any:
        """Which of `length` cells lie under a mask, bool `(batch, length)`."""
        shape = (batch, self.masks, 1)
        widths = ops.floor(keras.random.uniform(shape, 0, min(width, length + 1), "float32", self._draws))
        first = ops.floor(keras.random.uniform(shape, 0, 1, "float32", self._draws) * (length - widths + 1))
        cells = ops.arange(length, dtype="float32")
        return ops.any(ops.logical_and(cells >= first, cells < first + widths), axis=1)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        fields = {"masks": self.masks, "frames": self.frames, "bands": self.bands, "seed": self.seed}
        return {**super().get_config(), **fields}
