"""Output files, read back by the libraries that others would open them with."""

import json
import tracemalloc
import zipfile
from pathlib import Path

import jams
import mido
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from musicnet_tf import scores, writers
from musicnet_tf.errors import ConfigError, OutputError
from musicnet_tf.events import UNKNOWN, Note, Notes
from musicnet_tf.timebase import FrameClock

CLOCK = FrameClock(16000, 320, 7)
NOTES = Notes.from_list(
    [
        Note(0.0, 0.5, 60, 64, 0),
        Note(0.12345, 1.5, 64, 1, 0),
        Note(0.12345, 0.3, 67, 127, 0),
        Note(0.5, 0.75, 60, 100, 0),
    ]
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def only(folder: Path, name: str) -> bool:
    """Nothing else was left behind."""
    return [p.name for p in folder.iterdir()] == [name]


def test_midi_holds_notes_and_velocities(folder: Path) -> None:
    writers.write_midi(folder / "a.mid", NOTES)
    read = scores.read(folder / "a.mid")
    assert read.pitch.tolist() == [60, 64, 67, 60]
    assert read.velocity.tolist() == [64, 1, 127, 100]
    np.testing.assert_allclose(read.intervals(), NOTES.intervals(), atol=0.001)
    strikes = [
        m for track in mido.MidiFile(folder / "a.mid").tracks for m in track if m.type == "note_on" and m.velocity
    ]
    assert sorted(m.velocity for m in strikes) == [1, 64, 100, 127]  # by a reader that shares no code with ours
    assert only(folder, "a.mid")


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.tuples(st.floats(0, 3600), st.floats(0.002, 20), st.integers(0, 127), st.integers(1, 127)),
        max_size=20,
        unique_by=lambda row: row[2],
    )
)
def test_midi_and_csv_round_trip(tmp_path_factory: pytest.TempPathFactory, rows: list) -> None:
    folder = tmp_path_factory.mktemp("round_trip")
    notes = Notes.from_list([Note(on, on + length, pitch, velocity) for on, length, pitch, velocity in rows])
    writers.write_midi(folder / "a.mid", notes)
    writers.write_csv(folder / "a.csv", notes)
    for name, tolerance in (("a.mid", 0.001), ("a.csv", 1 / 44100)):
        read = scores.read(folder / name)
        order, expected = np.argsort(read.pitch), np.argsort(notes.pitch)
        assert read.pitch[order].tolist() == notes.pitch[expected].tolist()
        np.testing.assert_allclose(read.intervals()[order], notes.intervals()[expected], atol=tolerance)


def test_csv_has_musicnet_columns(folder: Path) -> None:
    writers.write_csv(folder / "a.csv", NOTES)
    lines = (folder / "a.csv").read_text().splitlines()
    assert lines[0] == "start_time,end_time,instrument,note,start_beat,end_beat,note_value"
    assert lines[1] == "0,22050,1,60,,,"  # half a second at 44.1 kHz; General MIDI counts the piano as 1
    assert lines[2] == f"{round(0.12345 * 44100)},66150,1,64,,,"


def test_jams_follows_its_schema(folder: Path) -> None:
    notes = Notes.concatenate([NOTES, Notes.from_list([Note(-0.25, 1.0, 50), Note(-1.0, -0.5, 51)])])
    writers.write_jams(folder / "a.jams", notes, duration=2.5, title="Prélude", model="tiny")
    jam = jams.load(str(folder / "a.jams"), validate=True, strict=True)
    assert (jam.file_metadata.duration, jam.file_metadata.title) == (2.5, "Prélude")
    (annotation,) = jam.annotations
    assert annotation.namespace == "note_midi"
    assert annotation.annotation_metadata.annotation_tools.endswith(", model tiny")
    found = {(o.value, o.time): (o.duration, o.confidence) for o in annotation.data}
    assert found[60, 0.0] == (0.5, 64 / 127)
    assert found[67, 0.12345] == (pytest.approx(0.3 - 0.12345), 1.0)
    assert found[50, 0.0] == (1.0, None)  # cut at 0; its velocity is unknown
    assert len(found) == 5  # and what ended before 0 is gone
    assert json.loads((folder / "a.jams").read_text())["file_metadata"]["title"] == "Prélude"


def spooled(folder: Path, chunks: list[np.ndarray]) -> writers.PosteriorgramSpool:
    spool = writers.PosteriorgramSpool(folder, CLOCK, first_pitch=21)
    for chunk in chunks:
        spool.push({"frame": chunk, "onset": chunk[:, ::-1] / 2})
    return spool


def test_npz_is_what_numpy_writes(folder: Path) -> None:
    frame = np.random.default_rng(1).random((1000, 88), np.float32)
    with spooled(folder, np.split(frame, [1, 1, 500])) as spool:
        writers.write_npz(folder / "a.npz", spool)
    with np.load(folder / "a.npz", allow_pickle=False) as archive:
        assert set(archive.files) == {"frame", "onset", "sample_rate", "hop_length", "origin", "first_pitch"}
        assert archive["frame"].dtype == np.float16
        np.testing.assert_array_equal(archive["frame"], frame.astype(np.float16))
        np.testing.assert_array_equal(archive["onset"], (frame[:, ::-1] / 2).astype(np.float16))
        assert [int(archive[name]) for name in ("sample_rate", "hop_length", "origin")] == [16000, 320, 7]
    heads, clock, first_pitch = writers.read_npz(folder / "a.npz")
    assert (clock, first_pitch, set(heads)) == (CLOCK, 21, {"frame", "onset"})
    assert zipfile.ZipFile(folder / "a.npz").testzip() is None
    assert only(folder, "a.npz")


def test_equal_posteriorgrams_give_equal_files(folder: Path) -> None:
    frame = np.random.default_rng(1).random((200, 88), np.float32)
    for name, cuts in (("a.npz", [7, 50]), ("b.npz", [100])):
        with spooled(folder, np.split(frame, cuts)) as spool:
            writers.write_npz(folder / name, spool)
    assert (folder / "a.npz").read_bytes() == (folder / "b.npz").read_bytes()


def test_an_hour_of_posteriorgram_needs_little_memory(folder: Path) -> None:
    chunk = np.zeros((500, 88), np.float32)
    tracemalloc.start()
    with spooled(folder, []) as spool:
        for _ in range(360):
            spool.push({"frame": chunk})
        writers.write_npz(folder / "a.npz", spool)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 6e6  # the array itself has 32 MB
    assert writers.read_npz(folder / "a.npz")[0]["frame"].shape == (180_000, 88)


def test_foreign_archives_are_refused(folder: Path) -> None:
    np.savez(folder / "other.npz", frame=np.zeros(3))
    np.savez(folder / "pickled.npz", frame=np.array([{}]), sample_rate=1, hop_length=1, origin=0, first_pitch=0)
    (folder / "text.npz").write_text("no archive")
    for name in ("other.npz", "pickled.npz", "text.npz", "missing.npz"):
        with pytest.raises(OutputError, match=f"{name}: not a posteriorgram"):
            writers.read_npz(folder / name)


@pytest.mark.parametrize("name", ["midi", "csv", "jams", "png"])
def test_silence_gives_valid_files(folder: Path, name: str) -> None:
    form = writers.FORMATS[name]
    form.write(folder / f"a{form.suffix}", writers.Transcript(Notes.empty(), 3.0, "silence"))
    if name in ("midi", "csv"):
        assert len(scores.read(folder / f"a{form.suffix}")) == 0
    elif name == "jams":
        assert len(jams.load(str(folder / "a.jams")).annotations[0].data) == 0
    else:
        assert (folder / "a.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("name", list(writers.FORMATS))
def test_what_cannot_be_written_leaves_nothing(folder: Path, name: str) -> None:
    form = writers.FORMATS[name]
    target = folder / f"a{form.suffix}"
    target.mkdir()
    with spooled(folder, [np.zeros((3, 88))]) as spool, pytest.raises(OutputError, match=r"a\.\w+: cannot be written"):
        form.write(target, writers.Transcript(NOTES, 3.0, "a", "m", spool))
    assert only(folder, target.name) and not list(target.iterdir())


def test_a_failing_writer_keeps_the_old_file(folder: Path) -> None:
    (folder / "a.jams").write_text("old")
    with pytest.raises(jams.SchemaError):
        writers.write_jams(folder / "a.jams", NOTES, duration=-1.0)
    assert (folder / "a.jams").read_text() == "old"
    assert only(folder, "a.jams")


def test_a_posteriorgram_must_have_been_kept(folder: Path) -> None:
    with pytest.raises(ConfigError, match="none was kept"):
        writers.FORMATS["npz"].write(folder / "a.npz", writers.Transcript(NOTES, 3.0))


def test_unknown_formats_list_the_choices() -> None:
    assert writers.check_formats(["png", "midi", "png"]) == ["png", "midi"]
    with pytest.raises(ConfigError, match=r"'mid', did you mean 'midi'\?; choose from midi, csv, jams, npz, png"):
        writers.check_formats(["midi", "mid"])
    with pytest.raises(ConfigError, match="no output format"):
        writers.check_formats([])


def test_unknown_velocities_and_instruments_can_be_written(folder: Path) -> None:
    notes = Notes.from_list([Note(0, 1, 60)])
    assert notes.velocity[0] == UNKNOWN
    writers.write_midi(folder / "a.mid", notes)
    assert scores.read(folder / "a.mid").velocity.tolist() == [scores.DEFAULT_VELOCITY]
