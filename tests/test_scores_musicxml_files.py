"""MusicXML files and archives that are damaged, hostile or no scores."""

import io
import zipfile

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from musicxml_text import DOCTYPE, VIOLIN, attributes, document, note

from musicnet_tf import scores
from musicnet_tf.errors import ScoreError
from musicnet_tf.scores import musicxml


@pytest.fixture
def read(tmp_path):
    def call(text, name="a.musicxml", **options):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return scores.read_score(path, **options)

    return call


def zipped(*members, compression=zipfile.ZIP_DEFLATED):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return buffer.getvalue()


def container(name):
    return "META-INF/container.xml", f'<container><rootfiles><rootfile full-path="{name}"/></rootfiles></container>'


GOOD = document([attributes() + note("C4", 4)])


class TestFiles:
    def test_compressed_is_plain(self, read):
        other = document([attributes() + note("G4", 4)])
        for members in ([container("b.xml"), ("a.xml", other), ("b.xml", GOOD)], [("x/score.musicxml", GOOD)]):
            assert read(zipped(*members), "a.mxl").notes == read(GOOD).notes
        assert read(zipped(("a.xml", GOOD)), "misnamed.xml").notes == read(GOOD).notes
        assert read(GOOD.replace("UTF-8", "UTF-16").encode("utf-16"), "a.xml").notes == read(GOOD).notes

    def test_a_container_cannot_name_a_file_outside(self, read, tmp_path):
        (tmp_path / "outside.xml").write_text(GOOD)
        for name in ("../outside.xml", str(tmp_path / "outside.xml")):
            with pytest.raises(ScoreError, match=r"a\.mxl: the archive lacks its score"):
                read(zipped(container(name), ("a.xml", GOOD)), "a.mxl")

    def test_a_bomb_is_not_unpacked(self, read, monkeypatch):
        monkeypatch.setattr(musicxml, "MAX_BYTES", 2**20)
        bomb = zipped(("a.xml", GOOD.encode() + b" " * 2**20))
        assert len(bomb) < 5000
        with pytest.raises(ScoreError, match=r"a\.mxl: more than 1 MiB of XML"):
            read(bomb, "a.mxl")
        with pytest.raises(ScoreError, match=r"a\.musicxml: more than 1 MiB of XML"):
            read(GOOD + " " * 2**20)

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"", "the file is empty"),
            (b"PK nonsense", "not a readable .mxl archive"),
            (zipped(("a.xml", GOOD))[:-30], "not a readable .mxl archive"),
            (zipped(("readme.txt", "hello")), "the archive holds no MusicXML"),
            (zipped(container("a.xml"), ("b.xml", GOOD)), "the archive lacks its score"),
            (zipped(("META-INF/container.xml", "<x"), ("b.xml", GOOD)), "META-INF/container.xml is not readable"),
        ],
    )
    def test_archives_that_are_none(self, read, content, message):
        with pytest.raises(ScoreError, match=rf"a\.mxl: {message}"):
            read(content, "a.mxl")

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ("<html><body/></html>", "XML, but not MusicXML .its root is 'html'"),
            ("Dear all,", "not readable XML"),
            (GOOD[:-20], "not readable XML"),
            (GOOD.encode("utf-16")[:99], "not readable XML"),
            ('<!DOCTYPE a [<!ENTITY b "c">]>' + GOOD.split(DOCTYPE)[1], "declares XML entities"),
            ('<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/hostname">]><a>&b;</a>', "declares XML entities"),
            (document([attributes() + note("R", 4)]), "the score has no notes"),
            ("<score-partwise/>", "the score has no notes"),
        ],
    )
    def test_texts_that_are_no_score(self, read, content, message):
        with pytest.raises(ScoreError, match=rf"a\.musicxml: {message}"):
            read(content)

    @pytest.mark.parametrize(
        ("music", "message"),
        [
            (attributes(0), "divisions must be above 0"),
            (attributes("two"), "divisions is 'two', not a number"),
            (attributes("1e999999999"), "divisions is '1e999999999', not a number"),
            (attributes(1, (4, 0)), "beat-type must be above 0"),
            (note("C4", "x"), "duration is 'x', not a number"),
            (note("C4", 1).replace("<step>C", "<step>H"), "step is 'H'; it must be one of A–G"),
            (note("B9", 1), "B9 sounds as MIDI number 131, outside 0–127"),
            (note("C4", 1).replace("<octave>4</octave>", ""), "octave is '', not a number"),
            ('<sound tempo="fast"/>', "tempo is 'fast', not a number"),
        ],
    )
    def test_what_cannot_be_is_told_with_its_measure(self, read, music, message):
        with pytest.raises(ScoreError, match=rf"a\.musicxml, part 'Violin', measure 2: {message}; correct it"):
            read(document([attributes() + note("C4", 4), music]))

    def test_programs_that_cannot_be(self, read):
        told = VIOLIN + '<midi-instrument id="a"><midi-program>0</midi-program></midi-instrument>'
        with pytest.raises(ScoreError, match="part 'Violin': midi-program is 0; it counts from 1 to 128"):
            read(document([attributes() + note("C4", 4)], told=[told]))

    def test_too_long(self, read):
        with pytest.raises(ScoreError, match=r"would last 7\.0 hours, more than 6.*tempo: constant"):
            read(document([attributes() + note("C4", 120 * 60 * 7)]))

    @given(st.data())
    @settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_damaged_bytes_raise_nothing_else(self, read, data):
        suffix = data.draw(st.sampled_from(["musicxml", "mxl"]))
        good = GOOD.encode() if suffix == "musicxml" else zipped(container("a.xml"), ("a.xml", GOOD))
        damaged = bytearray(good)
        for place in data.draw(st.lists(st.integers(0, len(good) - 1), min_size=1, max_size=4)):
            damaged[place] = data.draw(st.integers(0, 255))
        try:
            read(bytes(damaged[: data.draw(st.integers(1, len(good)))]), f"bad.{suffix}")
        except ScoreError as error:
            assert f"bad.{suffix}" in str(error)
