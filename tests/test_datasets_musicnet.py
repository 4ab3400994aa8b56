"""MusicNet: three published forms with one content, official splits, works never on two sides."""

from __future__ import annotations

import base64
import csv
import io
import os
import pickle
import sys
import types
import zipfile
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
import soundfile

from musicnet_tf import audio, transcription
from musicnet_tf.datasets import Recording, _layout
from musicnet_tf.datasets.musicnet import EXTENDED_TEST, MusicNet
from musicnet_tf.errors import AudioError, DatasetError, ScoreError
from musicnet_tf.events import Note
from musicnet_tf.registry import DATASETS

COLUMNS = ("start_time", "end_time", "instrument", "note", "start_beat", "end_beat", "note_value")
LABELS = [
    (0, 44100, 1, 60, 0.0, 2.0, "Half"),
    (22050, 44100, 41, 67, 1.0, 1.0, "Quarter"),
    (22050, 33075, 1, 64, 1.0, 0.5, "Dotted Eighth"),
]
NOTES = [Note(0.0, 1.0, 60, -1, 0), Note(0.5, 0.75, 64, -1, 0), Note(0.5, 1.0, 67, -1, 40)]
METADATA = """id,composer,composition,movement,ensemble,source,transcriber,catalog_name,seconds
1000,Bach,Suite,1. Prelude,Solo Cello,,,BWV1007,1
2227,Bach,Fugue,2. Fugue,Solo Piano,,,BWV851,1
2303,Bach,WTK I,1. Prelude,Solo Piano,,,BWV850,1
"""
IDS = ("1000", "2227", "2303")

# `pickle.dumps(array, protocol=2)` of a (samples, tree) pair, written by intervaltree 3.2.1 itself.
GENUINE = (
    "eNptkFtLAkEYhtfVTmtHO5+149pBCLroQvSmshowGLqQQGR3HRtBV991jIQuvNnMXxX0S/oR3desa1LQB9838zLvPPMybdWym9V6K2HVHJaoNiui"
    "bDiO0dIKDrNqdkM4TUtoUHyXZhf9UwSI4kK1ClatyKyGxmxvoyGYCyiKYiKUG5ZrxRBl+wRDLximGOlglGJMJwGiutD6wKJo1eW9cE6V/tszjHdf"
    "O5igmNSJz3rGVDabvfmS1RskLTBtdvOY0bnCezEiXLJnKeY8dsjFPPdxpVMseLhFiqUfXBLLf3GKwIrZ5cFcRBlUWvb7m+x2Cqtcxl+jWBfYMK2y"
    "LZjzaFSEw1jit9Cu++LOE9jMI6r/7x44NcTIMbn3QqdIIJP+8B/v/dxF+YELji2B7Q52KHZ5jCTJk07i5JKomfRn3xuW47wmBCtGr4xKCXsC+x3o"
    "FHHm4oDikAkcmYlvw8SY/A=="
)


def samples_of(id: str) -> np.ndarray:
    return np.random.default_rng(int(id)).uniform(-0.9, 0.9, 44100).astype(np.float32)


def write_csv(path: Path, rows: list[tuple] = LABELS) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(",".join(map(str, row)) for row in [COLUMNS, *rows]) + "\n")


def write_folders(root: Path, ids: tuple[str, ...] = IDS) -> None:
    for id in ids:
        side = "test" if id in EXTENDED_TEST else "train"
        write_csv(root / f"{side}_labels/{id}.csv")
        (root / f"{side}_data").mkdir(exist_ok=True)
        soundfile.write(root / f"{side}_data/{id}.wav", samples_of(id), 44100, subtype="FLOAT")


def write_hdf5(path: Path) -> None:
    kinds = {"beat": "f8", "end_time": "i8", "instrument": "i8", "measure": "i8", "note": "i8"}
    dtype = [*kinds.items(), ("note_value", h5py.string_dtype()), ("start_time", "i8")]
    rows = [(beat % 4, end, program, 1, pitch, value, start) for start, end, program, pitch, beat, _, value in LABELS]
    with h5py.File(path, "w") as file:
        for id in IDS:
            file[f"id_{id}/data"] = samples_of(id)
            file[f"id_{id}/labels"] = np.array(rows, dtype)


@pytest.fixture
def intervaltree(monkeypatch: pytest.MonkeyPatch) -> Iterator[types.ModuleType]:
    """Pickles as the package does, by `__reduce__` of both classes; the package itself need not be there."""
    tree, interval = types.ModuleType("intervaltree.intervaltree"), types.ModuleType("intervaltree.interval")
    rebuild = "def __reduce__(self): return type(self), self.args"
    for module, name in ((tree, "IntervalTree"), (interval, "Interval")):
        namespace: dict = {"__module__": module.__name__, "__init__": lambda self, *args: setattr(self, "args", args)}
        exec(rebuild, namespace)
        namespace.pop("__builtins__")
        setattr(module, name, type(name, (), namespace))
        monkeypatch.setitem(sys.modules, module.__name__, module)
    package = types.ModuleType("intervaltree")
    package.IntervalTree, package.Interval = tree.IntervalTree, interval.Interval  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "intervaltree", package)
    yield package


def pair(samples: np.ndarray, labels: object) -> np.ndarray:
    both = np.empty(2, object)
    both[:] = samples, labels
    return both


def write_npz(path: Path, package: types.ModuleType) -> None:
    intervals = [
        package.Interval(start, end, (program, pitch, 1, beat % 4, value))
        for start, end, program, pitch, beat, _, value in LABELS
    ]
    np.savez(path, **{id: pair(samples_of(id), package.IntervalTree(intervals)) for id in IDS})


def write_entry(path: Path, payload: bytes, id: str = "2494") -> None:
    """An npz of one object array with a pickle of our choice."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|O", "fortran_order": False, "shape": (2,)})
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{id}.npy", header.getvalue() + payload)


@pytest.fixture
def forms(tmp_path: Path, intervaltree: types.ModuleType) -> list[MusicNet]:
    roots = [tmp_path / name for name in ("folders", "hdf5", "npz")]
    for root in roots:
        root.mkdir()
        (root / "musicnet_metadata.csv").write_text(METADATA)
    write_folders(roots[0])
    write_hdf5(roots[1] / "musicnet.h5")
    write_npz(roots[2] / "musicnet.npz", intervaltree)
    return [MusicNet(root=roots[0]), MusicNet(root=roots[1]), MusicNet(root=roots[2], trust_pickle=True)]


def test_the_three_forms_hold_the_same(forms: list[MusicNet]) -> None:
    for dataset in forms:
        recordings = dataset.recordings()
        assert [(r.id, r.split) for r in recordings] == [("1000", "train"), ("2227", "validation"), ("2303", "test")]
        assert recordings == forms[0].recordings()
        for recording in recordings:
            notes = dataset.load_notes(recording)
            assert list(notes) == NOTES
            assert notes.note_value.tolist() == ["Half", "Dotted Eighth", "Quarter"]
            np.testing.assert_array_equal(dataset.load_audio(recording, 44100), samples_of(recording.id))
            np.testing.assert_array_equal(dataset.load_audio(recording, 16000), forms[0].load_audio(recording, 16000))


def test_a_single_file_may_be_the_root(forms: list[MusicNet]) -> None:
    assert MusicNet(root=forms[1].root / "musicnet.h5").recordings() == forms[1].recordings()
    npz = MusicNet(root=forms[2].root / "musicnet.npz", trust_pickle=True)
    assert npz.recordings() == forms[2].recordings()


def test_metadata_says_what_is_performed(forms: list[MusicNet]) -> None:
    first = forms[0].recordings()[0]
    assert first.work == "Bach: Suite: 1. Prelude"
    assert first.metadata["catalog_name"] == "BWV1007"
    (forms[0].root / "musicnet_metadata.csv").unlink()
    assert [(r.work, r.metadata) for r in forms[0].recordings()] == [(id, {}) for id in IDS]


def test_other_performances_follow_a_held_out_work(tmp_path: Path) -> None:
    """Even where the recording that is held out is not at hand."""
    write_folders(tmp_path, ("1000", "1001", "1002"))
    rows = ["id,composer,composition,movement", "1000,Bach,WTK I,1. Prelude", "2303,Bach,WTK I,1. Prelude"]
    rows += ["1001,Bach,Fugue,2. Fugue", "2227,Bach,Fugue,2. Fugue", "1002,Bach,Fugue,1. Prelude"]
    (tmp_path / "musicnet_metadata.csv").write_text("\n".join(rows))
    assert [r.split for r in MusicNet(root=tmp_path).recordings()] == ["test", "validation", "train"]


def test_a_delay_moves_every_note(tmp_path: Path) -> None:
    write_folders(tmp_path, ("1000",))
    dataset = MusicNet(root=tmp_path, delay=-0.25)
    notes = dataset.load_notes(dataset.recordings()[0])
    assert notes.intervals().tolist() == [[-0.25, 0.75], [0.25, 0.5], [0.25, 0.75]]


def test_the_test_folder_is_test_whatever_its_ids(tmp_path: Path) -> None:
    write_folders(tmp_path, ("1000", "1001"))
    for kind, suffix in (("data", "wav"), ("labels", "csv")):
        (tmp_path / f"test_{kind}").mkdir()
        (tmp_path / f"train_{kind}/1001.{suffix}").rename(tmp_path / f"test_{kind}/1001.{suffix}")
    assert [r.split for r in MusicNet(root=tmp_path).recordings()] == ["train", "test"]


def test_npz_is_not_unpickled_without_trust(forms: list[MusicNet]) -> None:
    with pytest.raises(DatasetError, match=r"musicnet\.npz: .*can carry code; .*set trust_pickle=true"):
        MusicNet(root=forms[2].root).recordings()


def test_a_genuine_interval_tree_is_read(tmp_path: Path) -> None:
    write_entry(tmp_path / "musicnet.npz", zlib.decompress(base64.b64decode(GENUINE)))
    dataset = MusicNet(root=tmp_path, trust_pickle=True)
    (recording,) = dataset.recordings()
    notes = dataset.load_notes(recording)
    assert list(notes) == [Note(45 / 44100, 90 / 44100, 62, -1, 0), Note(60 / 44100, 120 / 44100, 70, -1, 40)]
    assert notes.note_value.tolist() == ["Eighth", "Dotted Half"]
    assert dataset.load_audio(recording, 44100).tolist() == [0.0, 0.5, -0.5, 0.25]


class _Attack:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.target),)


def test_even_a_trusted_pickle_runs_nothing(tmp_path: Path) -> None:
    target = tmp_path / "made by the pickle"
    write_entry(tmp_path / "musicnet.npz", pickle.dumps(pair(np.zeros(3), _Attack(target)), protocol=2))
    dataset = MusicNet(root=tmp_path, trust_pickle=True)
    with pytest.raises(DatasetError, match=r"entry 2494 .*mkdir, which labels have no need of"):
        dataset.load_notes(dataset.recordings()[0])
    assert not target.exists()


def test_damaged_npz_entries_are_named(tmp_path: Path) -> None:
    dataset = MusicNet(root=tmp_path, trust_pickle=True)
    write_entry(tmp_path / "musicnet.npz", zlib.decompress(base64.b64decode(GENUINE))[:200])
    with pytest.raises(DatasetError, match=r"musicnet\.npz: entry 2494 is not \(samples, interval tree\)"):
        dataset.load_audio(dataset.recordings()[0], 44100)
    with pytest.raises(DatasetError, match=r"musicnet\.npz: holds no recording '9'"):
        dataset.load_audio(Recording("9", "train", "9"), 44100)
    write_entry(tmp_path / "musicnet.npz", b"", id="../../escape")
    with pytest.raises(DatasetError, match=r"looked for entries <id>\.npy, found '\.\./\.\./escape'"):
        dataset.recordings()
    (tmp_path / "musicnet.npz").write_bytes(b"PK, but not a zip")
    with pytest.raises(DatasetError, match=r"musicnet\.npz: not a whole npz file"):
        dataset.recordings()


def test_damaged_hdf5_is_named(tmp_path: Path) -> None:
    path = tmp_path / "musicnet.h5"
    dataset = MusicNet(root=tmp_path)
    write_hdf5(path)
    with h5py.File(path, "a") as file:
        del file["id_1000/labels"]
        file["id_1000/labels"] = np.array([(5, 3)], [("start_time", "i8"), ("end_time", "i8")])
        labels = file["id_2227/labels"][...]
        labels["note"][1] = 128
        file["id_2227/labels"][...] = labels
        file["id_2303/data"][7] = np.nan
    first, second, third = dataset.recordings()
    with pytest.raises(ScoreError, match=r"labels of 1000 have no column \['instrument', 'note', 'note_value'\]"):
        dataset.load_notes(first)
    with pytest.raises(ScoreError, match=r"musicnet\.h5: recording 2227: note 1: pitch must be"):
        dataset.load_notes(second)
    with pytest.raises(AudioError, match=r"musicnet\.h5: recording 2303: sample at 0\.000 s is not a finite"):
        dataset.load_audio(third, 16000)
    with h5py.File(path, "a") as file:
        del file["id_1000/data"]
    with pytest.raises(DatasetError, match="looked for id_1000/data and id_1000/labels"):
        dataset.recordings()
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(DatasetError, match=r"musicnet\.h5: not a whole HDF5 file"):
        dataset.recordings()


def test_what_is_not_musicnet_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="nowhere: not found; set the root of musicnet"):
        MusicNet(root=tmp_path / "nowhere").recordings()
    with pytest.raises(DatasetError, match=r"not MusicNet; looked for folders train_data .* musicnet\.h5 and musicnet"):
        MusicNet(root=tmp_path).recordings()


@pytest.mark.parametrize(
    ("gone", "left"),
    [("train_data/1000.wav", "train_labels/1000.csv"), ("train_labels/1000.csv", "train_data/1000.wav")],
)
def test_a_recording_that_lacks_one_half_is_named(tmp_path: Path, gone: str, left: str) -> None:
    write_folders(tmp_path)
    (tmp_path / gone).unlink()
    with pytest.raises(DatasetError) as caught:
        MusicNet(root=tmp_path).recordings()
    assert str(tmp_path / gone) in str(caught.value)
    assert str(tmp_path / left) in str(caught.value)


def test_labels_without_audio_can_be_listed_and_read(tmp_path: Path) -> None:
    write_csv(tmp_path / "train_labels/1727.csv")
    write_csv(tmp_path / "train_labels/2303.csv")
    dataset = MusicNet(root=tmp_path)
    listed = dataset.label_files()
    assert [(r.id, r.split, path.name) for r, path in listed] == [
        ("1727", "train", "1727.csv"),
        ("2303", "test", "2303.csv"),
    ]
    assert list(dataset.load_notes(listed[0][0])) == NOTES


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ((44100, 22050, 1, 60, 0, 1, ""), "line 3: end must be after start"),
        ((0, 22050, 1, 128, 0, 1, ""), "line 3: pitch must be a MIDI number"),
        ((0, 22050, 129, 60, 0, 1, ""), "line 3: instrument must be 1–128"),
    ],
)
def test_label_rows_that_cannot_be_are_named(tmp_path: Path, row: tuple, message: str) -> None:
    write_folders(tmp_path, ("1000",))
    write_csv(tmp_path / "train_labels/1000.csv", [LABELS[0], row])
    dataset = MusicNet(root=tmp_path)
    with pytest.raises(ScoreError, match=rf"1000\.csv, {message}"):
        dataset.load_notes(dataset.recordings()[0])


def test_broken_metadata_is_named(tmp_path: Path) -> None:
    write_folders(tmp_path, ("1000",))
    (tmp_path / "musicnet_metadata.csv").write_text("number,composer\n1000,Bach\n")
    with pytest.raises(DatasetError, match=r"musicnet_metadata\.csv: not MusicNet's metadata"):
        MusicNet(root=tmp_path).recordings()


def test_audio_counts_as_audio_to_corpora_and_to_transcription_alike(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for number, suffix in enumerate(audio.SUFFIXES):
        (tmp_path / f"data/{number}{suffix.upper()}").touch()
    (tmp_path / "data/notes.txt").touch()
    assert len(_layout.audio_files(tmp_path / "data")) == len(audio.SUFFIXES)
    assert len(transcription.find_recordings([tmp_path / "data"])) == len(audio.SUFFIXES)


def test_the_real_corpus(shared_data: Path) -> None:
    dataset = DATASETS.get("musicnet")(root=shared_data / "musicnet")
    recordings = dataset.recordings()
    assert Counter(r.split for r in recordings) == {"train": 10, "validation": 3}
    assert {r.id for r in recordings if r.split == "validation"} == {"2227", "2231", "2247"}
    assert len({r.work for r in recordings}) == 13
    by_id = {r.id: r for r in recordings}
    assert next(iter(dataset.load_notes(by_id["2227"]))) == Note(989 / 44100, 50142 / 44100, 62, -1, 0)
    assert dataset.load_notes(by_id["2227"]).note_value[0] == "Eighth"
    assert len(dataset.load_audio(by_id["2247"], 16000)) == pytest.approx(81.21 * 16000, abs=160)  # from 96 kHz


def test_no_published_work_is_on_two_sides(shared_data: Path, tmp_path: Path) -> None:
    """Over all 330 recordings, by the catalogue number too, which the split does not look at."""
    metadata = (shared_data / "musicnet/musicnet_metadata.csv").read_text()
    (tmp_path / "musicnet_metadata.csv").write_text(metadata)
    rows = list(csv.DictReader(io.StringIO(metadata)))
    for row in rows:
        write_csv(tmp_path / f"train_labels/{row['id']}.csv")
    recordings = [recording for recording, _ in MusicNet(root=tmp_path).label_files()]
    assert Counter(r.split for r in recordings) == {"train": 317, "validation": 3, "test": 10}
    sides = defaultdict(set)
    for r in recordings:
        sides[r.metadata["composer"], r.metadata["catalog_name"], r.metadata["movement"][:2]].add(r.split)
    assert len(sides) < len(recordings)
    assert all(len(side) == 1 for side in sides.values())
