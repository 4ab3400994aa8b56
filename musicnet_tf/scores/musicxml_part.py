"""One part of a MusicXML score → its measures, with places relative to each."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from fractions import Fraction
from typing import NamedTuple
from xml.etree.ElementTree import Element

from musicnet_tf.errors import ScoreError
from musicnet_tf.scores.instruments import program_of
from musicnet_tf.scores.meter import beats_a_bar
from musicnet_tf.scores.repeats import SignKind

GRACE = Fraction(1, 8)
"""Quarter notes that a grace note takes."""

_STEPS = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
_ALTERS = {
    **{"sharp": "1", "natural-sharp": "1", "double-sharp": "2", "sharp-sharp": "2"},
    **{"flat": "-1", "natural-flat": "-1", "flat-flat": "-2", "double-flat": "-2"},
}
_BEAT_UNITS = {
    **{"breve": Fraction(8), "whole": Fraction(4), "half": Fraction(2), "quarter": Fraction(1)},
    **{"eighth": Fraction(1, 2), "16th": Fraction(1, 4), "32nd": Fraction(1, 8)},
}
_SOUND_SIGNS: dict[str, SignKind] = {
    **{"dacapo": "dacapo", "dalsegno": "dalsegno", "fine": "fine"},
    **{"tocoda": "to_coda", "segno": "segno", "coda": "coda"},
}
_WORDS: list[tuple[str, SignKind]] = [
    (r"(d\.? ?c\b|da capo\b)", "dacapo"),
    (r"(d\.? ?s\b|dal segno\b)", "dalsegno"),
    (r"fine\W*$", "fine"),
    (r"to coda\b", "to_coda"),
]
_AT_BEGINNING = {"segno", "coda"}


class WrittenNote(NamedTuple):
    """A note in quarter notes from the beginning of its measure, or, once joined, of the score."""

    start: Fraction
    length: Fraction
    pitch: int
    program: int
    tie_starts: bool = False
    tie_stops: bool = False


@dataclasses.dataclass
class Measure:
    """What one measure of one part holds.

    Attributes:
        number: as printed.
        nominal: quarter notes of the time signature.
        beat: quarter notes of one of its beats.
        filled: quarter notes that notes and rests fill.
        notes: with places from the beginning of the measure.
        tempi: (place, quarter notes a minute).
        signs: (kind, place or None for the end of the measure, label).
    """

    number: str
    nominal: Fraction = Fraction(4)
    beat: Fraction = Fraction(1)
    filled: Fraction = Fraction(0)
    notes: list[WrittenNote] = dataclasses.field(default_factory=list)
    tempi: list[tuple[Fraction, float]] = dataclasses.field(default_factory=list)
    signs: list[tuple[SignKind, Fraction | None, str]] = dataclasses.field(default_factory=list)


class PartReader:
    """Walks through the measures of a part as the cursor of the format does.

    Args:
        source: the file, which errors name.
        told: the `score-part` element: names and MIDI instruments.
        music: (number, element whose children are the music) for each measure.

    Attributes:
        dropped: notes without duration, which were left out.
    """

    def __init__(self, source: object, told: Element, music: list[tuple[str, Element]]) -> None:
        self._source, self._music = source, music
        self._measure = Measure("")
        self._name: str = told.findtext("part-name") or told.get("id") or ""
        self._programs = self._read_programs(told)
        self._default = next(iter(self._programs.values()), program_of(self._name))
        self._divisions = Fraction(1)
        self._nominal, self._beat = Fraction(4), Fraction(1)
        self._transposition: dict[str | None, int] = {}
        self.dropped = 0

    def read(self) -> list[Measure]:
        """All measures of the part, in order."""
        handlers: dict[str, Callable[[Element], None]] = {
            **{"attributes": self._attributes, "note": self._note, "backup": self._backup, "forward": self._forward},
            **{"direction": self._direction, "sound": self._sound, "barline": self._barline},
        }
        measures: list[Measure] = []
        for number, element in self._music:
            self._cursor = self._last = Fraction(0)
            self._first = not measures
            self._graces: list[tuple[int, int]] = []
            self._measure = Measure(number)
            for child in element:
                if child.tag in handlers:
                    handlers[child.tag](child)
            self._flush_graces()
            self._measure.nominal, self._measure.beat = self._nominal, self._beat
            measures.append(self._measure)
        return measures

    def _read_programs(self, told: Element) -> dict[str, int | None]:
        """Program by the id of each of the part's instruments; None for percussion."""
        programs: dict[str, int | None] = {}
        for instrument in told.findall("score-instrument"):
            names = (instrument.findtext("instrument-name"), instrument.findtext("instrument-sound"), self._name)
            programs[instrument.get("id", "")] = program_of(*names)
        for midi in told.findall("midi-instrument"):
            id_ = midi.get("id", "")
            if midi.findtext("midi-channel", "").strip() == "10":
                programs[id_] = None
            elif midi.find("midi-program") is not None:
                program = int(self._number_in(midi.findtext("midi-program"), "midi-program"))
                if not 1 <= program <= 128:
                    raise self._error(f"midi-program is {program}; it counts from 1 to 128")
                programs[id_] = program - 1
        return programs

    def _attributes(self, element: Element) -> None:
        if element.find("divisions") is not None:
            self._divisions = self._number_in(element.findtext("divisions"), "divisions")
            if self._divisions <= 0:
                raise self._error("divisions must be above 0")
        time = element.find("time")
        if time is not None and time.find("beats") is not None:
            self._nominal, self._beat = self._time(time)
        for transpose in element.findall("transpose"):
            octaves = self._number_in(transpose.findtext("octave-change", "0"), "octave-change")
            semitones = self._number_in(transpose.findtext("chromatic", "0"), "chromatic") + 12 * octaves
            self._transposition[transpose.get("number")] = round(semitones)

    def _time(self, time: Element) -> tuple[Fraction, Fraction]:
        """Quarter notes of a measure and of a beat; `3+2` over 8 and several pairs add up, in the shortest unit."""
        total, shortest = Fraction(0), Fraction(4)
        for beats, unit in zip(time.findall("beats"), time.findall("beat-type"), strict=False):
            size = self._number_in(unit.text, "beat-type")
            if size <= 0:
                raise self._error("beat-type must be above 0")
            total += sum(self._number_in(term, "beats") for term in (beats.text or "").split("+")) * 4 / size
            shortest = min(shortest, 4 / size)
        count = total / shortest
        if count < 1 or count.denominator != 1:
            return total, shortest
        return total, total / beats_a_bar(int(count), round(4 / shortest))

    def _note(self, element: Element) -> None:
        chord, grace = element.find("chord") is not None, element.find("grace") is not None
        if not grace:
            self._flush_graces()
        length = GRACE if grace else self._length(element)
        start = self._last if chord else self._cursor
        if not (chord or grace):
            self._last = self._cursor
            self._advance(length)
        program = self._program(element)
        pitch = element.find("pitch")
        if pitch is None or program is None or element.find("cue") is not None:
            return
        if not length:
            self.dropped += 1
            return
        ties = {tie.get("type") for tie in element.findall("tie") or element.findall("notations/tied")}
        starts, stops = ("start" in ties, "stop" in ties) if not grace else (False, False)
        note = WrittenNote(start, length, self._pitch(pitch, element), program, starts, stops)
        self._measure.notes.append(note)
        if grace:
            place = self._graces[-1][1] if chord and self._graces else len({g for _, g in self._graces})
            self._graces.append((len(self._measure.notes) - 1, place))

    def _flush_graces(self) -> None:
        """Gives the grace notes before the cursor their places: they end at it, where there is room."""
        count = 1 + max((place for _, place in self._graces), default=-1)
        begin = self._cursor - count * GRACE
        if self._first and begin < 0:
            begin = self._cursor
        for index, place in self._graces:
            self._measure.notes[index] = self._measure.notes[index]._replace(start=begin + place * GRACE)
        self._graces = []

    def _program(self, element: Element) -> int | None:
        instrument = element.find("instrument")
        return self._default if instrument is None else self._programs.get(instrument.get("id", ""), self._default)

    def _pitch(self, element: Element, note: Element) -> int:
        step, octave = element.findtext("step", "").strip(), element.findtext("octave")
        if step not in _STEPS:
            raise self._error(f"step is {step[:10]!r}; it must be one of A–G")
        written = _STEPS[step] + 12 * (self._number_in(octave, "octave") + 1)
        # Some files print an accidental and do not alter the pitch; what is printed is what is played.
        printed = _ALTERS.get(note.findtext("accidental", "").strip(), "0")
        written += self._number_in(element.findtext("alter", printed), "alter")
        concert = self._transposition.get(None, 0)
        pitch = round(written) + self._transposition.get(note.findtext("staff"), concert)
        if not 0 <= pitch <= 127:
            raise self._error(f"{step}{octave} sounds as MIDI number {pitch}, outside 0–127")
        return pitch

    def _backup(self, element: Element) -> None:
        self._flush_graces()
        self._cursor = max(self._cursor - self._length(element), Fraction(0))

    def _forward(self, element: Element) -> None:
        self._flush_graces()
        self._advance(self._length(element))

    def _advance(self, length: Fraction) -> None:
        self._cursor += length
        self._measure.filled = max(self._measure.filled, self._cursor)

    def _length(self, element: Element) -> Fraction:
        return max(self._number_in(element.findtext("duration", "0"), "duration"), Fraction(0)) / self._divisions

    def _direction(self, element: Element) -> None:
        sound = element.find("sound")
        if sound is not None:
            self._sound(sound)
        if sound is None or sound.get("tempo") is None:
            for metronome in element.iterfind("direction-type/metronome"):
                self._metronome(metronome)
        if sound is None or not _SOUND_SIGNS.keys() & sound.keys():
            self._printed(element)

    def _sound(self, element: Element) -> None:
        if element.get("tempo") is not None:
            self._measure.tempi.append((self._cursor, float(self._number_in(element.get("tempo"), "tempo"))))
        for attribute, kind in _SOUND_SIGNS.items():
            if element.get(attribute, "no") != "no":
                self._sign(kind, element.get(attribute, ""))

    def _metronome(self, element: Element) -> None:
        """A mark such as `dotted quarter = ca. 60`; equations of two note values tell no tempo."""
        number = re.search(r"\d{1,6}(\.\d{1,6})?", element.findtext("per-minute") or "")
        unit = _BEAT_UNITS.get(element.findtext("beat-unit", ""))
        if number and unit:
            dots = len(element.findall("beat-unit-dot"))
            length = unit * (2 - Fraction(1, 2 ** min(dots, 4)))
            self._measure.tempi.append((self._cursor, float(Fraction(number[0]) * length)))

    def _printed(self, element: Element) -> None:
        """Signs that are printed and not told for playback."""
        for printed in element.findall("direction-type/*"):
            if printed.tag == "segno" or printed.tag == "coda":
                self._sign("segno" if printed.tag == "segno" else "coda", "")
            elif printed.tag == "words":
                words = " ".join((printed.text or "").split())
                self._signs_in(words)

    def _signs_in(self, words: str) -> None:
        for pattern, kind in _WORDS:
            if re.match(pattern, words, re.IGNORECASE):
                self._sign(kind, "")
                return

    def _sign(self, kind: SignKind, label: str) -> None:
        """Where one jumps to is the beginning of a measure, where one jumps from or stops, its end."""
        self._measure.signs.append((kind, Fraction(0) if kind in _AT_BEGINNING else None, label))

    def _barline(self, element: Element) -> None:
        location = element.get("location", "right")
        place = {"left": Fraction(0), "middle": self._cursor}.get(location)
        repeat, ending = element.find("repeat"), element.find("ending")
        if repeat is not None:
            self._measure.signs.append(("forward" if repeat.get("direction") == "forward" else "backward", place, ""))
        if ending is not None:
            kind: SignKind = "ending_start" if ending.get("type") == "start" else "ending_stop"
            self._measure.signs.append((kind, place, ""))

    def _number_in(self, written: str | None, what: str) -> Fraction:
        text = (written or "").strip()
        if not re.fullmatch(r"[+-]?\d{1,12}(\.\d{1,12})?", text, re.ASCII):
            raise self._error(f"{what} is {text[:40]!r}, not a number")
        return Fraction(text)

    def _error(self, what: str) -> ScoreError:
        number = self._measure.number
        where = f"{self._source}, part {self._name[:40]!r}" + (f", measure {number[:20]}" if number else "")
        return ScoreError(f"{where}: {what}; correct it and export the score again")
