"""Chance that depends on nothing but what it is for: the same on every machine, whatever else is drawn."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TypeVar

import numpy as np

T = TypeVar("T")


def generator(*parts: object) -> np.random.Generator:
    """Random numbers that belong to the parts: a seed, an id and what is drawn."""
    return np.random.default_rng(_digest(*parts))


def unit(*parts: object) -> float:
    """A number in [0, 1) that belongs to the parts."""
    return _digest(*parts) / 2**64


def pick(choices: Sequence[T], *parts: object) -> T:
    """The one of the choices that belongs to the parts, each as likely."""
    return choices[int(unit(*parts) * len(choices))]


def one_of(choices: Sequence[T], rng: np.random.Generator) -> T:
    """One of the choices, each as likely; none of them is turned into an array."""
    return choices[int(rng.integers(len(choices)))]


def _digest(*parts: object) -> int:
    return int.from_bytes(hashlib.sha256(":".join(map(str, parts)).encode()).digest()[:8], "big")
