"""What a style of accompaniment is: metre, tempo, and what the kit, the bass, the chords and the lead play in a bar.

A pattern is text, one character a step; spaces are for the eye. It fills one bar or several, which then alternate.

In the kit, `x` is struck, `X` struck harder, and `g` struck softly and often left out. The bass has degrees of the
chord: `1` its root, `3`, `5`, `8` the octave, `w` any of its tones, `a` half a tone below the next root. Of the
chords, `x` is all tones, a number one of them from the lowest, `b` the root, low. The lead has `x`. In kit and lead a
number is struck in so many of ten sections. `.` is a rest, and where notes last, `-` goes on with what was struck.

`_groove_styles` has the styles.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from musicnet_tf.scores.meter import beats_a_bar

KEYS = {
    **{"kick": 36, "snare": 38, "stick": 37, "clap": 39, "hat": 42, "pedal": 44, "open": 46, "ride": 51, "bell": 53},
    **{"crash": 49, "low tom": 43, "middle tom": 47, "high tom": 50, "tambourine": 54, "cowbell": 56, "conga": 63},
    **{"low conga": 64, "maracas": 70, "claves": 75, "shaker": 69, "high bongo": 60, "low bongo": 61},
}
"""Of the General MIDI percussion map."""

STANDARD, ROOM, POWER, ELECTRONIC, ANALOGUE, JAZZ, BRUSH, ORCHESTRA = 0, 8, 16, 24, 25, 32, 40, 48
"""Kits: programs of the percussion channel in General MIDI Level 2."""

Drums = Mapping[str, str]


@dataclasses.dataclass(frozen=True)
class Style:
    """What a band in a style may play; each section of a piece draws one of each.

    Attributes:
        signature: of the time, from which beats follow as `scores.meter` counts them: 6/8 has two.
        steps: characters of a pattern in a beat.
        tempo: lowest and highest, in beats a minute.
        drums: by `KEYS`; empty where there is no kit.
        swing: where in its beat the second half begins, lowest and highest.
        swings: parts of a beat that swing, 1 or 2: eighths or sixteenths.
        loose: how human the timing is, as a share of what is set; 0 for machines.
        harmony: family of `_groove_harmony.PROGRESSIONS`.
        kits, bass_programs, chord_programs, lead_programs: General MIDI programs, one of which plays.
        weight: how often it is drawn, beside the others.
    """

    signature: tuple[int, int]
    steps: int
    tempo: tuple[float, float]
    drums: tuple[Drums, ...]
    bass: tuple[str, ...]
    chords: tuple[str, ...]
    lead: tuple[str, ...]
    harmony: str = "pop"
    kits: tuple[int, ...] = (STANDARD, ROOM, POWER)
    bass_programs: tuple[int, ...] = (33, 34)
    chord_programs: tuple[int, ...] = (0, 1, 4, 5, 16, 17, 25, 26, 27, 48)
    lead_programs: tuple[int, ...] = (0, 4, 11, 25, 26, 27, 29, 30, 40, 56, 64, 65, 66, 71, 73, 80, 81)
    swing: tuple[float, float] = (0.5, 0.5)
    swings: int = 1
    loose: float = 1.0
    weight: float = 1.0

    @property
    def beats(self) -> int:
        """Beats in a bar."""
        return beats_a_bar(*self.signature)
