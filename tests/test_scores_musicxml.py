"""MusicXML by hand, and against what others say of published scores."""

import io
import re
import tarfile
import zipfile
from collections import Counter
from fractions import Fraction
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from musicxml_text import VIOLIN, attributes, document, note

from musicnet_tf import scores
from musicnet_tf.errors import ScoreError
from musicnet_tf.scores.instruments import program_of


@pytest.fixture
def read(tmp_path):
    def call(text, name="a.musicxml", **options):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return scores.read_score(path, **options)

    return call


def rows(score):
    """(quarter note, length, pitch)"""
    notes = score.notes
    return list(zip(notes.start_beat.tolist(), notes.end_beat.tolist(), notes.pitch.tolist(), strict=True))


def tie(*kinds):
    return "".join(f'<tie type="{kind}"/>' for kind in kinds)


class TestNotes:
    def test_chords_rests_and_accidentals(self, read):
        measure = (
            attributes(2) + note("C4", 2) + note("E4", 2, "chord") + note("R", 1) + note("F#4", 1) + note("Bb3", 4)
        )
        score = read(document([measure]))
        assert rows(score) == [(0, 1, 60), (0, 1, 64), (1.5, 0.5, 66), (2, 2, 58)]
        assert score.notes.note_value.tolist() == ["Quarter", "Quarter", "Eighth", "Half"]
        np.testing.assert_array_equal(score.notes.intervals(), [[0, 0.5], [0, 0.5], [0.75, 1], [1, 2]])
        assert set(score.notes.velocity) == {-1}

    def test_a_printed_accidental_counts_where_nothing_is_altered(self, read):
        sharp = "<accidental>sharp</accidental>"
        assert rows(read(document([attributes() + note("C4", 1, sharp) + note("Bb4", 1, sharp)]))) == [
            (0, 1, 61),
            (1, 1, 70),
        ]

    def test_voices(self, read):
        measure = attributes() + note("C5", 3) + "<backup><duration>3</duration></backup>" + note("C4", 1)
        measure += "<forward><duration>1</duration></forward>" + note("D4", 1)
        assert rows(read(document([measure]))) == [(0, 1, 60), (0, 3, 72), (2, 1, 62)]

    def test_tied_notes_are_one_over_bars_and_voices(self, read):
        first = attributes() + note("C4", 4, tie("start")) + note("E4", 4, "chord", tie("start"))
        second = (
            note("C4", 4, tie("stop", "start")) + "<backup><duration>4</duration></backup>" + note("E4", 1, tie("stop"))
        )
        third = note("C4", 1, tie("stop")) + note("C4", 1)
        assert rows(read(document([first, second, third]))) == [(0, 9, 60), (0, 5, 64), (9, 1, 60)]

    def test_ties_that_are_only_printed(self, read):
        start, stop = (f'<notations><tied type="{kind}"/></notations>' for kind in ("start", "stop"))
        assert rows(read(document([attributes() + note("C4", 1, start) + note("C4", 1, stop)]))) == [(0, 2, 60)]

    def test_what_is_tied_back_to_nothing_or_to_another_part_is_struck(self, read):
        one = attributes() + note("C4", 1, tie("start")) + note("R", 1) + note("C4", 1, tie("stop"))
        other = attributes() + note("R", 1) + note("C4", 1, tie("stop"))
        assert rows(read(document([one], [other]))) == [(0, 1, 60), (1, 1, 60), (2, 1, 60)]

    def test_transposing_instruments_sound(self, read):
        clarinet = "<transpose><diatonic>-1</diatonic><chromatic>-2</chromatic></transpose>"
        contrabass = "<transpose><chromatic>0</chromatic><octave-change>-1</octave-change></transpose>"
        in_a = attributes(1, None, "<transpose><chromatic>-3</chromatic></transpose>")
        parts = [
            [attributes(1, None, clarinet) + note("C5", 4), in_a + note("C5", 4)],
            [attributes(1, None, contrabass) + note("E3", 4)],
        ]
        assert rows(read(document(*parts))) == [(0, 4, 40), (0, 4, 70), (4, 4, 69)]

    def test_transposition_of_one_staff(self, read):
        more = '<transpose number="2"><chromatic>12</chromatic></transpose>'
        measure = attributes(1, None, more) + note("C4", 1, "<staff>1</staff>") + note("C4", 1, "<staff>2</staff>")
        assert rows(read(document([measure]))) == [(0, 1, 60), (1, 1, 72)]

    def test_grace_notes_end_where_the_next_note_begins(self, read):
        graces = note("D5", None, "grace") + note("E5", None, "grace") + note("G5", None, "grace", "chord")
        score = read(document([attributes() + note("C5", 1) + graces + note("F5", 1)]))
        assert rows(score) == [(0, 1, 72), (0.75, 0.125, 74), (0.875, 0.125, 76), (0.875, 0.125, 79), (1, 1, 77)]
        assert score.notes.note_value[1] == "Thirty Second"

    def test_grace_notes_reach_back_over_the_bar_but_not_before_the_beginning(self, read):
        graced = note("D5", None, "grace") + note("E5", None, "grace") + note("C5", 1)
        expected = [(0, 1, 72), (0, 0.125, 74), (0.125, 0.125, 76), (0.75, 0.125, 74), (0.875, 0.125, 76), (1, 1, 72)]
        assert rows(read(document([attributes() + graced, graced]))) == expected

    def test_cues_unpitched_notes_and_notes_without_duration_are_left_out(self, read, caplog):
        measure = attributes() + note("C5", 1, "cue") + note("x", 1) + note("D5", 0) + note("E5", 1)
        assert rows(read(document([measure]))) == [(2, 1, 76)]
        assert "1 notes without duration were dropped" in caplog.text

    def test_divisions_may_differ_between_parts_and_change(self, read):
        one = attributes(3) + note("C4", 1) * 3 + attributes(2) + note("D4", 1) * 2
        assert rows(read(document([one], [attributes(480) + note("C3", 960)]))) == [
            *[(0, 2, 48), (0, 1 / 3, 60), (1 / 3, 1 / 3, 60), (2 / 3, 1 / 3, 60), (1, 0.5, 62), (1.5, 0.5, 62)]
        ]


class TestMeasures:
    def test_a_pickup_an_empty_measure_and_parts_of_unequal_length(self, read):
        one = [attributes(1, (3, 4)) + note("C5", 1), note("C5", 2), "", note("C5", 1)]
        other = [attributes() + note("R", 1), note("C4", 3)]
        score = read(document(one, other))
        np.testing.assert_array_equal(score.measures, np.array([0, 1, 4, 7]) / 2)
        assert rows(score) == [(0, 1, 72), (1, 3, 60), (1, 2, 72), (7, 1, 72)]

    def test_compound_signatures(self, read):
        time = ("3+2", 8)
        score = read(document([attributes(1, time), note("C4", 1)]))
        np.testing.assert_array_equal(score.measures, [0, 1.25])

    def test_timewise_is_partwise_turned(self, read):
        one, other = [attributes() + note("C5", 4), note("D5", 4)], [attributes() + note("C4", 4), note("D4", 4)]
        head = (
            f'<part-list><score-part id="A">{VIOLIN}</score-part><score-part id="B">{VIOLIN}</score-part></part-list>'
        )
        measures = "".join(
            f'<measure number="{k}"><part id="A">{a}</part><part id="B">{b}</part></measure>'
            for k, (a, b) in enumerate(zip(one, other, strict=True), 1)
        )
        timewise = read(f"<score-timewise>{head}{measures}</score-timewise>")
        partwise = read(document(one, other))
        assert timewise.notes == partwise.notes
        np.testing.assert_array_equal(timewise.measures, partwise.measures)


class TestTempi:
    @staticmethod
    def metronome(unit, per_minute, dots=0):
        dots = "<beat-unit-dot/>" * dots
        mark = f"<beat-unit>{unit}</beat-unit>{dots}<per-minute>{per_minute}</per-minute>"
        return f"<direction><direction-type><metronome>{mark}</metronome></direction-type></direction>"

    def test_marks_of_playback_and_of_the_metronome(self, read):
        music = attributes() + self.metronome("half", "ca. 30") + note("C4", 1) + '<sound tempo="240"/>' + note("C4", 1)
        music += self.metronome("quarter", 40, dots=1) + note("C4", 1)  # 60 quarter notes a minute
        music += self.metronome("quarter", "allegro") + self.metronome("quarter", "") + note("C4", 1)
        np.testing.assert_allclose(read(document([music])).notes.onset, [0, 1, 1.25, 2.25])
        np.testing.assert_allclose(read(document([music]), constant_tempo=True).notes.onset, [0, 0.5, 1, 1.5])

    def test_playback_goes_before_print_and_the_first_part_before_others(self, read):
        both = self.metronome("quarter", 100).replace("</direction>", '<sound tempo="60"/></direction>')
        other = attributes() + self.metronome("quarter", 200) + note("C3", 4)
        assert read(document([attributes() + both + note("C4", 4)], [other])).notes.offset.tolist() == [4, 4]

    @pytest.mark.parametrize("value", ["0", "4.9", "1001"])
    def test_absurd_tempi(self, read, value):
        music = attributes() + note("C4", 2) + f'<sound tempo="{value}"/>' + note("C4", 2)
        with pytest.raises(ScoreError, match=rf"a\.musicxml: a tempo of {value} .* at quarter note 2 \(1\.0 s\)"):
            read(document([music]))
        assert read(document([music]), constant_tempo=True).notes.end == 2


class TestInstruments:
    def midi(self, id_, *children):
        return f'<midi-instrument id="{id_}">{"".join(children)}</midi-instrument>'

    def test_told_programs_count_from_one_and_channel_ten_is_drums(self, read):
        two = "".join(
            f'<score-instrument id="{i}"><instrument-name>Piano</instrument-name></score-instrument>' for i in "ab"
        )
        told = VIOLIN + two + self.midi("a", "<midi-program>72</midi-program>")
        drums = "<part-name>Kit</part-name>" + self.midi("d", "<midi-channel>10</midi-channel>")
        music = (
            attributes() + note("C4", 1) + note("D4", 1, '<instrument id="b"/>') + note("E4", 1, '<instrument id="a"/>')
        )
        score = read(document([music], [attributes() + note("C2", 3)], told=(told, drums)))
        assert score.notes.instrument.tolist() == [71, 0, 71]
        assert score.notes.pitch.tolist() == [60, 62, 64]

    def test_names_where_no_program_is_told(self, read):
        told = ["<part-name>Vc.</part-name>", "<part-name>Violoncello</part-name>", "<part-name>Theremin</part-name>"]
        sound = "<instrument-sound>strings.viola</instrument-sound>"
        told[0] = f'<score-instrument id="x"><instrument-name/>{sound}</score-instrument>'
        score = read(document(*[[attributes() + note(p, 1)] for p in ("C3", "D3", "E3")], told=told))
        assert score.notes.instrument.tolist() == [41, 42, -1]

    @pytest.mark.parametrize(
        ("name", "program"),
        [
            *[("Violin 1", 40), ("Violini II", 40), ("1st Violins", 40), ("Violoncelli", 42), ("Contrabasso", 43)],
            *[("Klarinette in B♭", 71), ("Flöte", 73), ("Hautbois", 68), ("Corno inglese", 69), ("Corni in F", 60)],
            *[
                ("Fagotto", 70),
                ("Piano, right hand", 0),
                ("Alto Saxophone", 65),
                ("Tenor", 52),
                ("keyboard.harpsichord", 6),
            ],
            *[("Bass Clarinet", 71), ("Tromba", 56), ("Trombone", 57), ("P1", -1), ("", -1), (None, -1)],
        ],
    )
    def test_names(self, name, program):
        assert program_of(name) == program


def barline(location, repeat=None, ending=None):
    repeat = f'<repeat direction="{repeat}"/>' if repeat else ""
    ending = '<ending number="{}" type="{}"/>'.format(*ending) if ending else ""
    return f'<barline location="{location}">{ending}{repeat}</barline>'


def direction(kind, sound=""):
    return f"<direction><direction-type>{kind}</direction-type>{sound}</direction>"


class TestJumps:
    """Measures of four quarter notes, two seconds each."""

    whole = attributes() + note("C4", 4)

    def test_repeats_and_endings(self, read):
        first = barline("left", None, ("1", "start")) + self.whole + barline("right", "backward", ("1", "stop"))
        second = barline("left", None, ("2", "start")) + self.whole + barline("right", None, ("2", "discontinue"))
        part = [self.whole, barline("left", "forward") + self.whole, first, second, self.whole]
        score = read(document(part, part))
        assert score.jumps.tolist() == [[4, 6], [6, 2]]
        assert len(score.notes) == 10, "nothing is unfolded"

    @pytest.mark.parametrize(
        ("fine", "capo"),
        [
            ('<sound fine="yes"/>', '<sound dacapo="yes"/>'),
            (direction("<words>Fine</words>"), direction("<words>D.C. al Fine</words>")),
            (direction("<words>fine.</words>", '<sound fine="yes"/>'), direction("<words>Da  Capo</words>")),
        ],
    )
    def test_da_capo_al_fine_however_told(self, read, fine, capo):
        score = read(document([self.whole, fine + self.whole, self.whole, self.whole + capo, self.whole]))
        assert score.jumps.tolist() == [[4, 10], [8, 0]]

    def test_dal_segno_al_coda(self, read):
        part = [self.whole] * 6
        part[1] = direction("<segno/>", '<sound segno="s"/>') + self.whole
        part[2] += direction("<words>To Coda</words>", '<sound tocoda="c"/>')
        part[4] += direction("<words>D.S. al Coda</words>")
        part[5] = direction("<coda/>") + self.whole
        assert read(document(part)).jumps.tolist() == [[6, 10], [10, 2]]

    def test_a_movement_begins_where_numbers_begin_anew(self, read):
        repeated = self.whole + barline("right", "backward")
        part = [self.whole, repeated, self.whole, repeated]
        assert read(document(part, numbers=["1", "2", "X1", "3"])).jumps.tolist() == [[4, 0], [8, 4]]
        assert read(document(part, numbers=["1", "2", "3", "1"])).jumps.tolist() == [[4, 0], [8, 6]]


@given(
    st.lists(
        st.lists(st.lists(st.tuples(st.integers(1, 12), st.sampled_from(["C4", "D4", "R"])), max_size=4), max_size=3),
        min_size=1,
        max_size=4,
    )
)
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_voices_in_any_measures_keep_their_places(read, measures):
    """Measures of voices of (twelfths of a quarter note, pitch), each voice backed up to the beginning."""
    texts, expected, begin = [], Counter(), Fraction(0)
    for voices in measures:
        text, filled = attributes(12), 0
        for voice in voices:
            place = 0
            for length, pitch in voice:
                text += note(pitch, length)
                if pitch != "R":
                    expected[float(begin + Fraction(place, 12)), length / 12, {"C4": 60, "D4": 62}[pitch]] += 1
                place += length
            text += f"<backup><duration>{place}</duration></backup>"
            filled = max(filled, place)
        texts.append(text)
        begin += Fraction(filled, 12) if filled else 4
    if not expected:
        with pytest.raises(ScoreError, match="no notes"):
            read(document(texts))
    else:
        assert Counter(rows(read(document(texts)))) == pytest.approx(expected)


STEPS = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
ALTERS = {"#": 1, "##": 2, "x": 2, "b": -1, "bb": -2, "n": 0}
SNOTE = re.compile(
    r"snote\([^,]*,\[(\w),([^\]]*)\],(\d),[^,]*,[^,]*,[^,]*,([-\d.]+),([-\d.]+),\[(.*?)\]\)", re.MULTILINE
)


@pytest.fixture(scope="module")
def vienna(shared_data):
    """Scores and one match of each by name."""
    wanted = re.compile(r"vienna4x22/(musicxml/.*\.musicxml|match/.*_p01\.match)")
    with tarfile.open(shared_data / "scores_and_performances.tar.xz") as tar:
        return {m.name.partition("/")[2]: tar.extractfile(m).read() for m in tar if wanted.fullmatch(m.name)}


@pytest.mark.parametrize(
    ("piece", "beat", "doubled"),
    [
        ("Chopin_op10_no3", 1.0, 32),
        ("Chopin_op38", 0.5, 6),
        ("Mozart_K331_1st-mov", 0.5, 0),
        ("Schubert_D783_no15", 1.0, 0),
    ],
)
def test_every_note_of_the_vienna_matches_is_there(vienna, read, piece, beat, doubled):
    """The matches tell pitch, onset and end in beats of each note of the score; of unisons they tell one."""
    score = read(vienna[f"musicxml/{piece}.musicxml"])
    match = vienna[f"match/{piece}_p01.match"].decode()
    told = [
        (float(start), float(end), STEPS[step] + ALTERS[alter] + 12 * int(octave) + 12, "grace" in kind)
        for step, alter, octave, start, end, kind in SNOTE.findall(match)
    ]
    begin = min(start for start, *_ in told)
    expected = Counter(
        (round((start - begin) * beat, 3), round((end - start) * beat, 3), pitch)
        for start, end, pitch, grace in told
        if not grace
    )
    found = Counter((round(start, 3), round(length, 3), pitch) for start, length, pitch in rows(score))
    assert expected.total() > 300
    assert not expected - found
    assert (found - expected).total() == sum(grace for *_, grace in told) + doubled


@pytest.fixture(scope="module")
def quartets(shared_data):
    """The XML of two short quartets by name."""
    with tarfile.open(shared_data / "openscore_quartets.tar.xz") as tar:
        return {n: tar.extractfile(m).read() for m in tar for n in ("sq8438840", "sq7078259") if n in m.name}


@pytest.mark.parametrize("name", ["sq8438840", "sq7078259"])
def test_a_quartet_has_every_note_that_is_not_tied_back(quartets, read, name):
    """Counted over the elements of the XML, without regard to their places."""
    with zipfile.ZipFile(io.BytesIO(quartets[name])) as archive:
        root = ElementTree.fromstring(archive.read(f"{name}.xml"))
    score = read(quartets[name], f"{name}.mxl")
    sounding = [n for n in root.iter("note") if n.find("pitch") is not None and n.find("cue") is None]
    struck = [n for n in sounding if n.find("tie[@type='stop']") is None or n.find("grace") is not None]
    assert len(score.notes) == len(struck) > 2000
    assert len(score.measures) == len(root.findall("part[1]/measure"))
    assert np.unique(score.notes.instrument).tolist() == [40, 41, 42]


def test_the_repeats_of_a_quartet(quartets, read):
    """Saint-Georges, op. 1 no. 2: what its barlines say, in numbers of measures counted over both movements."""
    score = read(quartets["sq8438840"], "a.mxl")
    assert np.searchsorted(score.measures, score.jumps[:2]).tolist() == [[43, 0], [106, 43]]
    second_movement = score.jumps[score.jumps[:, 0] > score.measures[106]]
    assert (second_movement[:, 1] >= score.measures[106]).all()
