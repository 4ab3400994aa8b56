"""Activations of notes as hypothesis draws them, for the laws of decoders."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st


@st.composite
def posteriorgram(draw) -> dict[str, np.ndarray]:
    """Activations on a coarse grid, so that plateaus, ties and exact thresholds are common."""
    frames, seed = draw(st.integers(0, 60)), draw(st.integers(0, 2**32 - 1))
    names = ["frame", *draw(st.lists(st.sampled_from(["onset", "offset", "velocity"]), unique=True))]
    rng = np.random.default_rng(seed)
    return {name: (rng.integers(0, 5, (frames, 3)) / 4).astype(np.float32) for name in names}
