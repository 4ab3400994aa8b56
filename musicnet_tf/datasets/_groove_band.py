"""Bars → what each player of a band plays in them, in beats from the beginning of the piece."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from musicnet_tf.datasets import _groove_harmony as harmony
from musicnet_tf.datasets._draws import one_of
from musicnet_tf.datasets._groove_form import Bar
from musicnet_tf.datasets._groove_style import KEYS

_VELOCITIES = {"X": 112, "x": 92, "g": 44}
_GHOST_CHANCE = 0.7
_LEFT_OUT = 0.03
_FILL_VOICES = ("snare", "high tom", "middle tom", "low tom")
_STRUCK = 0.25  # beats that a drum sounds, as MIDI wants an end


class Event(NamedTuple):
    """A note: place and length in beats, as written; `pitch` is a key of the percussion map in the kit."""

    place: float
    length: float
    pitch: int
    velocity: float


def kit(bars: Sequence[Bar], rng: np.random.Generator) -> list[Event]:
    """What the drummer plays: patterns, fills, crashes; a count of sticks."""
    events = []
    for bar in bars:
        if "count" in bar.parts:
            events += [Event(bar.first + beat, _STRUCK, KEYS["stick"], 90.0) for beat in range(bar.beats)]
        if "kit" not in bar.parts:
            continue
        filled = bar.beats * (1.0 - bar.fill)
        if bar.fill:
            events += _fill(bar, filled, rng)
        if bar.crash:
            events.append(Event(bar.first, _STRUCK, KEYS["crash"], 105.0 * bar.material.level))
        for voice, pattern in bar.material.drums.items():
            for place, step, _ in _steps(pattern, bar):
                in_fill = bar.fill and place >= bar.first + filled and voice != "kick"
                if not in_fill and rng.random() >= (1 - _GHOST_CHANCE if step == "g" else _left_out(place)):
                    velocity = _VELOCITIES[step] * bar.material.level
                    events.append(Event(place, _STRUCK, KEYS[voice], velocity))
    return events


def bass(bars: Sequence[Bar], rng: np.random.Generator) -> list[Event]:
    """Roots, fifths and walks, as the pattern says."""
    events = []
    for bar, after in zip(bars, [*bars[1:], bars[-1]], strict=True):
        if "bass" not in bar.parts:
            continue
        for place, step, length in _steps(bar.material.bass, bar):
            here, following = _chord(bar, place), _chord_after(bar, after, place)
            pitch = harmony.bass(step, here, following, rng)
            events.append(Event(place, 0.92 * length, pitch, 90.0 * bar.material.level))
    return events


def chords(bars: Sequence[Bar], ring: bool, rng: np.random.Generator) -> list[Event]:
    """Chords struck, held or broken; with `ring`, broken ones sound to the end of their bar."""
    events = []
    for bar in bars:
        if "chords" not in bar.parts:
            continue
        for place, step, length in _steps(bar.material.chords, bar):
            here = _chord(bar, place)
            voices = harmony.voicing(here, bar.material.inversion)
            if step in "xX":
                pitches = voices
            elif step == "b":
                pitches = [harmony.root(here) + 12]
            else:
                octave, tone = divmod(int(step) - 1, len(voices))
                pitches = [voices[tone] + 12 * octave]
            if ring and step not in "xX":
                length = bar.first + bar.beats - place
            velocity = (70.0 + 8.0 * (place == bar.first) + 6.0 * (step == "X")) * bar.material.level
            events += [Event(place, 0.9 * length, pitch, velocity) for pitch in pitches]
    return events


def lead(bars: Sequence[Bar], rng: np.random.Generator) -> list[Event]:
    """A tune in the rhythm of each section, that rests now and then for two bars and rises where it leads in."""
    events, pitch, rests = [], int(rng.integers(67, 80)), False
    for bar in bars:
        if bar.number % 2 == 0:
            rests = bool(rng.random() < 0.15)
        pickup = bar.position > 1
        if "lead" not in bar.parts or (rests and not pickup and len(bar.parts) > 1):
            continue
        pattern = "x" * len(bar.material.lead) if pickup and bar.material.style.steps < 4 else bar.material.lead
        for place, _, length in _steps(pattern, bar):
            strong = place == int(place)
            pitch = harmony.lead(pitch, _chord(bar, place), bar.material.scale, strong, rng)
            velocity = (84.0 + 8.0 * (place == bar.first) + 4.0 * strong) * bar.material.level
            events.append(Event(place, 0.95 * length, pitch, velocity))
    return events


def swung(place: np.ndarray, swing: np.ndarray, parts: np.ndarray) -> np.ndarray:
    """Places in beats, with the second half of each beat, or of each of its `parts`, begun at the share `swing`.

    >>> swung(np.array([0.0, 0.25, 0.5, 0.75]), np.full(4, 0.6), np.ones(4)).tolist()
    [0.0, 0.3, 0.6, 0.8]
    """
    whole = np.floor(place * parts)
    within = place * parts - whole
    late = np.where(within < 0.5, 2 * within * swing, swing + (2 * within - 1) * (1 - swing))
    return (whole + late) / parts


def _left_out(place: float) -> float:
    """Now and then a stroke between beats is missing."""
    return 0.0 if place == int(place) else _LEFT_OUT


def _steps(pattern: str, bar: Bar) -> Iterator[tuple[float, str, float]]:
    """What is struck in a bar of a pattern: its place, its character, and how long it lasts, in beats."""
    style = bar.material.style
    size = style.beats * style.steps
    begin = bar.number * size % len(pattern)
    played = pattern[begin : begin + size][(bar.position - 1) * style.steps :][: bar.beats * style.steps]
    for step, character in enumerate(played):
        if character not in ".-":
            held = len(played[step + 1 :]) - len(played[step + 1 :].lstrip("-"))
            yield bar.first + step / style.steps, character, (1 + held) / style.steps


def _fill(bar: Bar, begin: float, rng: np.random.Generator) -> list[Event]:
    """Strokes down the drums from a beat of the bar to its end, louder and louder."""
    steps = bar.material.style.steps
    places = [k / steps for k in range(round(np.ceil(begin * steps)), bar.beats * steps)]
    sparse = rng.uniform(0.55, 1.0)
    events = []
    for k, place in enumerate(places):
        if place != int(place) and rng.random() > sparse:
            continue
        voice = _FILL_VOICES[min(len(_FILL_VOICES) * k // max(len(places), 1), 3)]
        voice = one_of(_FILL_VOICES, rng) if rng.random() < 0.2 else voice
        velocity = (76.0 + 30.0 * k / len(places)) * bar.material.level
        events.append(Event(bar.first + place, _STRUCK, KEYS[voice], velocity))
    return events


def _chord(bar: Bar, place: float) -> harmony.Chord:
    style = bar.material.style
    through = (place - bar.first + bar.position - 1) / style.beats
    return bar.chords[min(int(through * len(bar.chords)), len(bar.chords) - 1)]


def _chord_after(bar: Bar, after: Bar, place: float) -> harmony.Chord:
    """The chord that comes next, of this bar or of the one after it."""
    here = bar.chords.index(_chord(bar, place))
    return bar.chords[here + 1] if here + 1 < len(bar.chords) else after.chords[0]


def final(bar: Bar, place: float) -> dict[str, list[Event]]:
    """A last stroke of all, on the first chord of the last bar: a downbeat at `place`."""
    here, level = bar.material.progression[0][0], bar.material.level
    struck = {
        "bass": [harmony.root(here)],
        "chord": harmony.voicing(here, bar.material.inversion),
        "kit": [KEYS["kick"], KEYS["crash"]] if bar.material.drums else [],
    }
    return {part: [Event(place, 4.0, pitch, 96.0 * level) for pitch in pitches] for part, pitches in struck.items()}
