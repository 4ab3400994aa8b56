"""MusicXML, plain or compressed → scores as written.

Read here, and not by a library, for neither fits: partitura leaves metronome marks and transposition to its
caller, music21 tells all but takes some ten seconds and 400 MB for a quartet that takes one or two seconds here.
Notes agree with partitura's, save for the cues, which it counts as notes.
"""

from __future__ import annotations

import io
import logging
import zipfile
import zlib
from collections import defaultdict
from fractions import Fraction
from itertools import accumulate, pairwise
from pathlib import Path
from xml.etree.ElementTree import Element, ParseError

import defusedxml.ElementTree
import numpy as np
from defusedxml.common import DefusedXmlException

from musicnet_tf.errors import ScoreError
from musicnet_tf.events import Beats, Notes, Score
from musicnet_tf.scores.meter import Bar, written_beats
from musicnet_tf.scores.musicxml_part import Measure, PartReader, WrittenNote
from musicnet_tf.scores.note_values import note_value
from musicnet_tf.scores.repeats import Sign, jumps
from musicnet_tf.scores.tempo import TempoMap

MAX_BYTES = 128 * 2**20
"""Of the XML, uncompressed. The longest of thirty string quartets has 9 MB, a symphony may have 60."""

_log = logging.getLogger(__name__)


def read_musicxml_score(path: str | Path, *, constant_tempo: bool = False) -> Score:
    """Reads MusicXML 1–4, partwise or timewise, plain or compressed (`.mxl`), as written: nothing is unfolded.

    Pitches sound (transposing instruments are transposed), tied notes are one. Grace notes are thirty-second
    notes that end where the note after them begins, or from the beginning of the score onwards where there
    is no room before it. Ornaments and tremolos are single notes. Left out are cues, unpitched percussion and notes
    without duration. A note that is tied back to nothing, as at the beginning of a second ending, is struck.

    A measure is as long as its longest part; an empty one, as its time signature says. Tempi are those of
    playback, or of metronome marks without one. Programs are those that the file tells, or follow from the
    names of instruments. A movement begins where the numbers of measures begin anew.

    Raises:
        ScoreError: where the file cannot be read, is no MusicXML, is larger than `MAX_BYTES`, declares
            entities, or holds a number, pitch or tempo that cannot be.
    """
    root = _parse(path, _xml(path))
    readers = _parts(path, root)
    parts = [reader.read() for reader in readers]
    dropped = sum(reader.dropped for reader in readers)
    if dropped:
        _log.warning("%s: %d notes without duration were dropped", path, dropped)
    begins = _begins(parts)
    # Of several marks at one place the last counts, and the first part is the conductor's.
    marks = [
        (float(begin + at), tempo)
        for part in reversed(parts)
        for begin, measure in zip(begins, part, strict=False)
        for at, tempo in measure.tempi
    ]
    tempo_map = TempoMap([] if constant_tempo else marks, path)
    notes = [note for part in parts for note in _joined(part, begins)]
    start, length = (np.array([float(x) for x in c]) for c in ([n.start for n in notes], [n.length for n in notes]))
    onset, offset = tempo_map.seconds(start), tempo_map.seconds(start + length)
    pitch, program = np.array([(n.pitch, n.program) for n in notes], np.int64).reshape(-1, 2).T
    leaps = jumps(_signs(parts, begins), begins[-1])
    return Score(
        Notes(onset, offset, pitch, None, program, start, length, note_value(length)),  # type: ignore[arg-type]
        np.unique(tempo_map.seconds(np.array(begins[:-1], np.float64))),
        tempo_map.seconds(np.array(leaps, np.float64).reshape(-1, 2)),
        _beats(parts, begins, tempo_map),
    )


def _beats(parts: list[list[Measure]], begins: list[Fraction], tempo_map: TempoMap) -> Beats:
    """By the time signatures of the longest part, the first of several."""
    longest = max(parts, key=len, default=[])
    lengths = (end - begin for begin, end in pairwise(begins))
    bars = [Bar(length, m.nominal, m.beat) for length, m in zip(lengths, longest, strict=True)]
    beats = written_beats([bar for bar in bars if bar.length])
    places = np.array([float(place) for place, _ in beats])
    return Beats(tempo_map.seconds(places), [position for _, position in beats])  # type: ignore[arg-type]


def _begins(parts: list[list[Measure]]) -> list[Fraction]:
    """Where each measure begins, and where the last ends, in quarter notes."""
    count = max((len(part) for part in parts), default=0)
    lengths = []
    for index in range(count):
        same = [part[index] for part in parts if index < len(part)]
        lengths.append(max(m.filled for m in same) or max(m.nominal for m in same))
    return [Fraction(0), *accumulate(lengths)]


def _signs(parts: list[list[Measure]], begins: list[Fraction]) -> list[Sign]:
    signs = []
    for part in parts:
        for begin, end, measure in zip(begins, begins[1:], part, strict=False):
            signs += [Sign(kind, end if at is None else begin + at, label) for kind, at, label in measure.signs]
    if parts:
        numbers = [(begin, measure.number) for begin, measure in zip(begins, parts[0], strict=False)]
        numbered = [(begin, int(number)) for begin, number in numbers if number.isdecimal() and len(number) < 9]
        for (_, before), (begin, number) in pairwise(numbered):
            if number <= 1 and number <= before and before > 0:
                signs.append(Sign("movement", begin))
    return signs


def _joined(part: list[Measure], begins: list[Fraction]) -> list[WrittenNote]:
    """A part's notes at their places in the score, tied ones as one."""
    notes: list[WrittenNote] = []
    open_ties: dict[tuple[int, Fraction], list[int]] = defaultdict(list)
    placed = [
        note._replace(start=begin + note.start) for begin, m in zip(begins, part, strict=False) for note in m.notes
    ]
    for note in sorted(placed, key=lambda note: note.start):
        tied = open_ties[note.pitch, note.start] if note.tie_stops else []
        if tied:
            index = tied.pop()
            notes[index] = notes[index]._replace(length=notes[index].length + note.length)
        else:
            index = len(notes)
            notes.append(note)
        if note.tie_starts:
            open_ties[note.pitch, note.start + note.length].append(index)
    return notes


def _parts(path: str | Path, root: Element) -> list[PartReader]:
    """The parts in order, timewise scores turned by ninety degrees."""
    measures: dict[str, list[tuple[str, Element]]] = defaultdict(list)
    if root.tag == "score-partwise":
        for part in root.findall("part"):
            measures[part.get("id", "")] += [(m.get("number", ""), m) for m in part.findall("measure")]
    else:
        for measure in root.findall("measure"):
            for part in measure.findall("part"):
                measures[part.get("id", "")].append((measure.get("number", ""), part))
    told = {part.get("id", ""): part for part in root.iterfind("part-list/score-part")}
    return [PartReader(path, told.get(id_, Element("score-part", id=id_)), music) for id_, music in measures.items()]


def _parse(path: str | Path, xml: bytes) -> Element:
    try:
        root = defusedxml.ElementTree.fromstring(xml, forbid_entities=True, forbid_external=True)
    except DefusedXmlException as error:
        raise ScoreError(f"{path}: declares XML entities, which no MusicXML needs; export the score again") from error
    except (ParseError, ValueError, LookupError) as error:
        raise ScoreError(f"{path}: not readable XML ({error}); export the score again") from error
    if root.tag not in ("score-partwise", "score-timewise"):
        raise ScoreError(f"{path}: XML, but not MusicXML (its root is {root.tag[:40]!r}, not 'score-partwise')")
    return root


def _xml(path: str | Path) -> bytes:
    """The bytes of the XML. Nothing is unpacked to disk."""
    try:
        with Path(path).open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ScoreError(f"{path}: cannot be read ({error.strerror})") from error
    if not data:
        raise ScoreError(f"{path}: the file is empty")
    if data[:2] == b"PK" or Path(path).suffix.lower() == ".mxl":
        return _unzipped(path, data)
    return _limited(path, data)


def _unzipped(path: str | Path, data: bytes) -> bytes:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            name = _rootfile(path, archive)
            with archive.open(name) as file:
                return _limited(path, file.read(MAX_BYTES + 1))
    except KeyError as error:
        raise ScoreError(f"{path}: the archive lacks its score ({error.args[0]}); export the score again") from error
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, NotImplementedError, ValueError) as error:
        raise ScoreError(f"{path}: not a readable .mxl archive ({error}); export the score again") from error


def _rootfile(path: str | Path, archive: zipfile.ZipFile) -> str:
    """The member that the container names, or else the first score."""
    if "META-INF/container.xml" in archive.namelist():
        with archive.open("META-INF/container.xml") as file:
            container = file.read(2**20)
        try:
            root = defusedxml.ElementTree.fromstring(container, forbid_entities=True, forbid_external=True)
        except (DefusedXmlException, ParseError, ValueError, LookupError) as error:
            raise ScoreError(f"{path}: META-INF/container.xml is not readable ({error}); export it again") from error
        for rootfile in root.iterfind(".//{*}rootfile"):
            if rootfile.get("full-path"):
                return str(rootfile.get("full-path"))
    suffixes = (".xml", ".musicxml")
    scores = [n for n in archive.namelist() if n.lower().endswith(suffixes) and not n.startswith("META-INF/")]
    if not scores:
        raise ScoreError(f"{path}: the archive holds no MusicXML")
    return scores[0]


def _limited(path: str | Path, data: bytes) -> bytes:
    if len(data) > MAX_BYTES:
        raise ScoreError(f"{path}: more than {MAX_BYTES >> 20} MiB of XML; split the score by movements")
    return data
