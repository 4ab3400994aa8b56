"""Lengths in quarter notes → the names that MusicNet's labels give them."""

from __future__ import annotations

import numpy as np

_QUARTERS = {
    "Triplet Sixty Fourth": 1 / 24,
    "Sixty Fourth": 1 / 16,
    "Triplet Thirty Second": 1 / 12,
    "Thirty Second": 1 / 8,
    "Triplet Sixteenth": 1 / 6,
    "Sixteenth": 1 / 4,
    "Triplet": 1 / 3,
    "Dotted Sixteenth": 3 / 8,
    "Eighth": 1 / 2,
    "Dotted Eighth": 3 / 4,
    "Quarter": 1,
    "Tied Quarter-Thirty Second": 9 / 8,
    "Tied Quarter-Sixteenth": 5 / 4,
    "Dotted Quarter": 3 / 2,
    "Half": 2,
    "Dotted Half": 3,
    "Whole": 4,
}
"""Every name in the published labels but `Unknown`."""

_LENGTHS = np.array(list(_QUARTERS.values()))
_BOUNDS = np.concatenate([[_LENGTHS[0] / 2], (_LENGTHS[1:] + _LENGTHS[:-1]) / 2, [4.5]])
_NAMES = np.array(["Unknown", *_QUARTERS, "Unknown"])


def note_value(quarters: np.ndarray) -> np.ndarray:
    """The name of the nearest note value; `Unknown` below 1/48 and above 9/2 of a quarter note, as in MusicNet."""
    return _NAMES[np.searchsorted(_BOUNDS, quarters, side="right")]
