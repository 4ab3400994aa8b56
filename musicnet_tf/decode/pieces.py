"""Heads that arrive in pieces → pieces that can be decided on, whose peaks do not depend on where they were cut."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from musicnet_tf.decode.peaks import LOOKAHEAD, Peaks
from musicnet_tf.errors import ModelError

_HEADS = ("frame", "onset", "offset", "velocity")


class Piece(NamedTuple):
    """Consecutive frames of a recording.

    Attributes:
        first_frame: index of the first of them.
        heads: head → activations `(frames, num_classes)`.
        around: the same with one frame before and `LOOKAHEAD` after, negative where the recording has none.
    """

    first_frame: int
    heads: dict[str, np.ndarray]
    around: dict[str, np.ndarray]

    def __len__(self) -> int:
        """Frames."""
        return len(self.heads["frame"])

    @property
    def num_classes(self) -> int:
        return self.heads["frame"].shape[1]

    def peaks(self, head: str, threshold: float) -> Peaks | None:
        """Those that begin in this piece; None where the model has no such head."""
        return Peaks(self.around[head], threshold, self.first_frame) if head in self.around else None


class Pieces:
    """Takes frames as they come, and gives them on once those that their peaks depend on are there, too.

    Args:
        kernel: odd number of weights by which the onset head is convolved in time (`matched_filter`); one weight
            leaves it as it is.
    """

    def __init__(self, kernel: np.ndarray) -> None:
        self._kernel = kernel
        self._reach = len(kernel) // 2
        self._heads: dict[str, np.ndarray] = {}  # from the frame before the first that was not given on
        self._raw_onset: np.ndarray | None = None  # whose convolution is not known yet, and what it needs from before
        self._frame = 0

    @property
    def look_ahead(self) -> int:
        """Frames after one that must be there before it is given on."""
        return self._reach + LOOKAHEAD

    def push(self, heads: Mapping[str, np.ndarray]) -> Piece:
        """Takes the next frames and gives those that are complete, maybe none.

        Raises:
            ModelError: where `frame` is missing, shapes differ, or an activation is not a number.
        """
        new = _checked(heads, self._heads)
        if not self._heads:
            before = np.full((1, new["frame"].shape[1]), -1.0, np.float32)
            self._heads = dict.fromkeys(new, before)
            self._raw_onset = np.repeat(np.zeros_like(before), self._reach, axis=0)
        return self._give(self._with_onset_filtered(new))

    def finish(self) -> Piece | None:
        """The last frames; None where nothing was ever pushed."""
        if not self._heads:
            return None
        nothing = {name: np.zeros((0, values.shape[1]), np.float32) for name, values in self._heads.items()}
        if self._reach and "onset" in self._heads:
            nothing["onset"] = np.zeros((self._reach, self._heads["onset"].shape[1]), np.float32)
        rest = self._with_onset_filtered(nothing)
        after = {name: np.pad(values, ((0, LOOKAHEAD), (0, 0)), constant_values=-1.0) for name, values in rest.items()}
        return self._give(after)

    def _with_onset_filtered(self, new: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The onset head comes `_reach` frames later than the others, where it is filtered."""
        if not self._reach or "onset" not in new:
            return new
        raw = np.concatenate([self._raw_onset, new["onset"]])
        count = len(raw) - 2 * self._reach
        if count <= 0:
            self._raw_onset = raw
            return {**new, "onset": new["onset"][:0]}
        filtered = sum(weight * raw[i : i + count] for i, weight in enumerate(self._kernel))
        self._raw_onset = raw[count:]
        return {**new, "onset": np.asarray(filtered, np.float32)}

    def _give(self, new: dict[str, np.ndarray]) -> Piece:
        self._heads = {name: np.concatenate([values, new[name]]) for name, values in self._heads.items()}
        count = max(0, min(map(len, self._heads.values())) - 1 - LOOKAHEAD)
        around = {name: values[: 1 + count + LOOKAHEAD] for name, values in self._heads.items()}
        piece = Piece(self._frame, {name: values[1 : 1 + count] for name, values in around.items()}, around)
        self._heads = {name: values[count:] for name, values in self._heads.items()}
        self._frame += count
        return piece


def matched_filter(half_width: float) -> np.ndarray:
    """Weights of a triangle of a half-width in frames, with sum 1; a single one up to a half-width of a frame.

    The onset head is trained for triangles round onsets. Where the model does not know exactly when a note began, its
    activation is low and broad; the filter that has the target's own shape gathers it.
    """
    reach = max(0, int(np.ceil(half_width)) - 1)
    triangle = 1 - np.abs(np.arange(-reach, reach + 1)) / max(half_width, 1.0)
    return triangle / triangle.sum()


def _checked(heads: Mapping[str, np.ndarray], before: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    if "frame" not in heads:
        raise ModelError(f"notes need a head 'frame', the model gives {', '.join(heads) or 'none'}")
    known = {name: np.asarray(heads[name], np.float32) for name in _HEADS if name in heads}
    if before and known.keys() != before.keys():
        raise ModelError(f"heads changed from {', '.join(before)} to {', '.join(known)} within a recording")
    shape = (len(known["frame"]), (before or known)["frame"].shape[1])
    for name, values in known.items():
        if values.shape != shape:
            raise ModelError(f"head {name!r} has shape {values.shape}, expected {shape} as of 'frame'")
        if not np.isfinite(values).all():
            raise ModelError(f"head {name!r} holds activations that are not numbers; the model is damaged")
    return known
