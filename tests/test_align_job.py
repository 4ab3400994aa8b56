"""Aligning a manifest of pairs by Beam: resuming, and going on past what hangs, crashes or is no pair at all."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from pathlib import Path

import align_work
import numpy as np
import pretty_midi
import pytest
import soundfile
import synthetic

from musicnet_tf import synthesis
from musicnet_tf.alignment import report
from musicnet_tf.alignment.pairs import read_manifest
from musicnet_tf.alignment.settings import Features, Settings
from musicnet_tf.errors import AlignmentError, DatasetError, OutputError
from musicnet_tf.events import Notes
from musicnet_tf.scores import read_musicnet_csv, to_midi

SETTINGS = Settings(max_memory_gib=1.0)
SPECTRAL = Settings(features=Features(kind="pitch_onset"), step_penalty=0.3)  # a process each: without TensorFlow


@pytest.fixture
def align():
    """Runs the job in this process, with `align_work.by_score` in place of an alignment."""
    from pipelines import align as job

    def run(manifest, folder, settings=SETTINGS, timeout=20.0, **more):
        options = job.beam_options("FnApiRunner")
        given = {"work": align_work.by_score, **more}
        return job.align_pairs(manifest, folder, settings, options=options, timeout=timeout, **given)

    return run


def write_manifest(folder, works, header="id,audio,score", more=None):
    """A pair for each id, whose score says what is done with it."""
    folder.mkdir(exist_ok=True)
    lines = [header]
    for id, work in works.items():
        (folder / f"{id}.wav").write_bytes(b"sound")
        (folder / f"{id}.mid").write_text(work)
        lines.append(",".join([id, f"{id}.wav", f"{id}.mid", *(more or {}).get(id, ())]))
    path = folder / "pairs.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def calls(folder):
    """Ids of the pairs that were worked on since the last question."""
    path = folder / "calls.txt"
    ids = sorted(path.read_text().split()) if path.exists() else []
    path.unlink(missing_ok=True)
    return ids


def status(given):
    return {row.id: row.status for row in given.rows}


def test_pairs_are_aligned_and_told_least_sure_first(align, tmp_path):
    header = "id,audio,score,composer,licence"
    works = {"a": "accept 0.9", "b": "reject 0.1", "c": "accept 0.5"}
    more = {"a": ("Bach", "CC0"), "b": ("", ""), "c": ('"Cage, John"', "")}
    given = align(write_manifest(tmp_path / "in", works, header, more), tmp_path / "out")
    assert given.counts() == {"accepted": 2, "rejected": 1, "failed": 0, "resumed": 0, "verdicts": 0}
    assert [(row.id, row.confidence, row.composer) for row in given.rows] == [
        ("b", 0.1, ""),
        ("c", 0.5, "Cage, John"),
        ("a", 0.9, "Bach"),
    ]
    assert report.read(tmp_path / "out") == list(given.rows)
    assert (tmp_path / "out" / given.rows[2].audio).resolve() == (tmp_path / "in/a.wav").resolve()
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        *(f"{id}.{name}" for id in "ac" for name in ("csv", "json", "png", "flac")),
        *("b.rejected.csv", "b.json", "b.png", "b.flac", "calls.txt", "report.csv", "report.html", ".parts"),
    }


def test_a_second_run_does_only_what_is_not_done(align, tmp_path):
    source, out = tmp_path / "in", tmp_path / "out"
    works = {"a": "accept 0.9", "b": "refuse", "c": "reject 0.2", "d": "accept 0.8"}
    manifest = write_manifest(source, works)
    assert align(manifest, out).counts()["failed"] == 1
    assert calls(out) == ["a", "b", "c", "d"]

    again = align(manifest, out)
    assert calls(out) == ["b"], "what failed is tried again"
    assert again.counts() == {"accepted": 2, "rejected": 1, "failed": 1, "resumed": 3, "verdicts": 0}

    (source / "b.mid").write_text("accept 0.7")
    (source / "a.wav").write_bytes(b"another sound")
    (out / "d.flac").unlink()
    repaired = align(manifest, out)
    assert calls(out) == ["a", "b", "d"], "a file of each has changed, or is lost"
    assert status(repaired) == {"a": "accepted", "b": "accepted", "c": "rejected", "d": "accepted"}

    align(manifest, out, SETTINGS.model_copy(update={"step_penalty": 0.2}))
    assert calls(out) == ["a", "b", "c", "d"], "other settings"


def test_keeping_rejected_pairs_aligns_those_alone_again(align, tmp_path):
    out = tmp_path / "out"
    manifest = write_manifest(tmp_path / "in", {"a": "accept 0.9", "b": "reject 0.2"})
    align(manifest, out)
    assert [row.labels for row in report.read(out)] == ["b.rejected.csv", "a.csv"]
    calls(out)
    align(manifest, out, keep_rejected=True)
    assert calls(out) == ["b"]
    assert [row.labels for row in report.read(out)] == ["b.csv", "a.csv"]
    assert not (out / "b.rejected.csv").exists()


def test_more_formats_are_aligned_again_and_fewer_are_not(align, tmp_path):
    out = tmp_path / "out"
    manifest = write_manifest(tmp_path / "in", {"a": "accept 0.9"})
    (row,) = align(manifest, out, formats=("json",)).rows
    assert (row.outputs, row.labels) == (("a.json",), "")
    calls(out)
    align(manifest, out, formats=("csv", "json"))
    assert calls(out) == ["a"]
    (row,) = align(manifest, out, formats=("csv",)).rows
    assert calls(out) == []
    assert (row.outputs, row.labels) == (("a.csv", "a.json"), "a.csv")


def test_labels_of_an_earlier_run_do_not_outlive_a_rejection(align, tmp_path):
    out = tmp_path / "out"
    manifest = write_manifest(tmp_path / "in", {"a": "accept 0.9", "b": "accept 0.9"})
    align(manifest, out)
    (tmp_path / "in/a.mid").write_text("reject 0.12")
    (tmp_path / "in/b.mid").write_text("refuse twice")
    assert status(align(manifest, out)) == {"a": "rejected", "b": "failed"}
    assert {path.name for path in out.iterdir() if path.name[0] in "ab"} == {
        *("a.rejected.csv", "a.json", "a.png", "a.flac")
    }


def test_the_batch_goes_on_past_every_kind_of_failure(align, tmp_path, caplog):
    works = {name: name for name in ("crash", "explode", "fault", "leave", "refuse")}
    given = align(write_manifest(tmp_path / "in", {**works, "good": "accept 0.9"}), tmp_path / "out")
    assert {row.id: row.findings for row in given.rows} == {
        "crash": ("its process crashed (SIGSEGV)",),
        "explode": ("needs more than the 5 GiB of memory that a pair may take",),
        "fault": ("stopped on an error that nobody expected (KeyError: 'no such thing')",),
        "leave": ("its process ended without an answer (status 3)",),
        "refuse": ("refuse.wav: is silent",),
        "good": (),
    }
    assert status(given) == {**dict.fromkeys(works, "failed"), "good": "accepted"}
    assert "align_work.py" in caplog.text, "the traceback of what nobody expected"


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="asks /proc whether a program runs")
def test_a_pair_that_hangs_is_killed_with_all_it_started(align, tmp_path):
    manifest, out = write_manifest(tmp_path / "in", {"a": "hang", "b": "accept 0.9"}), tmp_path / "out"
    started = time.monotonic()
    given = align(manifest, out, timeout=1.0)
    assert time.monotonic() - started < 60
    assert status(given) == {"a": "failed", "b": "accepted"}
    assert given.rows[0].findings == ("gave up after 1 s; allow more time, or align a shorter piece",)
    program = int((out / "program.txt").read_text())
    deadline = time.monotonic() + 10
    while is_running(program) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_running(program)
    assert not [path.name for path in out.iterdir() if ".part" in path.name and path.name != ".parts"]


def test_nothing_but_failures_is_an_error_that_tells_them(align, tmp_path):
    manifest = write_manifest(tmp_path / "in", {"a": "refuse", "b": "leave"})
    with pytest.raises(AlignmentError, match=r"none of 2 pairs could be aligned \(a: a\.wav: is silent; b: its proc"):
        align(manifest, tmp_path / "out")
    assert [row.status for row in report.read(tmp_path / "out")] == ["failed", "failed"]


def test_a_full_disk_ends_the_batch_in_one_line(align, tmp_path):
    manifest = write_manifest(tmp_path / "in", {"a": "full_disk"})
    with pytest.raises(OutputError, match=r"^a\.csv: cannot be written \(No space left on device\)$"):
        align(manifest, tmp_path / "out")
    assert not (tmp_path / "out" / report.TABLE).exists()
    (tmp_path / "in/a.mid").write_text("accept 1.0")
    assert status(align(manifest, tmp_path / "out")) == {"a": "accepted"}


def test_a_damaged_note_is_no_note(align, tmp_path):
    manifest, out = write_manifest(tmp_path / "in", {"a": "accept 0.9"}), tmp_path / "out"
    align(manifest, out)
    (out / ".parts/a.json").write_text('{"fingerprint": ')
    calls(out)
    assert align(manifest, out).counts()["accepted"] == 1
    assert calls(out) == ["a"]


def test_nothing_that_was_given_is_overwritten(align, tmp_path):
    folder = tmp_path / "both"
    manifest = write_manifest(folder, {"a": "accept 0.9"})
    (folder / "a.flac").write_bytes(b"the only recording")
    manifest.write_text("id,audio,score\na,a.flac,a.mid\n")
    with pytest.raises(OutputError, match=r"a\.flac: is an input, and would be written over; choose"):
        align(manifest, folder)
    assert (folder / "a.flac").read_bytes() == b"the only recording"
    manifest.write_text("id,audio,score\na,a.wav,a.mid\n")
    with pytest.raises(OutputError, match=r"report\.csv: is an input, and would be written over; choose"):
        align(manifest.rename(folder / "report.csv"), folder)


def test_scores_of_the_same_work_are_tried_or_else_of_the_same_composer(tmp_path):
    from pipelines.align import _others

    rows = "id,audio,score,work,composer\na,a.wav,1.mid,X,Bach\nb,b.wav,2.mid,X,Bach\nc,c.wav,1.mid,X,\n"
    rows += "d,d.wav,3.mid,,Bach\ne,e.wav,4.mid,,\nf,f.wav,2.mid,X,\n"
    (tmp_path / "pairs.csv").write_text(rows)
    pairs = read_manifest(tmp_path / "pairs.csv")
    tried = {pair.id: sorted(other.score.name for other in _others(pair, pairs)) for pair in pairs}
    assert tried == {"a": ["2.mid"], "b": ["1.mid"], "c": ["2.mid"], "d": ["1.mid", "2.mid"], "e": [], "f": ["1.mid"]}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", r"line 1: the header lacks id, audio, score"),
        ("id,audio\n", r"line 1: the header lacks score"),
        ("id,audio,score,compser\n", r"line 1: unknown column 'compser', did you mean 'composer'\?"),
        ("id,audio,score,id\n", r"line 1: column 'id' is there twice"),
        ("id,audio,score\n", r"holds no pairs"),
        ("id,audio,score\n\n,,\n", r"holds no pairs"),
        ("id,audio,score\na,b,c\n\na,d,e\n", r"line 4: id 'a' is taken by a line before"),
        ("id,audio,score\na,b,c\nA,d,e\n", r"line 3: id 'A' is taken by a line before"),
        ("id,audio,score\n../a,b,c\n", r"line 2: id '../a' cannot name files"),
        ("id,audio,score\n.a,b,c\n", r"line 2: id '.a' cannot name files"),
        ("id,audio,score\nreport,b,c\n", r"line 2: id 'report' names another file of the output"),
        ("id,audio,score\na,,c\n", r"line 2: audio is empty"),
        ("id,audio,score\na,b\n", r"line 2: has not as many cells as the header"),
        ("id,audio,score\na,b,c,d\n", r"line 2: has not as many cells as the header"),
        ("id,audio,score,split\na,b,c,dev\n", r"line 2: split is 'dev'; use train, validation, test"),
        ("id,audio,score\na,b,\xff\n", r"cannot be read as CSV in UTF-8"),
        ('id,audio,score\na,b,"c\n', r"cannot be read as CSV in UTF-8"),
        ("id,audio,score\na,b,c\0\n", r"line 2: score holds a NUL"),
    ],
)
def test_a_manifest_that_cannot_be_is_told_by_file_and_line(tmp_path, text, told):
    path = tmp_path / "pairs.csv"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(DatasetError, match=rf"pairs\.csv: {told}"):
        read_manifest(path)


def test_a_manifest_that_is_not_there_is_told(align, tmp_path):
    with pytest.raises(DatasetError, match=r"none\.csv: no such manifest"):
        align(tmp_path / "none.csv", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_manifest_is_read_as_spreadsheets_write_it(tmp_path):
    text = '\ufeffid, audio,score,composer,split\r\n a ,"b, c.wav",d.mid,Dvořák,test\r\n\r\ne,/f.wav,../g.xml,,\r\n'
    (tmp_path / "pairs.csv").write_text(text, encoding="utf-8", newline="")
    first, second = read_manifest(tmp_path / "pairs.csv")
    assert (first.id, first.audio, first.score) == ("a", tmp_path / "b, c.wav", tmp_path / "d.mid")
    assert (first.composer, first.split, first.work) == ("Dvořák", "test", "")
    assert (second.audio, second.score) == (Path("/f.wav"), tmp_path / "../g.xml")
    assert json.dumps(second.known()) == json.dumps(dict.fromkeys(second.known(), ""))
    assert os.fspath(first.audio).startswith(str(tmp_path))


needs_synthesiser = pytest.mark.skipif(
    not (shutil.which("fluidsynth") and synthesis.find_soundfonts()),
    reason="fluidsynth or a soundfont is not installed (apt install fluidsynth timgm6mb-soundfont)",
)
RATE = 22050


def melody(seed, tempo=1.0):
    """32 piano notes, one after another, drawn from the seed; `tempo` 2 is twice as fast."""
    rng = np.random.default_rng(seed)
    length = rng.choice([0.25, 0.5], 32) / tempo
    onset = np.concatenate([[0.0], np.cumsum(length)[:-1]])
    return Notes(onset, onset + 0.9 * length, rng.integers(55, 85, 32), np.full(32, 80), np.zeros(32))


def write_sound(path, notes, lead=0.0):
    sound = synthetic.synthesise(notes.shift(lead), RATE, notes.end + lead + 0.5)
    soundfile.write(path, sound, RATE, subtype="PCM_16")


@pytest.fixture(scope="module")
def real_pairs(tmp_path_factory):
    """A good pair, one with the other's score, and every kind of bad one, aligned in one batch."""
    from pipelines import align as job

    folder = tmp_path_factory.mktemp("pairs")
    for seed, name in enumerate(("one", "two", "three")):
        to_midi(melody(seed)).write(str(folder / f"{name}.mid"))
        write_sound(folder / f"{name}.wav", melody(seed, tempo=1.2), lead=0.4)
    silence = np.zeros(5 * RATE)
    soundfile.write(folder / "silence.wav", silence, RATE)
    pretty_midi.PrettyMIDI().write(str(folder / "empty.mid"))
    drums = pretty_midi.PrettyMIDI()
    drums.instruments.append(pretty_midi.Instrument(0, is_drum=True))
    drums.instruments[0].notes = [pretty_midi.Note(80, 38, t, t + 0.2) for t in range(8)]
    drums.write(str(folder / "drums.mid"))
    (folder / "text.mid").write_text("no score at all")
    rows = ["id,audio,score,work", "good,one.wav,one.mid,W", "swapped,two.wav,three.mid,V", "other,two.wav,two.mid,V"]
    rows += [f"{name},one.wav,{name}.mid," for name in ("empty", "drums", "text", "nowhere")]
    rows += ["silent,silence.wav,one.mid,", "unheard,nowhere.wav,one.mid,"]
    (folder / "pairs.csv").write_text("\n".join(rows) + "\n")
    options = job.beam_options("FnApiRunner")
    given = job.align_pairs(folder / "pairs.csv", folder / "out", SPECTRAL, options=options, timeout=120.0)
    return folder, {row.id: row for row in given.rows}


@needs_synthesiser
def test_a_real_pair_is_aligned(real_pairs):
    folder, rows = real_pairs
    row = rows["good"]
    assert row.status == "accepted"
    assert {name.removeprefix("good") for name in row.outputs} >= {".csv", ".json", ".png", ".flac"}
    truth, labels = melody(0, tempo=1.2).shift(0.4), read_musicnet_csv(folder / "out" / row.labels)
    assert labels.pitch.tolist() == truth.pitch.tolist()
    assert np.abs(labels.onset - truth.onset).max() < 0.1
    assert row.duration == pytest.approx(soundfile.info(folder / "one.wav").duration)


@needs_synthesiser
@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("empty", r"empty\.mid: "),
        ("drums", r"drums\.mid: "),
        ("text", r"text\.mid: "),
        ("nowhere", r"nowhere\.mid: "),
        ("silent", r"silen"),
        ("unheard", r"nowhere\.wav: "),
    ],
)
def test_the_batch_goes_on_past_what_is_no_pair(real_pairs, name, told):
    _, rows = real_pairs
    assert rows[name].status == "failed"
    assert re.search(told, rows[name].findings[0])


@needs_synthesiser
def test_a_recording_of_another_movement_is_told_with_the_one_that_it_is_of(real_pairs):
    _, rows = real_pairs
    assert rows["other"].status == "accepted"
    assert rows["swapped"].status == "rejected"
    assert rows["swapped"].findings[0].startswith("wrong_movement: matches the score of other (cost ")


@needs_synthesiser
def test_a_wrong_pair_has_all_that_a_person_checks_it_by(real_pairs):
    folder, rows = real_pairs
    assert {name.removeprefix("swapped") for name in rows["swapped"].outputs} >= {".json", ".png", ".flac"}
    assert rows["swapped"].labels == "swapped.rejected.csv"
    assert (folder / "out/swapped.png").read_bytes().startswith(b"\x89PNG")
    told = json.loads((folder / "out/swapped.json").read_text())
    assert told["accepted"] is False
    assert [finding["kind"] for finding in told["findings"]] == [
        text.split(":")[0] for text in rows["swapped"].findings
    ]
    assert {type(finding["rejects"]) for finding in told["findings"]} == {bool}


@needs_synthesiser
@pytest.mark.slow
def test_several_processes_give_the_same(real_pairs, tmp_path):
    from pipelines import align as job

    folder, rows = real_pairs
    options = job.beam_options("FnApiRunner", num_workers=2)
    given = job.align_pairs(folder / "pairs.csv", tmp_path / "out", SPECTRAL, options=options, timeout=120.0)
    assert {row.id: (row.status, row.findings) for row in given.rows} == {
        id: (row.status, row.findings) for id, row in rows.items()
    }
    for name in (row.labels for row in given.rows if row.labels):
        assert (tmp_path / "out" / name).read_bytes() == (folder / "out" / name).read_bytes()
