import collections
import csv
import json
import tarfile

import h5py
import numpy as np
import pytest

from musicnet_tf import statistics
from musicnet_tf.errors import DatasetError
from musicnet_tf.events import Note, Notes
from musicnet_tf.statistics import Labelled

GENERAL_MIDI = {  # program counted from 1, as in the label files, and the name in the paper
    **{1: "Piano", 7: "Harpsichord", 41: "Violin", 42: "Viola", 43: "Cello", 44: "String Bass", 61: "Horn"},
    **{69: "Oboe", 71: "Bassoon", 72: "Clarinet", 74: "Flute"},
}

PAPER = {  # Table 1, which counts 330 recordings: labels, distinct notes where they are printed
    "Piano": (794_532, 83),
    "Violin": (230_484, 51),
    "Viola": (99_407, 51),
    "Cello": (99_132, 51),
    "Clarinet": (24_426, 41),
    "Bassoon": (14_954, 36),
    "Horn": (11_468, 41),
    "Oboe": (8_696, 28),
    "Flute": (8_310, 37),
    "Harpsichord": (4_914, 51),
    "String Bass": (3_006, 43),
}


@pytest.fixture(scope="module")
def labels(shared_data, tmp_path_factory):
    """The published label files, unpacked."""
    folder = tmp_path_factory.mktemp("labels")
    with tarfile.open(shared_data / "musicnet_labels.tar.xz") as tar:
        tar.extractall(folder, filter="data")
    return folder / "musicnet_labels"


@pytest.fixture(scope="module")
def counted(labels):
    """The same counts by the csv module alone, row by row."""
    with (labels / "musicnet_metadata.csv").open(newline="") as file:
        metadata = {row["id"]: row for row in csv.DictReader(file)}
    count = collections.defaultdict(collections.Counter)
    pitches = collections.defaultdict(set)
    for path in (labels / "train").glob("*.csv"):
        row = metadata[path.stem]
        with path.open(newline="") as file:
            lines = csv.reader(file)
            next(lines)
            pairs = collections.Counter((line[2], line[3]) for line in lines)
        playing = {GENERAL_MIDI[int(program)] for program, _ in pairs}
        for (program, pitch), number in pairs.items():
            pitches[GENERAL_MIDI[int(program)]].add(pitch)
            count["instruments"][GENERAL_MIDI[int(program)]] += number
        count["composers"][row["composer"]] += pairs.total()
        count["ensembles"][row["ensemble"]] += pairs.total()
        groups = {"composers": [row["composer"]], "ensembles": [row["ensemble"]], "instruments": playing}
        for group, names in {**groups, "total": ["all"]}.items():
            for name in names:
                count[f"{group} seconds"][name] += int(row["seconds"])
                count[f"{group} recordings"][name] += 1
    return count, pitches


@pytest.fixture(scope="module")
def table(labels):
    return statistics.summarise(statistics.read(labels)).to_dict()


def test_agrees_with_counting_rows(table, counted):
    count, pitches = counted
    for group in ("composers", "ensembles", "instruments"):
        assert {name: row["labels"] for name, row in table[group].items()} == count[group]
        assert {name: row["recordings"] for name, row in table[group].items()} == count[f"{group} recordings"]
        for name, row in table[group].items():
            assert row["minutes"] == pytest.approx(count[f"{group} seconds"][name] / 60, abs=0.005)
    assert {name: row["notes"] for name, row in table["instruments"].items()} == {k: len(v) for k, v in pitches.items()}
    assert table["total"]["labels"] == sum(count["composers"].values()) == 1_073_980
    assert table["total"]["recordings"] == 317
    assert table["total"]["label_classes"] == sum(map(len, pitches.values())) == 499
    assert table["total"]["minutes"] == pytest.approx(count["total seconds"]["all"] / 60, abs=0.005)


def test_stays_within_the_papers_table(table):
    """The paper counts 330 recordings and an earlier state of the labels; nothing may exceed it."""
    assert set(table["instruments"]) == set(PAPER)
    assert sum(labels for labels, _ in PAPER.values()) == 1_299_329
    assert sum(notes for _, notes in PAPER.values()) == 513
    for name, (labels, notes) in PAPER.items():
        assert table["instruments"][name]["labels"] <= labels
        assert table["instruments"][name]["notes"] <= notes
    for name in ("Harpsichord", "String Bass", "Flute"):  # no recording of theirs is missing, none was relabelled
        assert (table["instruments"][name]["labels"], table["instruments"][name]["notes"]) == PAPER[name]


def test_rows_by_hand():
    duo = Notes.from_list([Note(0, 30, 60, 80, 0), Note(10, 90, 60, 80, 40), Note(20, 25, 60, 80, 0), Note(1, 2, 61)])
    solo = Notes.from_list([Note(0, 6, 72, 80, 0)])
    table = statistics.summarise([Labelled(duo, None, "Bach", "Duo"), Labelled(solo, 120.0, "Bach", "")]).to_dict()
    assert table["total"] == {"minutes": 3.5, "labels": 5, "recordings": 2, "notes": 3, "label_classes": 4}
    assert table["composers"] == {"Bach": {"minutes": 3.5, "labels": 5, "recordings": 2, "notes": 3}}
    assert table["ensembles"] == {
        "Duo": {"minutes": 1.5, "labels": 4, "recordings": 1, "notes": 2},
        "(unknown)": {"minutes": 2.0, "labels": 1, "recordings": 1, "notes": 1},
    }
    assert table["instruments"] == {
        "Piano": {"minutes": 3.5, "labels": 3, "recordings": 2, "notes": 2},
        "(unknown)": {"minutes": 1.5, "labels": 1, "recordings": 1, "notes": 1},
        "Violin": {"minutes": 1.5, "labels": 1, "recordings": 1, "notes": 1},
    }


def test_record_set_counts_as_its_corpus_does(tmp_path):
    """A recording of 5 s in excerpts of 2 s, one note of which reaches over two edges."""
    import tensorflow as tf

    import musicnet_tf
    from musicnet_tf import record_info, records
    from musicnet_tf.datasets import Recording

    notes = Notes.from_list([Note(0.5, 4.5, 60, 80, 40), Note(1.0, 1.5, 62, 80, 40), Note(4.2, 4.9, 62, 80, 0)])
    recording = Recording("1", "train", "work", {"composer": "Cambini", "ensemble": "Duo", "seconds": "9999"})
    excerpts = records.cut(recording, "corpus", np.zeros(40_000, np.float32), notes, 8000, 2.0)
    with tf.io.TFRecordWriter(str(tmp_path / "a.tfrecord")) as writer:
        for excerpt in excerpts:
            writer.write(records.serialise(excerpt, "pcm_s16le"))
    size = (tmp_path / "a.tfrecord").stat().st_size
    entry = {"split": "train", "work": "work", "seconds": 5.0}
    record_info.DatasetInfo(
        **{"library_version": musicnet_tf.__version__, "corpus": "corpus", "licence": "", "sample_rate": 8000},
        **{"encoding": "pcm_s16le", "config": {}, "splits": {}, "composers": {}, "instruments": {}, "split_hash": ""},
        shards=(record_info.Shard(file="a.tfrecord", split="train", num_excerpts=len(excerpts), num_bytes=size),),
        recordings={"1": {**entry, **{f"metadata/{key}": value for key, value in recording.metadata.items()}}},
    ).write(tmp_path)
    expected = statistics.summarise([Labelled(notes, 5.0, "Cambini", "Duo")]).to_dict()
    assert len(excerpts) == 3
    assert statistics.summarise(statistics.read(tmp_path)).to_dict() == expected


def test_minutes_are_of_the_last_label_without_metadata(tmp_path):
    (tmp_path / "deep").mkdir()
    path = tmp_path / "deep/1.csv"
    path.write_text(f"start_time,end_time,instrument,note\n0,{44100 * 60},1,60\n")
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    assert statistics.summarise(statistics.read(tmp_path)).to_dict()["total"]["minutes"] == 1.0


def test_the_hdf5_form_is_counted_too(tmp_path):
    kinds = [(name, "i8") for name in ("start_time", "end_time", "instrument", "note")]
    rows = [(0, 44100, 1, 60, "Half"), (0, 88200, 41, 67, "Whole"), (44100, 88200, 1, 60, "Half")]
    with h5py.File(tmp_path / "musicnet.h5", "w") as file:
        file["id_7/data"] = np.zeros(88200, np.float32)
        file["id_7/labels"] = np.array(rows, [*kinds, ("note_value", h5py.string_dtype())])
    (tmp_path / "musicnet_metadata.csv").write_text(
        "id,composer,composition,movement,ensemble,seconds\n7,Bach,,,Duo,30\n"
    )
    for path in (tmp_path, tmp_path / "musicnet.h5"):
        table = statistics.summarise(statistics.read(path)).to_dict()
        assert table["composers"] == {"Bach": {"minutes": 0.5, "labels": 3, "recordings": 1, "notes": 2}}
        assert {name: row["labels"] for name, row in table["instruments"].items()} == {"Piano": 2, "Violin": 1}


def test_a_folder_of_something_else_is_told(tmp_path):
    with pytest.raises(DatasetError, match="holds no record set"):
        statistics.read(tmp_path)


@pytest.mark.parametrize("name", ["maps", "bach10"])
def test_any_registered_corpus_is_counted(shared_data, musicnet, name):
    """Against counting lines of its label files."""
    root = shared_data / name
    outcome = musicnet("stats", root, f"--dataset={name}", "--json")
    assert outcome.status == 0
    total = json.loads(outcome.stdout)[str(root)]["total"]
    if name == "maps":
        rows = [line for path in root.rglob("*.tsv") for line in path.read_text().splitlines()]
        assert total["labels"] == sum(line[:1].isdigit() for line in rows)
        assert total["recordings"] == 24
    else:  # each note in the mix and in the part that plays it
        rows = [line for path in root.rglob("*.musicnet.csv") for line in path.read_text().splitlines()]
        assert total["labels"] == 2 * sum(line[:1].isdigit() for line in rows)
        assert total["recordings"] == 20
        assert total["label_classes"] > 50


def test_a_corpus_by_a_wrong_name_or_at_a_wrong_place_is_told(musicnet, tmp_path):
    outcome = musicnet("stats", tmp_path, "--dataset=map")
    assert outcome.status == 1
    assert "unknown corpus 'map', did you mean 'maps'?" in outcome.stderr
    outcome = musicnet("stats", tmp_path, "--dataset=maps")
    assert outcome.status == 1
    assert "not MAPS; looked for" in outcome.stderr


def test_verb(shared_data, musicnet, tmp_path):
    root = shared_data / "musicnet"
    done = musicnet("stats", root)
    assert done.status == 0
    assert "13 recordings" in done.stdout.splitlines()[0]
    table = json.loads(musicnet("stats", root, "--json").stdout)[str(root)]
    assert {name: row["recordings"] for name, row in table["ensembles"].items()} == {"Solo Piano": 12, "Solo Violin": 1}
    refused = musicnet("stats", tmp_path)
    assert (refused.status, refused.stdout) == (1, "")
    assert refused.stderr.startswith(f"musicnet stats: error: {tmp_path}: holds no record set")
    assert musicnet("stats").status == 2
