"""Scores as written, of MIDI and of labels with beats; how lengths are named and tempi counted."""

import csv
import tarfile

import mido
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from musicnet_tf import scores
from musicnet_tf.errors import ScoreError
from musicnet_tf.events import Note, Notes
from musicnet_tf.scores.note_values import note_value
from musicnet_tf.scores.tempo import TempoMap


def midi_file(path, *tracks, resolution=480):
    """Writes tracks of (tick, message)."""
    file = mido.MidiFile(type=1, ticks_per_beat=resolution)
    for events in tracks:
        track, now = mido.MidiTrack(), 0
        for tick, message in sorted(events, key=lambda event: event[0]):
            track.append(message.copy(time=tick - now))
            now = tick
        file.tracks.append(track)
    file.save(path)
    return path


def note(start, stop, pitch, channel=0):
    on = mido.Message("note_on", note=pitch, velocity=64, channel=channel)
    return [(start, on), (stop, mido.Message("note_off", note=pitch, channel=channel))]


def tempo(tick, microseconds):
    return tick, mido.MetaMessage("set_tempo", tempo=microseconds)


def signature(tick, beats, unit):
    return tick, mido.MetaMessage("time_signature", numerator=beats, denominator=unit)


def change(program, channel):
    return 0, mido.Message("program_change", program=program, channel=channel)


class TestMidi:
    def test_beats_are_quarter_notes_and_seconds_follow_the_tempi(self, tmp_path):
        conductor = [tempo(0, 1_000_000), tempo(960, 250_000), signature(0, 3, 4)]
        violin = [change(40, 1), *note(0, 480, 60, 1), *note(720, 1200, 62, 1), *note(1440, 1680, 64, 1)]
        score = scores.read_score(midi_file(tmp_path / "a.mid", conductor, violin))
        np.testing.assert_array_equal(score.notes.start_beat, [0, 1.5, 3])
        np.testing.assert_array_equal(score.notes.end_beat, [1, 1, 0.5])
        # 60 a minute for two quarter notes, then 240
        np.testing.assert_allclose(score.notes.intervals(), [[0, 1], [1.5, 2.125], [2.25, 2.375]], atol=1e-12)
        assert score.notes.instrument.tolist() == [40, 40, 40]
        assert score.notes.note_value.tolist() == ["Quarter", "Quarter", "Eighth"]
        np.testing.assert_allclose(score.measures, [0, 2.25])
        assert score.jumps.shape == (0, 2)

    def test_measures_follow_the_signatures_from_a_pickup_on(self, tmp_path):
        signatures = [signature(0, 1, 4), signature(480, 6, 8)]
        score = scores.read_score(midi_file(tmp_path / "a.mid", signatures, note(0, 480 * 8, 60)))
        np.testing.assert_allclose(score.measures * 2, [0, 1, 4, 7])  # 120 a minute

    def test_measures_are_of_four_quarters_where_none_is_told(self, tmp_path):
        score = scores.read_score(midi_file(tmp_path / "a.mid", note(0, 480 * 8 + 1, 60)))
        np.testing.assert_allclose(score.measures, [0, 2, 4])

    def test_a_signature_that_cannot_be_does_not_hang(self, tmp_path):
        bad = [signature(10, 1, 128)]
        assert scores.read_score(midi_file(tmp_path / "a.mid", bad, note(0, 480, 60))).measures.tolist() == [0]

    def test_notes_are_those_of_the_label_reader(self, shared_data):
        for path in sorted((shared_data / "bach10").glob("*.mid")):
            score, notes = scores.read_score(path).notes, scores.read(path)
            np.testing.assert_allclose(score.intervals(), notes.intervals(), atol=1e-9)
            np.testing.assert_array_equal(score.pitch, notes.pitch)

    def test_constant_tempo_ignores_all_marks_even_impossible_ones(self, tmp_path):
        path = midi_file(tmp_path / "a.mid", [tempo(0, 0), tempo(480, 16_777_215)], note(480, 960, 60))
        score = scores.read_score(path, constant_tempo=True)
        assert list(score.notes) == [Note(0.5, 1.0, 60, 64, 0)]

    @pytest.mark.parametrize(
        ("mark", "message"),
        [
            (tempo(960, 0), "a tempo of inf quarter notes a minute at quarter note 2 .1.0 s.*tempo: constant"),
            (tempo(0, 16_777_215), r"a tempo of 3\.5\d* quarter notes a minute at quarter note 0 \(0.0 s\)"),
            (tempo(480, 50_000), "a tempo of 1200 quarter notes a minute at quarter note 1 "),
        ],
    )
    def test_an_absurd_tempo_is_told_with_its_place(self, tmp_path, mark, message):
        with pytest.raises(ScoreError, match=f"a.mid: {message}"):
            scores.read_score(midi_file(tmp_path / "a.mid", [mark], note(0, 480, 60)))

    def test_no_notes_and_drums_alone(self, tmp_path):
        for name, events in {"empty.mid": [], "drums.mid": note(0, 480, 36, channel=9)}.items():
            with pytest.raises(ScoreError, match=rf"{name}: the score has no notes; use a file that has some"):
                scores.read_score(midi_file(tmp_path / name, events))

    @pytest.mark.parametrize(("division", "message"), [(b"\0\0", "0 ticks"), (b"\xe7\x28", "SMPTE frames")])
    def test_a_division_without_beats(self, tmp_path, division, message):
        path = midi_file(tmp_path / "a.mid", note(0, 480, 60))
        data = path.read_bytes()
        path.write_bytes(data[:12] + division + data[14:])
        with pytest.raises(ScoreError, match=f"a.mid: its division is {message} and not ticks a quarter note"):
            scores.read_score(path)

    def test_too_long(self, tmp_path):
        path = midi_file(tmp_path / "a.mid", note(0, 96 * 120 * 60 * 7, 60), resolution=96)
        with pytest.raises(ScoreError, match=r"would last 7\.0 hours, more than 6"):
            scores.read_score(path)
        path = midi_file(tmp_path / "b.mid", note(0, 480 * 120 * 60 * 7, 60))
        with pytest.raises(ScoreError, match=r"b.mid: ends after 24192000 ticks \(7\.0 hours\); no more than 10000000"):
            scores.read_score(path)

    def test_other_kinds_of_file_are_refused(self, tmp_path):
        with pytest.raises(ScoreError, match=r"unknown kind of score; use one of .*\.mid.*\.musicxml"):
            scores.read_score(tmp_path / "song.mp3")
        with pytest.raises(ScoreError, match=r"none\.mid: cannot be read \(No such file"):
            scores.read_score(tmp_path / "none.mid")


class TestLabels:
    HEADER = "start_time,end_time,instrument,note,start_beat,end_beat,note_value\n"

    def test_the_score_inside_labels(self, tmp_path):
        path = tmp_path / "a.csv"
        path.write_text(self.HEADER + "9182,90078,43,53,4.0,1.5,Dotted Quarter\n100,200,42,65,0.5,0.25,Sixteenth\n")
        score = scores.read_score(path)
        assert list(score.notes) == [Note(0.25, 0.375, 65, -1, 41), Note(2.0, 2.75, 53, -1, 42)]
        assert score.notes.note_value.tolist() == ["Sixteenth", "Dotted Quarter"]
        assert (len(score.measures), len(score.jumps)) == (0, 0)

    @pytest.mark.parametrize(
        ("rows", "message"),
        [
            ("1,2,1,60,,,\n3,4,1,60,1,1,\n", "1 of 2 rows have no start_beat and end_beat.*use a score file"),
            ("44100,88200,1,60,1,0,x\n", r"the note at 1\.000 s has start_beat 1 and end_beat 0"),
            ("44100,88200,1,60,-1,1,x\n", r"the note at 1\.000 s has start_beat -1 and end_beat 1"),
            ("", "the score has no notes"),
        ],
    )
    def test_labels_without_a_score(self, tmp_path, rows, message):
        path = tmp_path / "a.csv"
        path.write_text(self.HEADER + rows)
        with pytest.raises(ScoreError, match=f"a.csv: {message}"):
            scores.read_score(path)

    def test_published_labels(self, shared_data):
        path = shared_data / "musicnet/train_labels/2659.csv"
        score, labels = scores.read_score(path), scores.read(path)
        assert sorted(score.notes.pitch) == sorted(labels.pitch)
        np.testing.assert_allclose(score.notes.onset, np.sort(labels.start_beat) / 2)


class TestNoteValue:
    def test_names_by_hand(self):
        quarters = np.array([4, 3, 2, 1.5, 1.25, 1.125, 1, 0.75, 0.5, 0.375, 1 / 3, 0.25, 1 / 6, 0.125])
        assert note_value(quarters).tolist() == [
            *("Whole", "Dotted Half", "Half", "Dotted Quarter", "Tied Quarter-Sixteenth"),
            *("Tied Quarter-Thirty Second", "Quarter", "Dotted Eighth", "Eighth", "Dotted Sixteenth", "Triplet"),
            *("Sixteenth", "Triplet Sixteenth", "Thirty Second"),
        ]
        assert note_value(np.array([0.01, 6.0])).tolist() == ["Unknown", "Unknown"]

    def test_published_names(self, shared_data):
        """Where the beat of the labels is a quarter note, which their most frequent names tell."""
        same = total = 0
        with tarfile.open(shared_data / "musicnet_labels.tar.xz") as tar:
            for member in [m for m in tar if m.name.endswith(".csv") and "/train/" in m.name][:60]:
                text = tar.extractfile(member).read().decode().splitlines()
                rows = [(row["note_value"], float(row["end_beat"])) for row in csv.DictReader(text)]
                eighths = [length for name, length in rows if name == "Eighth"]
                if eighths and 0.4 < np.median(eighths) < 0.6:
                    names, lengths = zip(*rows, strict=True)
                    same += int(np.sum(np.array(names) == note_value(np.array(lengths))))
                    total += len(rows)
        assert total > 100_000
        assert same / total > 0.95


class TestTempoMap:
    @given(st.lists(st.tuples(st.integers(0, 50), st.integers(5, 1000)), max_size=6))
    def test_equals_the_sum_over_small_steps(self, marks):
        """A second formula: add up the seconds of each sixteenth of a quarter note."""
        tempi = np.full(60 * 16, 120.0)
        for beat, value in sorted(marks, key=lambda mark: mark[0]):
            tempi[beat * 16 :] = value
        expected = np.concatenate([[0], np.cumsum(60 / tempi / 16)])
        np.testing.assert_allclose(TempoMap(marks, "x").seconds(np.arange(961) / 16), expected, rtol=1e-9)


def test_a_score_read_from_midi_is_the_score_that_was_written(tmp_path):
    """Through `to_midi`, which counts 120 a minute: seconds are half the quarter notes."""
    notes = Notes.from_list([Note(0.0, 0.5, 60, 80, 0), Note(0.5, 2.0, 64, 70, 40), Note(0.5, 0.75, 67, 60, 0)])
    scores.to_midi(notes).write(str(tmp_path / "a.mid"))
    read = scores.read_score(tmp_path / "a.mid").notes
    assert list(read) == list(notes)
    np.testing.assert_allclose(read.start_beat, notes.onset * 2)
    np.testing.assert_allclose(read.end_beat, (notes.offset - notes.onset) * 2)
