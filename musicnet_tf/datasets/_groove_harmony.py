"""Chords of a key: progressions as data, and the notes that bass, chords and lead take of them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from musicnet_tf.datasets._draws import one_of

_DEGREES = {"I": 0, "II": 2, "III": 4, "IV": 5, "V": 7, "VI": 9, "VII": 11}
_QUALITIES = {
    **{"": (0, 4, 7), "m": (0, 3, 7), "7": (0, 4, 7, 10), "m7": (0, 3, 7, 10), "M7": (0, 4, 7, 11), "o": (0, 3, 6)},
    **{"6": (0, 4, 7, 9), "m7b5": (0, 3, 6, 10), "sus": (0, 5, 7), "9": (0, 4, 10, 14)},
}
PROGRESSIONS = {
    "pop": (
        *("I V VIm IV", "I VIm IV V", "VIm IV I V", "I IV V IV", "I I IV V", "I IV I V", "IV I V VIm", "I bVII IV I"),
        *("I V/IV I V", "I IIIm IV V", "IIm V I VIm", "I Vsus/V VIm IV", "I IV IIm V", "I I/I7 IV IVm"),
        *("I VIm IIm V I IV V I", "I V I V IV I V I"),
    ),
    "minor": (
        *("Im bVII bVI V7", "Im IVm Im V7", "Im bVI bIII bVII", "Im7 IV7 Im7 IV7", "Im Im IVm V7", "Im bVII bVI bVII"),
        *("Im7 Im7 IVm7 Im7", "Im V7 Im IVm/V7", "Im7 bVIM7 IVm7 V7", "Im bVI IVm V7 Im bIII IVm V7"),
    ),
    "jazz": (
        *("IM7 VIm7 IIm7 V7", "IIm7 V7 IM7 VI7", "IM7 IIm7/V7 IM7 IIm7/V7", "IIIm7 VI7 IIm7 V7", "I6 I7 IVM7 IVm7"),
        *("Im7 IVm7 IIm7b5 V7", "IIm7 V7 IM7 IM7 IIm7b5 V7 Im7 Im7", "IM7 VI7 II7 V7"),
    ),
    "blues": (
        *("I7 I7 I7 I7 IV7 IV7 I7 I7 V7 IV7 I7 V7", "I7 IV7 I7 I7 IV7 IV7 I7 VI7 IIm7 V7 I7/VI7 IIm7/V7"),
        *("Im7 Im7 Im7 Im7 IVm7 IVm7 Im7 Im7 bVI7 V7 Im7 V7", "I7 IV7 I7 V7", "I I7 IV IVm"),
    ),
}
"""Families of progressions: a chord a bar, or two with `/` between them; roots by degrees of the major scale."""

_MAJOR, _MINOR, _BLUES = (0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10), (0, 2, 3, 4, 5, 7, 9, 10)
_BASS_RANGE, _CHORD_RANGE, _LEAD_RANGE = (28, 48), (53, 70), (62, 86)
_BASS_TONES = {"1": 0, "3": 1, "5": 2, "8": 3}


class Chord(NamedTuple):
    """Pitch class of the root, and its tones above that in semitones, ascending."""

    root: int
    tones: tuple[int, ...]

    @property
    def pitch_classes(self) -> tuple[int, ...]:
        return tuple((self.root + tone) % 12 for tone in self.tones)


def chord(symbol: str, tonic: int) -> Chord:
    """The chord that a symbol names in a key.

    >>> chord("bVIM7", 0)
    Chord(root=8, tones=(0, 4, 7, 11))
    """
    flat = symbol.startswith("b")
    plain = symbol.removeprefix("b")
    numeral = plain[: len(plain) - len(plain.lstrip("IV"))]
    return Chord((tonic + _DEGREES[numeral] - flat) % 12, _QUALITIES[plain.removeprefix(numeral)])


def progression(family: str, tonic: int, rng: np.random.Generator) -> list[tuple[Chord, ...]]:
    """The chords of each bar of one progression of a family."""
    bars = one_of(PROGRESSIONS[family], rng).split()
    return [tuple(chord(symbol, tonic) for symbol in bar.split("/")) for bar in bars]


def scale(family: str, first: Chord, tonic: int) -> tuple[int, ...]:
    """Pitch classes that a lead has over a progression, by its family and its first chord."""
    steps = _BLUES if family == "blues" else _MINOR if first.root == tonic and first.tones[1] == 3 else _MAJOR
    return tuple((tonic + step) % 12 for step in steps)


def voicing(harmony: Chord, inversion: int) -> list[int]:
    """The chord about the middle of the keyboard, ascending; `inversion` turns it."""
    classes = harmony.pitch_classes
    turned = classes[inversion % len(classes) :] + classes[: inversion % len(classes)]
    pitches = [_at_or_above(turned[0], _CHORD_RANGE[0])]
    for pitch_class in turned[1:]:
        pitches.append(_at_or_above(pitch_class, pitches[-1] + 1))
    return pitches


def root(harmony: Chord) -> int:
    """The root in the lowest octave that a bass has."""
    return _at_or_above(harmony.root, _BASS_RANGE[0])


def bass(degree: str, harmony: Chord, following: Chord, rng: np.random.Generator) -> int:
    """The pitch for one character of a bass's pattern."""
    low = root(harmony)
    if degree == "a":
        return root(following) + (-1 if root(following) > _BASS_RANGE[0] else 1)
    if degree == "w":
        return low + one_of(harmony.tones, rng) % 12
    tones = (*harmony.tones[:3], 12)
    pitch = low + tones[_BASS_TONES[degree]]
    return pitch - 12 if pitch > _BASS_RANGE[1] else pitch


def lead(previous: int, harmony: Chord, notes: tuple[int, ...], strong: bool, rng: np.random.Generator) -> int:
    """The next pitch of a lead: near the one before, a tone of the chord where the beat is strong."""
    wanted = harmony.pitch_classes if strong else notes
    low, high = _LEAD_RANGE
    near = [p for p in range(low, high + 1) if p % 12 in wanted and abs(p - previous) <= 7]
    away = np.abs(np.array(near) - previous)
    weight = np.exp(-away / 2.5) * np.where(away == 0, 0.4, 1.0)
    return near[int(rng.choice(len(near), p=weight / weight.sum()))]


def _at_or_above(pitch_class: int, low: int) -> int:
    return low + (pitch_class - low) % 12
