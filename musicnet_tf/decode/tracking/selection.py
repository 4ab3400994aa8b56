"""Which of several models to believe."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def closest_to_mean(activations: Sequence[np.ndarray]) -> int:
    """The index of the model whose activations are nearest to the mean of all (Böck, Krebs & Widmer, ISMIR 2014).

    Each of the models learnt other music; the one that suits a recording is told by the least squared error.

    >>> closest_to_mean([np.array([0.0, 1.0]), np.array([0.1, 0.9]), np.array([0.9, 0.3])])
    1

    Args:
        activations: of the same frames, one array of any shape a model.

    Raises:
        ValueError: where there are none, or their shapes differ.
    """
    stacked = np.stack([np.asarray(values, np.float64) for values in activations])
    error = (stacked - stacked.mean(axis=0)) ** 2
    return int(np.argmin(error.reshape(len(stacked), -1).sum(axis=1)))
