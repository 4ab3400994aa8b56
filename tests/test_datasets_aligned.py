"""The output of a batch of alignments as a corpus, from the manifest to the records."""

from __future__ import annotations

import shutil

import align_work
import numpy as np
import pytest
import soundfile
import synthetic

from musicnet_tf import records
from musicnet_tf.alignment import report
from musicnet_tf.alignment.report import Row
from musicnet_tf.alignment.settings import Settings
from musicnet_tf.datasets import stable_split
from musicnet_tf.datasets.aligned import Aligned
from musicnet_tf.errors import AudioError, DatasetError
from musicnet_tf.events import Note, Notes
from musicnet_tf.registry import DATASETS
from musicnet_tf.scores import format_musicnet_csv

VIOLIN = format_musicnet_csv(Notes.from_list([Note(0.5, 1.0, 60, -1, 40), Note(1.0, 1.5, 64, -1, 40)]))
PIANO = format_musicnet_csv(Notes.from_list([Note(0.5, 1.0, 60, -1, 0)]))


def write(folder, *rows, labels=VIOLIN):
    """A report of these rows, with labels for each that names some."""
    folder.mkdir(exist_ok=True)
    for row in rows:
        if row.labels:
            (folder / row.labels).write_text(labels)
    report.write(rows, folder)
    return folder


def row(id, status="accepted", confidence=0.9, **more):
    labels = {"accepted": f"{id}.csv", "rejected": f"{id}.rejected.csv"}.get(status, "")
    given = {"audio": f"../in/{id}.wav", "score": f"../in/{id}.mid", "labels": labels, **more}
    return Row(id, status, confidence=confidence, **given)


def ids(folder, **options):
    return [recording.id for recording in Aligned(root=folder, **options).recordings()]


def splits(folder, **options):
    return {recording.id: recording.split for recording in Aligned(root=folder, **options).recordings()}


def test_is_registered():
    assert DATASETS.get("aligned") is Aligned


def test_what_was_aligned_is_what_the_records_hold(build_records, tmp_path):
    from pipelines import align

    source, out = tmp_path / "in", tmp_path / "out"
    synthetic.write_musicnet(source, {"1": 2.4, "2": 1.6, "3": 1.1}, sample_rate=8000)
    lines = ["id,audio,score,composer,composition,licence,split"]
    lines += ["one,train_data/1.wav,train_labels/1.csv,Cambini,Quintet,CC0,validation"]
    lines += ["two,train_data/2.wav,train_labels/2.csv,Cage,Piece,CC BY,"]
    lines += ["three_wrong,train_data/3.wav,train_labels/3.csv,,,,", "four,none.wav,none.mid,,,,"]
    (source / "pairs.csv").write_text("\n".join(lines) + "\n")
    options = align.beam_options("FnApiRunner")
    given = align.align_pairs(
        source / "pairs.csv", out, Settings(), options=options, timeout=20.0, work=align_work.copy_labels
    )
    assert {r.id: r.status for r in given.rows} == {
        "one": "accepted",
        "two": "accepted",
        "three_wrong": "rejected",
        "four": "failed",
    }
    settings = build_records.Settings(Aligned(root=out, validation_fraction=0.0), 8000, 1.0, "pcm_s16le", 4)
    info = build_records.build(settings, tmp_path / "set", build_records.beam_options("FnApiRunner"))
    assert info.failed == {}
    assert {id: entry["split"] for id, entry in info.recordings.items()} == {"one": "validation", "two": "train"}
    assert info.recordings["two"]["metadata/licence"] == "CC BY"
    for entry, notes in records.read_notes(tmp_path / "set"):
        truth = Aligned(root=out).load_notes(next(r for r in Aligned(root=out).recordings() if r.id == entry["id"]))
        number = {"one": "1", "two": "2"}[entry["id"]]
        assert format_musicnet_csv(truth) == (source / f"train_labels/{number}.csv").read_text()
        assert notes.pitch.tolist() == truth.pitch.tolist()
        assert notes.onset == pytest.approx(truth.onset, abs=0.51 / 8000)
        assert entry["seconds"] == pytest.approx({"one": 2.4, "two": 1.6}[entry["id"]])


def test_sound_and_labels_lie_where_the_report_says(tmp_path):
    (tmp_path / "in").mkdir()
    sound = 0.5 * np.sin(np.arange(4000) * 0.3)
    soundfile.write(tmp_path / "in/a.wav", sound, 8000, subtype="PCM_16")
    corpus = Aligned(root=write(tmp_path / "out", row("a"), row("b", work="Y"), row("c", "rejected", 0.2)))
    a, b = corpus.recordings()
    assert corpus.load_audio(a, 8000) == pytest.approx(sound, abs=1e-4)
    assert corpus.load_notes(a).pitch.tolist() == [60, 64]
    with pytest.raises(AudioError, match=r"b\.wav"):
        corpus.load_audio(b, 8000)
    with pytest.raises(DatasetError, match="holds no recording 'd'"):
        corpus.load_notes(type(a)("d", "train", "d"))
    moved = Aligned(root=shutil.copytree(tmp_path / "out", tmp_path / "moved"))
    assert moved.recordings() == corpus.recordings()


def test_only_what_is_accepted_and_sure_is_taken(tmp_path):
    folder = write(
        tmp_path / "out", row("sure"), row("unsure", confidence=0.4), row("wrong", "rejected", 0.1), row("f", "failed")
    )
    assert ids(folder) == ["sure", "unsure"]
    assert ids(folder, min_confidence=0.4) == ["sure", "unsure"]
    assert ids(folder, min_confidence=0.41) == ["sure"]
    assert ids(folder, include_rejected=True) == ["sure", "unsure", "wrong"]


def test_a_verdict_counts_without_another_run_of_the_batch(tmp_path):
    folder = write(tmp_path / "out", row("a"), row("b", "rejected", 0.1), row("c", "rejected", 0.1), row("d"))
    (folder / report.VERDICTS).write_text("id,verdict\na,reject\nb,accept\nc,reject\n")
    assert ids(folder) == ["b", "d"]
    assert ids(folder, min_confidence=0.5) == ["b", "d"], "a person is surer than the program"
    assert ids(folder, include_rejected=True) == ["b", "d"]


def test_recordings_of_one_work_are_on_one_side(tmp_path):
    rows = [row(f"{work}{k}", work=f"Work {work}") for work in "abcdefghijklmnopqrst" for k in range(3)]
    folder = write(tmp_path / "out", *rows)
    found = Aligned(root=folder, validation_fraction=0.5).recordings()
    sides = {recording.work: set() for recording in found}
    for recording in found:
        sides[recording.work].add(recording.split)
    assert sides == {f"Work {work}": {stable_split(f"Work {work}", 0.5)} for work in "abcdefghijklmnopqrst"}
    assert {"train"} in sides.values()
    assert {"validation"} in sides.values()


def test_a_work_without_a_name_is_known_by_its_composition_or_its_score(tmp_path):
    rows = [
        row("a", composer="Cage", composition="Quartet Op. 3"),
        row("b", composer="Cage", composition="op.3, II"),
        row("c", score="../in/same.mid"),
        row("d", score="../in/same.mid"),
        row("e", score="../other/same.mid"),
    ]
    works = {recording.id: recording.work for recording in Aligned(root=write(tmp_path / "out", *rows)).recordings()}
    assert works["a"] == works["b"] == "Cage: op3"
    assert works["c"] == works["d"] != works["e"]


def test_a_split_of_the_manifest_holds_for_the_whole_work(tmp_path):
    rows = [row("a", work="X", split="test"), row("b", work="X"), row("c", "rejected", 0.1, work="Y", split="test")]
    rows += [row("d", work="Y"), row("e", work="Z", split="train"), row("f", work="W")]
    found = splits(write(tmp_path / "out", *rows), validation_fraction=1.0)
    assert found == {"a": "test", "b": "test", "d": "test", "e": "train", "f": "validation"}


def test_a_work_on_two_sides_is_refused(tmp_path):
    rows = [row("a", work="X", split="test"), row("b", work="X", split="train")]
    with pytest.raises(DatasetError, match="'a' is test and 'b' train, but both are recordings of 'X'; give one"):
        ids(write(tmp_path / "out", *rows))


HELD_OUT = {"composer": "Beethoven", "composition": "String Quartet No. 13, Op. 130"}


def test_what_others_test_on_is_never_trained_on(tmp_path, caplog):
    rows = [
        row("presto", **HELD_OUT, movement="2. Presto"),
        row("adagio", **HELD_OUT, movement="1. Adagio"),
        row("asked", **HELD_OUT, movement="2. Presto", work="own", split="train"),
        row("lark", composer="Haydn", composition="Quartet op.64 no.5", movement="3. Menuetto", split="test"),
    ]
    assert splits(write(tmp_path / "out", *rows), validation_fraction=0.0) == {"adagio": "train", "lark": "test"}
    assert "left out, as they are tested or validated on: asked (MusicNet test 2382), presto (" in caplog.text


def test_piano_alone_is_told_by_the_ensemble_or_else_by_the_labels(tmp_path):
    told = [
        row("solo", composer="Chopin", ensemble="Solo Piano"),
        row("duo", composer="Chopin", ensemble="Cello, Piano"),
    ]
    assert ids(write(tmp_path / "told", *told)) == ["duo"]
    untold = row("a", composer="Chopin", composition="Sonata")
    assert ids(write(tmp_path / "violin", untold)) == ["a"]
    assert ids(write(tmp_path / "piano", untold, labels=PIANO)) == []


def test_labels_that_changed_make_other_recordings(tmp_path):
    folder = write(tmp_path / "out", row("a"))
    (before,) = Aligned(root=folder).recordings()
    assert Aligned(root=folder).recordings() == [before]
    (folder / "a.csv").write_text(VIOLIN.replace("60", "61"))
    (after,) = Aligned(root=folder).recordings()
    assert before.metadata != after.metadata


def test_what_is_missing_is_told(tmp_path):
    with pytest.raises(DatasetError, match="nowhere: not found; set the root of aligned"):
        ids(tmp_path / "nowhere")
    with pytest.raises(DatasetError, match=r"report\.csv: not found; run musicnet align"):
        ids(tmp_path)
    folder = write(tmp_path / "out", row("a"), row("b", labels=""))
    with pytest.raises(DatasetError, match="'b' has no labels; run musicnet align again with the format csv"):
        ids(folder)
    (folder / "a.csv").unlink()
    with pytest.raises(DatasetError, match=r"a\.csv: cannot be read \(No such file or directory\); run musicnet"):
        ids(folder)
