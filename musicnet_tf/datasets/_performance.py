"""What a player adds to a score: tempo, its drift, chords that do not begin together, slow attacks, loudness."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from musicnet_tf import scores, synthesis
from musicnet_tf.events import Notes

_VELOCITY_RANGE = (45, 105)
_DRIFT_SECONDS = 4.0  # in which the tempo forgets where it was
_SHORTEST = 0.03


Pace = Callable[[np.ndarray], np.ndarray]
"""Seconds as written → seconds as played."""


def moved(notes: Notes, pace: Pace) -> Notes:
    """The notes as played."""
    return scores.with_columns(notes, onset=pace(notes.onset), offset=pace(notes.offset))


def at_tempo(factor: float) -> Pace:
    """All `factor` times as fast."""
    return lambda times: times / factor


def rubato(end: float, depth: float, rng: np.random.Generator) -> Pace:
    """A tempo that drifts from 0 to `end`.

    The logarithm of the speed is a random walk drawn back to 0 (Ornstein and Uhlenbeck) with standard deviation
    `depth`, drawn each second and held; order and coincidence of events stay.
    """
    num_seconds = int(np.ceil(end)) + 1
    kept = np.exp(-1.0 / _DRIFT_SECONDS)
    steps = rng.normal(0.0, depth, num_seconds) * np.sqrt(1.0 - kept**2)
    walk, at = np.zeros(num_seconds), float(rng.normal(0.0, depth))
    for k, step in enumerate(steps.tolist()):
        walk[k] = at
        at = kept * at + step
    played = np.concatenate([[0.0], np.cumsum(np.exp(-walk))])
    written = np.arange(num_seconds + 1)

    def pace(times: np.ndarray) -> np.ndarray:
        outside = np.minimum(times, 0.0) + np.maximum(times - num_seconds, 0.0)  # beats may lie there, no notes
        return np.interp(times, written, played) + outside

    return pace


def with_asynchrony(notes: Notes, seconds: float, rng: np.random.Generator) -> Notes:
    """The notes, each begun and ended early or late by a normally drawn time, at most three times `seconds`."""
    early, late = np.clip(rng.normal(0.0, seconds, (2, len(notes))), -3 * seconds, 3 * seconds)
    onset = np.maximum(notes.onset + early, 0.0)
    return scores.with_columns(notes, onset=onset, offset=np.maximum(notes.offset + late, onset + _SHORTEST))


def early(notes: Notes, soundfont: Path, attack_db: float | None) -> Notes:
    """The notes as they must be played on a soundfont to be heard at their onsets, by `synthesis.attack`.

    None of them begins before 0. Where `attack_db` is None, they are played as written.
    """
    if attack_db is None:
        return notes
    attacks = {p: synthesis.attack(soundfont, p, attack_db) for p in np.unique(notes.instrument).tolist()}
    lead = np.array([attacks[p] for p in notes.instrument.tolist()])
    return scores.without_overlaps(scores.with_columns(notes, onset=np.maximum(notes.onset - lead, 0.0)))


def curved(velocity: np.ndarray, exponent: float) -> np.ndarray:
    """Velocities as a keyboard of another touch gives them: 127 (v / 127) ** exponent, at least 1."""
    return np.clip(np.round(127.0 * (velocity / 127.0) ** exponent), 1, 127).astype(np.int64)


def wandering(onset: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Velocities `(n,)` of one instrument: a slow random walk, reflected into a range, with play from note to note."""
    low, high = _VELOCITY_RANGE
    steps = rng.normal(0.0, 6.0, len(onset)) * np.sqrt(np.diff(onset, prepend=onset[0]))
    walk = rng.uniform(0, high - low) + np.cumsum(steps)
    reflected = np.abs((walk + (high - low)) % (2 * (high - low)) - (high - low))
    return np.clip(np.round(low + reflected + rng.normal(0.0, 4.0, len(onset))), low, high).astype(np.int64)
