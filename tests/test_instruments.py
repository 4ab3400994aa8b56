"""Instruments by name: names of programs, programs of names, and the stretches in which they sound."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from musicnet_tf import instruments, statistics
from musicnet_tf.errors import ConfigError
from musicnet_tf.events import UNKNOWN, Notes, TagSpans


def test_the_instruments_of_musicnet_go_by_their_names_and_others_by_general_midi():
    assert len(instruments.PROGRAMS) == 11
    assert [instruments.name_of(p) for p in (0, 40, 43, 60, 66, 56)] == [
        *("piano", "violin", "contrabass", "horn", "tenor sax", "trumpet")
    ]
    names = [instruments.name_of(program) for program in range(128)]
    assert len(set(names)) == 128
    assert [instruments.program_of(name) for name in names] == list(range(128))


def test_the_paper_s_table_names_the_same_instruments():
    for program, name in ((0, "Piano"), (43, "String Bass"), (60, "Horn"), (73, "Flute"), (66, "Tenor Sax")):
        assert statistics.instrument_name(program) == name
    told = {statistics.instrument_name(p).lower() for p in instruments.PROGRAMS.values()}
    assert told ^ set(instruments.PROGRAMS) == {"string bass", "contrabass"}


def test_an_instrument_of_another_name_is_told_with_the_nearest():
    with pytest.raises(ConfigError, match="no instrument is called 'Violin', did you mean 'violin'"):
        instruments.program_of("Violin")


def test_notes_that_overlap_or_follow_at_once_make_one_stretch():
    notes = Notes(
        [0.0, 0.5, 1.0, 2.0, 0.25, 3.0], [1.0, 0.75, 1.5, 2.5, 4.0, 4.0], [60] * 6, None, [40, 40, 40, 40, 42, UNKNOWN]
    )
    assert instruments.spans_of_notes(notes) == TagSpans(
        [0.0, 0.25, 2.0], [1.5, 4.0, 2.5], ["violin", "cello", "violin"]
    )
    assert instruments.spans_of_notes(Notes.empty()) == TagSpans.empty()


@given(st.lists(st.tuples(st.integers(0, 80), st.integers(1, 20), st.sampled_from([0, 42, UNKNOWN])), max_size=15))
@settings(max_examples=50)
def test_an_instrument_sounds_where_any_of_its_notes_does(rows):
    onset, length, program = (np.array([row[i] for row in rows], int) for i in range(3))
    notes = Notes(onset / 100, (onset + length) / 100, np.full(len(rows), 60), None, program)
    hundredths = np.arange(100)
    found = instruments.spans_of_notes(notes).active(
        ("piano", "cello"), hundredths / 100 + 0.004, hundredths / 100 + 0.006
    )
    for column, wanted in enumerate((0, 42)):
        sounding = (onset <= hundredths[:, None]) & (hundredths[:, None] < onset + length) & (program == wanted)
        np.testing.assert_array_equal(found[:, column], sounding.any(axis=1))
