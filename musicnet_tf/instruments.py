"""Instruments by name: the tags that tell which of them sound, and the MIDI programs that these stand for."""

from __future__ import annotations

import numpy as np
import pretty_midi

from musicnet_tf.errors import ConfigError
from musicnet_tf.events import UNKNOWN, Notes, TagSpans
from musicnet_tf.registry import nearest

PROGRAMS: dict[str, int] = {
    "piano": 0,
    "harpsichord": 6,
    "violin": 40,
    "viola": 41,
    "cello": 42,
    "contrabass": 43,
    "horn": 60,
    "oboe": 68,
    "bassoon": 70,
    "clarinet": 71,
    "flute": 73,
}
"""The instruments of MusicNet → their General MIDI programs, counted from 0."""

_NAMES = {program: pretty_midi.program_to_instrument_name(program).lower() for program in range(128)}
_NAMES |= {program: name for name, program in PROGRAMS.items()}
_NUMBERS = {name: program for program, name in _NAMES.items()}


def name_of(program: int) -> str:
    """What a MIDI program 0–127 is called as a tag: `violin`; by General MIDI where MusicNet has it not: `tenor sax`.

    >>> name_of(60), name_of(66)
    ('horn', 'tenor sax')
    """
    return _NAMES[program]


def program_of(name: str) -> int:
    """The MIDI program that a tag stands for.

    Raises:
        ConfigError: where no instrument is called so.
    """
    if name not in _NUMBERS:
        raise ConfigError(
            f"no instrument is called {name!r}{nearest(name, _NUMBERS)}; they are named as in General MIDI, in lower"
            f" case, and those of MusicNet {', '.join(PROGRAMS)}"
        )
    return _NUMBERS[name]


def spans_of_notes(notes: Notes) -> TagSpans:
    """The stretches in which each instrument sounds; notes whose instrument is not told are left out.

    Notes that overlap or follow one another without a gap make one stretch.
    """
    told = notes[notes.instrument != UNKNOWN]
    names = np.array([name_of(program) for program in told.instrument.tolist()], str)
    return TagSpans(told.onset, told.offset, names).merged()
