import csv
import io

import mido
import numpy as np
import pretty_midi
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from musicnet_tf import scores
from musicnet_tf.errors import ScoreError
from musicnet_tf.events import UNKNOWN, Note, Notes

HEADER = "start_time,end_time,instrument,note,start_beat,end_beat,note_value\n"


def write(folder, text, name="labels.csv"):
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


class TestMusicNetCsv:
    def test_columns_by_hand(self, tmp_path):
        path = write(tmp_path, HEADER + "44100,66150,41,60,1.5,0.25,Dotted Half\n22050,33075,1,72,0.0,,\n")
        notes = scores.read(path)
        assert list(notes) == [Note(0.5, 0.75, 72, UNKNOWN, 0), Note(1.0, 1.5, 60, UNKNOWN, 40)]
        np.testing.assert_array_equal(notes.start_beat, [0.0, 1.5])
        np.testing.assert_array_equal(notes.end_beat, [np.nan, 0.25])
        assert notes.note_value.tolist() == ["", "Dotted Half"]

    def test_columns_are_found_by_name_and_beats_are_optional(self, tmp_path):
        path = write(tmp_path, "note,instrument,end_time,start_time\n60,128,200,100\n")
        assert list(scores.read_musicnet_csv(path, sample_rate=100)) == [Note(1.0, 2.0, 60, UNKNOWN, 127)]

    def test_byte_order_mark_windows_lines_and_blank_lines(self, tmp_path):
        path = write(tmp_path, "\ufeff" + (HEADER + "\n1,2,1,60,0,1,Half\n").replace("\n", "\r\n"))
        assert scores.read(path).note_value.tolist() == ["Half"]

    def test_header_alone_is_silence(self, tmp_path):
        assert len(scores.read(write(tmp_path, HEADER))) == 0

    @pytest.mark.parametrize(
        ("rows", "message"),
        [
            ("1,2,1,60,0,1,x\n9,9,1,60,0,1,x\n", r"labels.csv, line 3: end must be after start \(9, 9, 1, 60"),
            ("9,8,1,60,0,1,x\n", "line 2: end must be after start"),
            ("-1,8,1,60,0,1,x\n", "line 2: start must not be negative"),
            ("1,2,1,128,0,1,x\n", "line 2: pitch must be a MIDI number 0–127"),
            ("1,2,1,-3,0,1,x\n", "line 2: pitch"),
            ("1,2,129,60,0,1,x\n", "line 2: instrument must be 1–128"),
            ("1,two,1,60,0,1,x\n", "line 2: end_time is 'two', not a number"),
            ("1,,1,60,0,1,x\n", "line 2: end_time is '', not a number"),
            ("1,2,1,60,nan?,1,x\n", "line 2: start_beat is 'nan\\?', not a number"),
            ("1,2.5,1,60,0,1,x\n", "line 2: end_time must be a whole number"),
            ("1,inf,1,60,0,1,x\n", "line 2: end_time must be finite"),
            ("1,1e30,1,60,0,1,x\n", "line 2: end_time must be a whole number"),
            ("1,2,1,60\n", "line 2: 4 fields where the header names 7"),
        ],
    )
    def test_a_bad_row_is_named(self, tmp_path, rows, message):
        with pytest.raises(ScoreError, match=message):
            scores.read(write(tmp_path, HEADER + rows))

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ("", "the file is empty"),
            ("start_time,end_time,note\n1,2,60\n", "no column 'instrument'"),
            (b"\x89PNG\r\n\x1a\n\x00\xff\xfe", "not a text file"),
            (HEADER + '1,2,1,60,0,1,"x\n', "line 2: unexpected end of data"),
        ],
    )
    def test_a_bad_file_is_named(self, tmp_path, content, message):
        with pytest.raises(ScoreError, match=rf"labels\.csv.*{message}"):
            scores.read(write(tmp_path, content))

    def test_missing_file_and_unknown_suffix(self, tmp_path):
        with pytest.raises(ScoreError, match="No such file"):
            scores.read(tmp_path / "none.csv")
        with pytest.raises(ScoreError, match=r"unknown kind of score; use one of \.csv"):
            scores.read(tmp_path / "song.mp3")

    @given(
        st.lists(
            st.tuples(
                st.integers(0, 10**8),
                st.integers(1, 10**7),
                st.integers(0, 127),
                st.integers(-1, 127),
                st.one_of(st.just(np.nan), st.floats(0, 1e4)),
                st.sampled_from(["", "Half", 'with, "both"']),
            )
        ),
        st.sampled_from([16000, 22050, 44100, 48000]),
    )
    @settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_round_trip_is_exact_in_samples(self, tmp_path, rows, rate):
        rows = sorted(rows, key=lambda row: row[:4])
        start, length, pitch, instrument, beat, value = zip(*rows, strict=True) if rows else [()] * 6
        start, length = np.array(start, int), np.array(length, int)
        notes = Notes(start / rate, (start + length) / rate, pitch, None, instrument, beat, beat, value)
        text = scores.format_musicnet_csv(notes, rate)
        assert scores.read_musicnet_csv(write(tmp_path, text), rate) == notes
        written = [(int(r["start_time"]), int(r["end_time"])) for r in csv.DictReader(io.StringIO(text))]
        assert sorted(written) == sorted(zip(start.tolist(), (start + length).tolist(), strict=True))

    def test_published_files_survive_a_round_trip(self, shared_data, tmp_path):
        for path in sorted((shared_data / "musicnet/train_labels").glob("*.csv")):
            with path.open(newline="") as file:
                expected = sorted(
                    (int(r["start_time"]), int(r["end_time"]), int(r["instrument"]), int(r["note"]), r["note_value"])
                    for r in csv.DictReader(file)
                )
            text = scores.format_musicnet_csv(scores.read(path))
            rows = csv.DictReader(io.StringIO(text))
            names = ("start_time", "end_time", "instrument", "note")
            assert sorted((*(int(r[name]) for name in names), r["note_value"]) for r in rows) == expected

    def test_is_musicnet_csv(self, tmp_path):
        assert scores.is_musicnet_csv(write(tmp_path, HEADER))
        assert not scores.is_musicnet_csv(write(tmp_path, "id,composer\n", "metadata.csv"))
        assert not scores.is_musicnet_csv(tmp_path / "none.csv")


class TestMaps:
    def test_both_published_forms(self, tmp_path):
        tsv = write(tmp_path, "# onset,offset,note,velocity\n0.5\t1.0\t60.000000\t29.0\n", "a.tsv")
        txt = write(tmp_path, "OnsetTime\tOffsetTime\tMidiPitch\n0.5\t1.0\t60\n", "a.txt")
        assert list(scores.read(tsv)) == [Note(0.5, 1.0, 60, 29, 0)]
        assert list(scores.read(txt)) == [Note(0.5, 1.0, 60, UNKNOWN, 0)]

    @pytest.mark.parametrize(
        ("rows", "message"),
        [
            ("1.0\t0.5\t60\t1\n", "line 2: end must be after start"),
            ("1.0\t1.5\t60.5\t1\n", "line 2: note must be a whole number"),
            ("1.0\t1.5\t60\t128\n", "line 2: velocity must be 1–127"),
            ("1.0\t1.5\t60\n", "line 2: 3 fields where the header names 4"),
        ],
    )
    def test_a_bad_row_is_named(self, tmp_path, rows, message):
        with pytest.raises(ScoreError, match=message):
            scores.read(write(tmp_path, "# onset,offset,note,velocity\n" + rows, "a.tsv"))

    def test_a_table_without_header_is_refused(self, tmp_path):
        with pytest.raises(ScoreError, match="no column 'onset'"):
            scores.read(write(tmp_path, "100\t200\t60\t1\n", "bach10.txt"))

    def test_published_files(self, shared_data):
        paths = sorted((shared_data / "maps").glob("*.tsv"))
        assert len(paths) == 24
        for path in paths:
            rows = np.loadtxt(path)
            rows = rows[np.lexsort((rows[:, 2], rows[:, 0]))]
            notes = scores.read(path)
            np.testing.assert_array_equal(notes.intervals(), rows[:, :2])
            np.testing.assert_array_equal(np.stack([notes.pitch, notes.velocity], 1), rows[:, 2:])


def midi_file(path, *events, ticks_per_beat=500):
    """Writes (tick, message) events at 120 beats a minute, so that a tick is 1 ms."""
    track = mido.MidiTrack()
    now = 0
    for tick, message in sorted(events, key=lambda event: event[0]):
        track.append(message.copy(time=tick - now))
        now = tick
    mido.MidiFile(type=0, tracks=[track], ticks_per_beat=ticks_per_beat).save(path)
    return path


def on(tick, pitch, velocity=64, channel=0):
    return tick, mido.Message("note_on", note=pitch, velocity=velocity, channel=channel)


def off(tick, pitch, channel=0):
    return tick, mido.Message("note_off", note=pitch, channel=channel)


def pedal(tick, value):
    return tick, mido.Message("control_change", control=64, value=value)


class TestMidi:
    def test_channels_programs_and_drums(self, tmp_path):
        path = midi_file(
            tmp_path / "a.mid",
            (0, mido.Message("program_change", program=40, channel=1)),
            *(on(100, 60, 90), off(400, 60), on(200, 64, 30, channel=1), on(500, 64, 0, channel=1)),
            *(on(100, 36, 99, channel=9), off(200, 36, channel=9)),
        )
        expected = [Note(0.1, 0.4, 60, 90, 0), Note(0.2, 0.5, 64, 30, 40)]
        assert [tuple(np.round(note, 9)) for note in scores.read(path)] == expected

    def test_the_pedal_holds_until_it_is_lifted_or_the_pitch_sounds_again(self, tmp_path):
        path = midi_file(
            tmp_path / "a.mid",
            *(pedal(0, 64), pedal(1000, 63), pedal(2000, 127)),
            *(on(100, 60), off(200, 60), on(600, 60), off(700, 60)),  # held to the next onset, then to the lift
            *(on(900, 64), off(1200, 64)),  # ends after the lift: as written
            *(on(1500, 67), off(1600, 67)),  # pedal is up
            *(on(2100, 71), off(2200, 71), on(2900, 72), off(3000, 72)),  # never lifted: to the end of the file
        )
        written = {
            (100, 200, 60),
            (600, 700, 60),
            (900, 1200, 64),
            (1500, 1600, 67),
            (2100, 2200, 71),
            (2900, 3000, 72),
        }
        held = {(100, 600, 60), (600, 1000, 60), (900, 1200, 64), (1500, 1600, 67), (2100, 3000, 71), (2900, 3000, 72)}

        def rows(notes):
            return {(round(n.onset * 1000), round(n.offset * 1000), n.pitch) for n in notes}

        assert rows(scores.read_midi(path)) == written
        assert rows(scores.read_midi(path, sustain=True)) == held

    def test_notes_without_duration_are_dropped_and_counted(self, tmp_path, caplog):
        path = midi_file(tmp_path / "a.mid", on(0, 60), off(0, 60), on(5, 62), off(9, 62), on(7, 64))
        assert [note.pitch for note in scores.read(path)] == [62]
        assert "2 notes without duration were dropped" in caplog.text

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"", "the file is empty"),
            (b"RIFFnonsense", "not a readable Standard MIDI File"),
            (b"MThd", "not a readable"),
        ],
    )
    def test_what_is_no_midi_is_told(self, tmp_path, content, message):
        with pytest.raises(ScoreError, match=message):
            scores.read(write(tmp_path, content, "a.mid"))

    @given(st.data())
    @settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_damaged_bytes_raise_nothing_else(self, tmp_path, data):
        good = midi_file(
            tmp_path / "good.mid", pedal(0, 90), on(1, 60), off(500, 60), on(9, 61), off(10, 61)
        ).read_bytes()
        damaged = bytearray(good)
        for place in data.draw(st.lists(st.integers(0, len(good) - 1), min_size=1, max_size=4)):
            damaged[place] = data.draw(st.integers(0, 255))
        cut = data.draw(st.integers(1, len(good)))
        try:
            scores.read_midi(write(tmp_path, bytes(damaged[:cut]), "bad.mid"), sustain=True)
        except ScoreError as error:
            assert "bad.mid" in str(error)

    def test_published_files(self, shared_data):
        notes = scores.read(shared_data / "bach10/01-AchGottundHerr.mid")
        assert len(notes) > 50
        assert 36 <= notes.pitch.min() < notes.pitch.max() <= 84


def random_notes():
    """Notes on a grid of milliseconds, dense enough that pitches collide."""
    row = st.tuples(
        st.integers(0, 3000), st.integers(1, 900), st.integers(58, 62), st.integers(1, 127), st.sampled_from([0, 40])
    )

    def build(rows):
        return Notes.from_list([Note(a / 1000, (a + d) / 1000, p, v, i) for a, d, p, v, i in rows])

    return st.lists(row, max_size=25).map(build)


class TestToMidi:
    def test_unknowns_get_defaults_and_time_before_zero_is_cut(self):
        notes = Notes.from_list([Note(-1.0, -0.5, 60), Note(-0.5, 0.25, 61), Note(0.5, 0.50001, 62, 5, 13)])
        piano, marimba = scores.to_midi(notes).instruments
        assert (piano.program, marimba.program) == (0, 13)
        assert [(n.start, n.end, n.pitch, n.velocity) for n in piano.notes] == [(0.0, 0.25, 61, 80)]
        assert [(n.start, n.end, n.pitch, n.velocity) for n in marimba.notes] == [(0.5, 0.501, 62, 5)]

    @given(random_notes())
    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_what_is_written_is_read_back(self, tmp_path, notes):
        path = tmp_path / "a.mid"
        scores.to_midi(notes).write(str(path))
        playable, read = scores.without_overlaps(notes), scores.read(path)
        for name in ("pitch", "velocity", "instrument"):
            np.testing.assert_array_equal(getattr(read, name), getattr(playable, name))
        np.testing.assert_allclose(read.intervals(), playable.intervals(), atol=1e-9)

    @given(random_notes())
    @settings(max_examples=60, deadline=None)
    def test_without_overlaps_keeps_every_attack_and_is_idempotent(self, notes):
        playable = scores.without_overlaps(notes)
        attacks = {(n.onset, n.pitch, n.instrument) for n in notes}
        assert [(n.onset, n.pitch, n.instrument) for n in playable] == sorted(attacks)
        assert scores.without_overlaps(playable) == playable
        for n in playable:
            same = [m for m in notes if (m.pitch, m.instrument) == (n.pitch, n.instrument)]
            longest = max(m.offset for m in same if m.onset == n.onset)
            assert n.offset == min([longest, *(m.onset for m in same if m.onset > n.onset)])

    def test_pretty_midi_agrees_on_the_end(self, tmp_path):
        scores.to_midi(Notes.from_list([Note(0.0, 1.234, 60)])).write(str(tmp_path / "a.mid"))
        assert pretty_midi.PrettyMIDI(str(tmp_path / "a.mid")).get_end_time() == pytest.approx(1.234, abs=1e-9)
