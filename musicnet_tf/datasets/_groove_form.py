"""The form of a piece: sections of bars, who plays in each, where kits fill and pause, and the tempo of every beat."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from musicnet_tf.datasets import _groove_harmony as harmony
from musicnet_tf.datasets._draws import one_of
from musicnet_tf.datasets._groove_style import Style

_BAND = frozenset({"kit", "bass", "chords", "lead"})
_INTROS = (
    *(frozenset({"chords"}), frozenset({"chords", "lead"}), frozenset({"kit"}), frozenset({"bass", "chords"})),
    *(frozenset({"kit", "bass"}), frozenset({"bass", "kit", "chords"})),
)
_VERSES = (_BAND, _BAND, _BAND - {"lead"}, _BAND - {"chords"})
_LENGTHS = (4, 8, 8, 8, 12, 16)
_BREAK = (
    frozenset({"lead", "chords"}),
    frozenset({"bass", "chords", "lead"}),
    frozenset({"lead"}),
    frozenset({"bass"}),
)
_TEMPO_RANGE = (40.0, 225.0)


@dataclasses.dataclass(frozen=True)
class Material:
    """What one letter of a form is made of, the same each time that it comes.

    Attributes:
        drums: by voice, a pattern without numbers.
        bass, chords, lead: patterns; of the lead, without numbers.
        progression: chords of bars in turn.
        scale: pitch classes of the lead.
        inversion: of the chords.
        level: of velocities, about 1.
    """

    style: Style
    drums: dict[str, str]
    bass: str
    chords: str
    lead: str
    progression: list[tuple[harmony.Chord, ...]]
    scale: tuple[int, ...]
    inversion: int
    level: float


class Bar(NamedTuple):
    """One bar as played: `first` counts beats from the piece's first, `number` bars of the section, from 0.

    A pickup begins at a `position` above 1; `fill` is the share of the bar that the kit fills at its end.
    """

    material: Material
    first: int
    position: int
    beats: int
    number: int
    parts: frozenset[str]
    fill: float = 0.0
    crash: bool = False

    @property
    def chords(self) -> tuple[harmony.Chord, ...]:
        return self.material.progression[self.number % len(self.material.progression)]


def material(style: Style, tonic: int, rng: np.random.Generator) -> Material:
    """Draws what a letter is made of."""
    progression = harmony.progression(style.harmony, tonic, rng)
    drums = dict(one_of(style.drums, rng)) if style.drums else {}
    if set(drums) & {"hat", "ride"} and rng.random() < 0.2:  # the same on another cymbal
        swap = {"hat": "ride", "ride": "hat"}
        drums = {swap.get(voice, voice): pattern for voice, pattern in drums.items()}
    return Material(
        style=style,
        drums={voice: _settled(pattern, rng) for voice, pattern in drums.items()},
        bass=one_of(style.bass, rng).replace(" ", ""),
        chords=one_of(style.chords, rng).replace(" ", ""),
        lead=_settled(one_of(style.lead, rng), rng),
        progression=progression,
        scale=harmony.scale(style.harmony, progression[0][0], tonic),
        inversion=int(rng.integers(4)),
        level=float(rng.uniform(0.8, 1.05)),
    )


def form(materials: Sequence[Material], num_beats: int, rng: np.random.Generator) -> list[Bar]:
    """Bars of at least so many beats: a pickup and an introduction, where there is one, then sections in turn.

    The first material comes most, the others between.
    """
    bars: list[Bar] = []
    first = materials[0]
    if first.style.beats > 1 and rng.random() < 0.25:
        position = int(rng.integers(2, first.style.beats + 1))
        parts = frozenset({"lead"}) if rng.random() < 0.6 or not first.drums else frozenset({"kit"})
        bars.append(Bar(first, 0, position, first.style.beats - position + 1, 0, parts, fill=float("kit" in parts)))
    if first.drums and rng.random() < 0.15:
        bars += _section(first, _end(bars), 1, frozenset({"count"}), rng)
    elif rng.random() < 0.6:
        bars += _section(first, _end(bars), one_of((2, 4, 4, 8), rng), one_of(_INTROS, rng), rng)
    while _end(bars) < num_beats:
        chosen = first if rng.random() < 0.55 else one_of(materials, rng)
        parts = one_of(_INTROS, rng) if rng.random() < 0.12 else one_of(_VERSES, rng)
        bars += _section(chosen, _end(bars), one_of(_LENGTHS, rng), parts, rng)
    return bars


def beats_per_minute(bars: Sequence[Bar], tempo: float, rng: np.random.Generator) -> np.ndarray:
    """The tempo of every beat, from it to the next: of its style, with ramps and changes from bar to bar."""
    factor, target, found = 1.0, 1.0, []
    change, ramp = rng.random() < 0.12, rng.random() < 0.2
    for before, bar in zip([None, *bars[:-1]], bars, strict=True):
        if before is not None and bar.number == 0:
            if change and rng.random() < 0.4:
                factor = target = float(np.clip(factor * rng.uniform(0.8, 1.25), 0.75, 1.35))
            elif ramp and rng.random() < 0.5:
                target = float(np.clip(target * rng.uniform(0.85, 1.18), 0.8, 1.3))
        low, high = bar.material.style.tempo
        for _ in range(bar.beats):
            found.append(float(np.clip(tempo, 0.9 * low, 1.1 * high)) * factor)
            factor += (target - factor) * 0.12
    return np.clip(found, *_TEMPO_RANGE)


def retarded(bpm: np.ndarray, depth: float, num_beats: int) -> np.ndarray:
    """The tempi with the last `num_beats` slower, evenly to `1 - depth`."""
    slower = np.ones(len(bpm))
    slower[-num_beats:] = np.linspace(1.0, 1.0 - depth, num_beats + 1)[1:][-len(bpm) :]
    return bpm * slower


def _section(chosen: Material, first: int, length: int, parts: frozenset[str], rng: np.random.Generator) -> list[Bar]:
    """Bars of one section: a crash at its head, a fill or a break at its end, now and then a bar cut short."""
    if not chosen.drums:
        parts = parts - {"kit"} or _BAND - {"kit"}
    bars = []
    crash = rng.random() < 0.7
    pause = int(rng.integers(length)) if length > 2 and rng.random() < 0.25 else -1
    short = length > 4 and chosen.style.beats > 2 and rng.random() < 0.05
    for index in range(length):
        last = index == length - 1
        playing = one_of(_BREAK, rng) if index == pause else parts
        fill = one_of((0.25, 0.5, 0.5, 1.0), rng) if rng.random() < (0.75 if last else 0.04) else 0.0
        beats = chosen.style.beats - (chosen.style.beats // 2 if short and last else 0)
        bars.append(Bar(chosen, first, 1, beats, index, playing, fill, crash and index == 0))
        first += beats
    return bars


def _end(bars: Sequence[Bar]) -> int:
    return bars[-1].first + bars[-1].beats if bars else 0


def _settled(pattern: str, rng: np.random.Generator) -> str:
    """The pattern with its numbers drawn: struck or not. What goes on from a note that is not struck is a rest."""
    drawn = ""
    for step in pattern.replace(" ", ""):
        if step.isdigit():
            step = "x" if 10 * rng.random() < int(step) else "."
        drawn += "." if step == "-" and drawn[-1:] in ("", ".") else step
    return drawn
