from __future__ import annotations

import csv
import dataclasses
import json
import shutil

import mir_eval
import numpy as np
import pytest
import soundfile
from conftest import ROOT

from musicnet_tf import audio, inference, scores
from musicnet_tf.alignment import hearing, refine_report
from musicnet_tf.alignment.hearing import Heard
from musicnet_tf.alignment.refine import Refined
from musicnet_tf.alignment.refine_report import Pair, RefineReport, find_pairs, outputs, read_manifest, write
from musicnet_tf.datasets.maps import Maps
from musicnet_tf.decode.notes import NoteDecoding
from musicnet_tf.errors import DatasetError, ModelError, OutputError, ScoreError
from musicnet_tf.events import Notes
from musicnet_tf.timebase import FrameClock

EXAMPLE = ROOT / "examples/bach_bwv866_fugue.ogg"
LABELS = EXAMPLE.with_suffix(".csv")


def moved_by(notes: Notes, seconds: np.ndarray) -> Refined:
    """Every note later by so many seconds, in the order of `notes`."""
    count = len(notes)
    return Refined(notes, notes.onset + seconds, notes.offset + seconds, np.ones(count, bool), np.full(count, 0.5))


def test_a_musicnet_table_keeps_its_columns_and_its_order(tmp_path):
    """Rows neither sorted nor alike in anything, two of them a unison, with a column of somebody's own."""
    given = tmp_path / "a.csv"
    given.write_text(
        "start_time,end_time,instrument,note,start_beat,end_beat,note_value,mine\n"
        '88200,132300,1,60,2.0,0.5,Eighth,"a, b"\n'
        "44100,88200,41,64,1.0,1.0,Quarter,c\n"
        "44100,66150,1,64,1.0,0.5,Eighth,\n"
        "44100,88200,1,62,1.0,,,d\n"
    )
    notes = scores.read(given)
    assert [*zip(notes.pitch.tolist(), notes.instrument.tolist(), strict=True)] == [(62, 0), (64, 0), (64, 40), (60, 0)]
    write(tmp_path / "out", _made(tmp_path / "out", given), moved_by(notes, np.array([0.1, 0.2, 0.3, 0.4])))
    assert (tmp_path / "out/a.csv").read_text() == (
        "start_time,end_time,instrument,note,start_beat,end_beat,note_value,mine\n"
        '105840,149940,1,60,2.0,0.5,Eighth,"a, b"\n'
        "57330,101430,41,64,1.0,1.0,Quarter,c\n"
        "52920,74970,1,64,1.0,0.5,Eighth,\n"
        "48510,92610,1,62,1.0,,,d\n"
    )
    assert (tmp_path / "out/a.moved.csv").read_text() == (
        "onset_before,onset,moved,note,confidence,own_onset\n"
        "2.000000,2.400000,+0.400000,60,0.5000,1\n"
        "1.000000,1.300000,+0.300000,64,0.5000,1\n"
        "1.000000,1.200000,+0.200000,64,0.5000,1\n"
        "1.000000,1.100000,+0.100000,62,0.5000,1\n"
    )


@pytest.mark.parametrize(
    ("head", "rows", "after"),
    [
        ("# onset,offset,note,velocity", ["1.5\t2.0\t62\t70", "0.5\t1.0\t60\t90"], ["1.700000", "0.600000"]),
        ("OnsetTime\tOffsetTime\tMidiPitch", ["1.5\t2.0\t62", "0.5\t1.0\t60"], ["1.700000", "0.600000"]),
    ],
)
def test_tables_of_maps_keep_their_form(tmp_path, head, rows, after):
    given = tmp_path / "a.txt"
    given.write_text("\n".join([head, *rows]) + "\n")
    write(tmp_path / "out", _made(tmp_path / "out", given), moved_by(scores.read(given), np.array([0.1, 0.2])))
    lines = (tmp_path / "out/a.txt").read_text().splitlines()
    assert lines[0] == head
    assert [line.split("\t")[0] for line in lines[1:]] == after
    assert [line.split("\t")[2:] for line in lines[1:]] == [row.split("\t")[2:] for row in rows]
    np.testing.assert_allclose(scores.read(tmp_path / "out/a.txt").offset, [1.1, 2.2])


def test_midi_becomes_musicnets_table(tmp_path):
    notes = Notes([0.5, 1.0], [1.0, 1.5], [60, 64], [80, 80], [0, 0])
    scores.to_midi(notes).write(str(tmp_path / "a.mid"))
    given = scores.read(tmp_path / "a.mid")
    write(tmp_path / "out", _made(tmp_path / "out", tmp_path / "a.mid"), moved_by(given, np.array([0.9, 0.0])))
    found = scores.read(tmp_path / "out/a.csv")
    np.testing.assert_allclose(found.onset, [1.0, 1.4], atol=1e-3)
    with (tmp_path / "out/a.moved.csv").open() as file:
        assert [(row["note"], row["moved"]) for row in csv.DictReader(file)] == [
            ("64", "+0.000000"),
            ("60", "+0.900000"),
        ]


def _made(folder, labels) -> Pair:
    folder.mkdir()
    return Pair(labels.with_suffix(".flac"), labels)


def test_folders_are_paired_by_name_and_what_lacks_a_recording_is_told(tmp_path):
    for name in ("sound/b.wav", "sound/a.flac", "sound/lonely.wav", "labels/a.csv", "labels/a.mid", "labels/b.tsv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    for name in ("labels/c.csv", "labels/notes.doc", "labels/.a.csv"):
        (tmp_path / name).touch()
    found, missing = find_pairs(tmp_path / "sound", tmp_path / "labels")
    assert [(pair.audio.name, pair.labels.name) for pair in found] == [("a.flac", "a.csv"), ("b.wav", "b.tsv")]
    assert [*missing] == ["c"] and "no recording c.*" in missing["c"]
    with pytest.raises(DatasetError, match="one is a folder"):
        find_pairs(tmp_path / "sound", tmp_path / "labels/a.csv")
    with pytest.raises(DatasetError, match="of the same name"):
        find_pairs(tmp_path / "sound", tmp_path / "sound")


def test_a_manifest_is_read_and_its_faults_are_told(tmp_path):
    path = tmp_path / "pairs.csv"
    path.write_text("audio,labels\na.wav,x/a.csv\n/far/b.wav,b.csv\n")
    assert read_manifest(path) == [
        Pair(tmp_path / "a.wav", tmp_path / "x/a.csv"),
        Pair(tmp_path.joinpath("/far/b.wav"), tmp_path / "b.csv"),
    ]
    for text, told in {
        "audio,labels\na.wav,a.csv\nb.wav,x/a.csv\n": "line 3: another line has labels called 'a'",
        "audio,labels\na.wav,\n": "line 2: a path is empty",
        "audio,labels\n": "holds no pairs",
        "audio,score\na.wav,a.csv\n": "lacks labels",
    }.items():
        path.write_text(text)
        with pytest.raises(DatasetError, match=told):
            read_manifest(path)
    with pytest.raises(DatasetError, match="no such manifest"):
        read_manifest(tmp_path / "none.csv")


def test_no_input_is_written_over(tmp_path):
    pair = Pair(tmp_path / "a.wav", tmp_path / "a.csv")
    with pytest.raises(OutputError, match=r"a\.csv: is an input"):
        outputs(tmp_path, pair)
    assert [path.name for path in outputs(tmp_path / "out", pair)] == ["a.csv", "a.moved.csv"]


def test_labels_that_changed_meanwhile_are_refused(tmp_path):
    shutil.copy(LABELS, tmp_path / "a.csv")
    refined = moved_by(scores.read(LABELS)[:-1], np.zeros(1))
    with pytest.raises(ScoreError, match="was changed"):
        write(tmp_path / "out", _made(tmp_path / "out", tmp_path / "a.csv"), refined)


@pytest.fixture(scope="module")
def example():
    """The recording with labels drifting by 0.15 s, jittered, and shifted by 0.2 s: off by that, and its labels."""
    notes = scores.read(LABELS)
    rng = np.random.default_rng(0)
    moves = 0.2 + 0.15 * np.sin(notes.onset) + rng.normal(0, 0.03, len(notes))
    return Notes(notes.onset + moves, notes.offset + moves, notes.pitch, None, notes.instrument, notes.start_beat)


def test_the_verb_brings_labels_back(musicnet, example, tmp_path):
    labels = tmp_path / EXAMPLE.with_suffix(".csv").name
    labels.write_text(scores.format_musicnet_csv(example))
    outcome = musicnet("refine-labels", EXAMPLE, labels, f"--output_dir={tmp_path / 'out'}")
    assert outcome.status == 0, outcome.stderr
    found = json.loads((tmp_path / "out/refine_labels.json").read_text())
    told = found["recordings"][labels.stem]
    assert told["misaligned_before"] > 0.3 and told["misaligned_after"] < 0.03
    assert told["onset_f1_before"] < 0.5 and told["onset_f1_after"] > 0.9
    with (tmp_path / f"out/{labels.stem}.moved.csv").open() as file:
        rows = list(csv.DictReader(file))
    distance = np.abs([float(row["moved"]) for row in rows])
    assert told["moved_median"] == pytest.approx(np.median(distance), abs=1e-4)
    assert told["moved_p95"] == pytest.approx(np.percentile(distance, 95), abs=1e-4)
    assert told["snapped"] == pytest.approx(np.mean([row["own_onset"] == "1" for row in rows]), abs=1e-4)
    after, truth = scores.read(tmp_path / "out" / labels.name), scores.read(LABELS)
    # An oracle that knows nothing of ours; the published labels lie 0.02 s late of this recording's onsets.
    hertz = mir_eval.util.midi_to_hz
    sides = (truth.intervals(), hertz(truth.pitch)), (after.intervals(), hertz(after.pitch))
    matched = mir_eval.transcription.match_notes(*sides[0], *sides[1], onset_tolerance=0.1, offset_ratio=None)
    assert len(matched) > 0.96 * len(truth)
    assert sorted(after.start_beat.tolist()) == sorted(truth.start_beat.tolist())
    row = next(line for line in outcome.stdout.splitlines() if line.startswith(labels.stem))
    assert f"{100 * told['misaligned_before']:.1f}% → {100 * told['misaligned_after']:.1f}%" in row
    assert f"{told['onset_f1_before']:.3f} → {told['onset_f1_after']:.3f}" in row


def test_a_batch_goes_on_past_what_is_bad(musicnet, example, tmp_path):
    sound, labelled = tmp_path / "sound", tmp_path / "labels"
    sound.mkdir(), labelled.mkdir()
    for name in ("good", "empty", "torn"):
        shutil.copy(EXAMPLE, sound / f"{name}.ogg")
    text = scores.format_musicnet_csv(example)
    (sound / "noise.wav").write_bytes(b"no audio")
    soundfile.write(sound / "silent.wav", np.zeros(32000), 16000)
    for name in ("good", "noise", "silent", "lonely"):
        (labelled / f"{name}.csv").write_text(text)
    (labelled / "empty.csv").write_text(text.splitlines()[0] + "\n")
    (labelled / "torn.csv").write_text(text[:-30])
    outcome = musicnet("refine-labels", sound, labelled, f"--output_dir={tmp_path / 'out'}")
    assert outcome.status == 1
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["good.csv", "good.moved.csv", "refine_labels.json"]
    found = json.loads((tmp_path / "out/refine_labels.json").read_text())
    assert (found["refined"], found["failed"], [*found["recordings"]]) == (1, 5, ["good"])
    told = {"empty": "no labels to refine", "torn": "fields", "noise": "not audio", "silent": "silent"}
    for name, why in {**told, "lonely": "no recording lonely.*"}.items():
        assert why in found["errors"][name]
        assert (
            sum(line.startswith(f"musicnet refine_labels: error: {name}: ") for line in outcome.stderr.splitlines())
            == 1
        )
    assert "1 refined, 5 failed" in outcome.stdout.splitlines()[-1]


def test_wrong_usage_is_one_line(musicnet, tmp_path):
    out = f"--output_dir={tmp_path / 'out'}"
    for args in ((out,), (EXAMPLE, out), (EXAMPLE, LABELS, out, "--manifest=x.csv"), (EXAMPLE, LABELS)):
        outcome = musicnet("refine-labels", *args)
        assert outcome.status == 2 and len(outcome.stderr.strip().splitlines()) == 1
    for args, told in {
        (EXAMPLE, LABELS, "--reach=0"): "reach",
        (EXAMPLE, LABELS, "--model=nothing"): "nothing",
        ("--manifest=none.csv",): "none.csv",
        (EXAMPLE.parent, LABELS): "one is a folder",
    }.items():
        outcome = musicnet("refine-labels", *args, out)
        assert outcome.status == 1 and told in outcome.stderr
        assert len(outcome.stderr.strip().splitlines()) == 1


def test_a_model_that_hears_no_onsets_is_refused():
    predictor = inference.load()
    spec = dict(predictor.manifest.spec)
    spec["heads"] = {"frame": spec["heads"]["frame"]}
    deaf = dataclasses.replace(predictor, manifest=predictor.manifest.model_copy(update={"spec": spec}))
    with pytest.raises(ModelError, match="no heads onset and frame"):
        hearing.hear(np.zeros(16000, np.float32), 16000, deaf)


def test_scores_are_of_both_sides():
    """One note of two is moved off what is heard, by 0.2 s: F1 falls from 1 to 1/2, and all else is by hand."""
    heads = {name: np.zeros((200, 88), np.float32) for name in ("onset", "frame")}
    for first, column in ((50, 40), (100, 45)):
        heads["onset"][first, column] = 1
        heads["frame"][first : first + 25, column] = 1
    notes = Notes([1.0, 2.0], [1.5, 2.5], [61, 66])
    sound = np.random.default_rng(0).normal(0, 0.1, 64000).astype(np.float32)
    refined = moved_by(notes, np.array([0.0, 0.2]))
    heard = Heard(heads, FrameClock(16000, 320), 21)
    found = refine_report.score(refined, heard, NoteDecoding(), sound, 16000)
    assert (found.labels, found.snapped, found.onset_f1_before, found.onset_f1_after) == (2, 1.0, 1.0, 0.5)
    assert (found.moved_median, found.shift) == pytest.approx((0.1, 0.1))
    assert found.moved_p95 == pytest.approx(0.19)


def test_what_a_person_should_look_at_is_told():
    fine = refine_report.Scores(10, 1.0, 0.2, 0.0, 0.0, 0.0, 0.5, 0.9, 0.03, 0.1, 0.0)
    report = RefineReport({}, {"fine": fine})
    report.done["worse"] = dataclasses.replace(fine, labels=30, misaligned_after=0.3)
    report.done["other"] = dataclasses.replace(fine, misaligned_after=0.8)
    told = list(report.remarks())
    assert [line.split(":")[0] for line in told] == ["worse", "other"]
    assert "keep those that were given" in told[0] and "of this recording" in told[1]
    # (10 · 0 + 30 · 0.3 + 10 · 0.8) / 50 labels
    assert "20.0% → 34.0%" in report.table().splitlines()[-1]
    unknown = dataclasses.replace(fine, misaligned_before=float("nan"))
    assert unknown.to_dict()["misaligned_before"] is None
    assert "- → 0.0%" in RefineReport({}, {"a": unknown}).table()


@pytest.mark.slow
def test_disturbed_labels_of_real_music_come_nearer_to_the_truth(shared_data):
    from benchmarks import label_refinement

    corpus = Maps(root=shared_data / "maps", delay=label_refinement.DELAY)
    piece = next(r for r in corpus.recordings() if "mz_545_3" in r.id)
    found = label_refinement.measure(corpus, piece, inference.load(), seed=0)
    before, after, undisturbed = (np.abs(x) for x in (found.before, found.after, found.undisturbed))
    assert (before > 0.1).mean() > 0.4 and (after > 0.1).mean() < 0.03
    assert np.median(after) < 0.01
    assert (undisturbed > 0.05).mean() < 0.03


def test_what_is_heard_is_on_the_clock_of_the_recording():
    predictor = inference.load()
    sound = audio.load(EXAMPLE, 22050)
    found = hearing.hear(sound, 22050, predictor)
    assert found.num_frames == found.clock.num_frames(round(len(sound) * 16000 / 22050))
    assert (found.first_pitch, found.heads["onset"].shape[1]) == (21, 88)
