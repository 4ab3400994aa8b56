"""Transcribing in bulk by Beam: nothing lost, nothing done twice, nothing half-written, whatever happens."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import functools
import itertools
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import ClassVar

import numpy as np
import psutil
import pytest
import soundfile
import transcribe_work as work
from conftest import ROOT, full_disk

from musicnet_tf import files, inference, scores, transcription, writers
from musicnet_tf.decode import Decoding
from musicnet_tf.errors import AudioError, ConfigError, DatasetError, OutputError, ServingError
from musicnet_tf.manifest import Manifest
from musicnet_tf.models import HeadSpec
from musicnet_tf.registry import DECODERS

pytest.importorskip("apache_beam")

from pipelines import _recordings
from pipelines import transcribe as job

pytest_plugins = ["tiny_models"]

LEVELS = {
    "Bach/prelude": [0.0, 0.15, 0.0],
    "Bach/fugue": [0.25, 0.0, 0.15, 0.0],
    "Chopin/prelude": [0.0, 0.0, 0.45],
}
NOTES = {"Bach/prelude": 1, "Bach/fugue": 3, "Chopin/prelude": 4}


@pytest.fixture
def corpus(tmp_path):
    folder = tmp_path / "in"
    for name, levels in LEVELS.items():
        work.write_levels(folder / f"{name}.wav", levels)
    (folder / "Bach/cover.jpg").write_bytes(b"a picture")
    (folder / "Bach/.prelude.wav").write_bytes(b"hidden")
    return folder


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


@pytest.fixture(autouse=True)
def _calls():
    work.calls.clear()


def run(source, folder, open_predictor=work.levels, *, formats=("csv",), options=None, **more):
    """The job in this process; source → what became of each, by name."""
    found = _recordings.read_manifest(source) if Path(source).suffix == ".csv" else _recordings.find([source])
    options = options or job.beam_options("FnApiRunner")
    model = job.Model(work.MANIFEST, open_predictor)
    results = job.transcribe(found, folder, model, options=options, formats=formats, **more)
    return {recording.name: result for recording, result in zip(found, results, strict=True)}


def files_of(folder):
    """Everything that a person would see there."""
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file() and ".parts" not in p.parts)


def left_aside(folder):
    return [p for p in (folder / ".parts").rglob("*") if p.is_file() and not re.fullmatch(r"\w+\.jsonl?|lock", p.name)]


def done(results):
    return {name for name, r in results.items() if not r.error and not r.skipped}


def failed(folder):
    with (folder / job.FAILED).open(newline="") as file:
        return {row["id"]: row["reason"] for row in csv.DictReader(file)}


def direct(corpus, tmp_path, name):
    """Bytes that the recording becomes without Beam."""
    aside = tmp_path / "direct"
    kinds = transcription.chosen_formats("notes", ["csv"])
    transcription.transcribe_file(corpus / f"{name}.wav", work.Levels(), aside, kinds)
    return (aside / f"{Path(name).name}.csv").read_bytes()


def test_a_folder_becomes_files_in_the_same_folders(corpus, out, tmp_path):
    results = run(corpus, out)
    assert {name: r.events for name, r in results.items()} == NOTES
    assert {name: r.audio_seconds for name, r in results.items()} == {name: len(LEVELS[name]) / 2 for name in LEVELS}
    assert files_of(out) == ["Bach/fugue.csv", "Bach/prelude.csv", "Chopin/prelude.csv"]
    for name in LEVELS:
        assert (out / f"{name}.csv").read_bytes() == direct(corpus, tmp_path, name)
    (note,) = scores.read(out / "Bach/prelude.csv")
    assert (note.pitch, note.onset, note.offset) == pytest.approx((60, 0.5, 1.0), abs=0.011)
    assert work.calls.count("open") == 1, "recordings share one model"
    assert not left_aside(out)


def test_a_second_run_does_only_what_is_not_done(corpus, out):
    run(corpus, out)
    work.calls.clear()
    again = run(corpus, out)
    assert not work.calls, "not even the model is loaded"
    assert {name: (r.skipped, r.events) for name, r in again.items()} == {n: (True, NOTES[n]) for n in LEVELS}

    work.write_levels(corpus / "Bach/prelude.wav", [0.0, 0.35, 0.0])
    (out / "Chopin/prelude.csv").unlink()
    again = run(corpus, out)
    assert done(again) == {"Bach/prelude", "Chopin/prelude"}, "one has changed, one was lost"
    assert len(scores.read(out / "Bach/prelude.csv")) == 3

    assert done(run(corpus, out, overrides={"min_duration": 0.1})) == set(LEVELS), "another parameter"
    assert done(run(corpus, out, overrides={"min_duration": 0.1}, skip_existing=False)) == set(LEVELS)


def test_more_formats_are_made_anew_and_fewer_are_not(corpus, out):
    run(corpus, out, formats=("csv", "midi"))
    assert done(run(corpus, out, formats=("midi",))) == set()
    assert len(files_of(out)) == 6
    assert done(run(corpus, out, formats=("csv", "midi", "npz"))) == set(LEVELS)
    run(corpus, out, formats=("midi",), overrides={"min_duration": 0.1})
    assert {Path(name).suffix for name in files_of(out)} == {".mid"}, "nothing of other parameters stands beside"


def test_what_fails_is_listed_and_tried_again_from_the_list(corpus, out):
    (corpus / "noise.wav").write_bytes(b"no sound at all")
    (corpus / "Bach/empty.flac").touch()
    vanished = work.write_levels(corpus / "Bach/vanished.wav", [0.15])
    work.write_levels(corpus / "taken.wav", [0.15])
    (out / "taken.csv").mkdir(parents=True)
    found = _recordings.find([corpus])
    vanished.unlink()
    model = job.Model(work.MANIFEST, work.levels)
    results = job.transcribe(found, out, model, options=job.beam_options("FnApiRunner"), formats=("csv",))
    assert sum(not r.error for r in results) == 3
    told = failed(out)
    assert told.keys() == {"noise", "Bach/empty", "Bach/vanished", "taken"}
    assert "noise.wav: not audio that can be decoded" in told["noise"]
    assert "empty.flac: is empty (0 bytes)" in told["Bach/empty"]
    assert "vanished.wav: not found" in told["Bach/vanished"]
    assert told["taken"] == f"{out / 'taken'}.*: cannot be written (Is a directory)"
    assert not left_aside(out)

    work.write_levels(corpus / "noise.wav", [0.0, 0.15])
    listed = shutil.copy(out / job.FAILED, corpus / "again.csv")
    again = run(listed, out)
    assert done(again) == {"noise"}
    assert len(scores.read(out / "noise.csv")) == 1
    assert failed(out).keys() == told.keys() - {"noise"}


def test_a_list_of_failures_does_not_outlive_them(corpus, out):
    (corpus / "noise.wav").write_bytes(b"no sound at all")
    assert run(corpus, out)["noise"].error
    work.write_levels(corpus / "noise.wav", [0.15])
    assert done(run(corpus, out)) == {"noise"}
    assert not (out / job.FAILED).exists()


def test_outputs_outlive_a_recording_that_was_damaged_later(corpus, out):
    run(corpus, out)
    before = (out / "Bach/fugue.csv").read_bytes()
    (corpus / "Bach/fugue.wav").write_bytes(b"RIFF, and then no more")
    assert run(corpus, out)["Bach/fugue"].error
    assert (out / "Bach/fugue.csv").read_bytes() == before
    assert failed(out).keys() == {"Bach/fugue"}


def test_an_error_that_nobody_expected_fails_one_recording(corpus, out, tmp_path, caplog):
    open_predictor = work.failing("fault", tmp_path / "countdown", [1])
    results = run(corpus, out, open_predictor)
    assert [r.error for r in results.values() if r.error] == [
        "stopped on an error that nobody expected (KeyError: 'no such thing')"
    ]
    assert len(done(results)) == 2
    assert "transcribe_work.py" in caplog.text, "its traceback"


def test_a_version_that_was_swapped_away_loses_nothing(tmp_path, out):
    corpus = tmp_path / "in"
    for i in range(3):
        work.write_levels(corpus / f"{i}.wav", [0.15, 0.0] * 4)
    # 4 windows each, one a batch: away in the first recording, twice in the second, in the last window of the third
    open_predictor = work.failing("gone", tmp_path / "countdown", [2, 4 + 1, 0, 4 + 3])
    results = run(corpus, out, open_predictor, batch_size=1)
    assert done(results) == {"0", "1", "2"}
    assert work.calls.count("open") == 1 + 4
    assert {r.events for r in results.values()} == {4}
    for i in range(3):
        assert (out / f"{i}.csv").read_bytes() == direct(corpus, tmp_path, str(i))


def test_a_server_that_stays_away_stops_the_job_which_then_goes_on(corpus, out, tmp_path):
    open_predictor = work.failing("away", tmp_path / "countdown", [1, 0, 0])
    with pytest.raises(ServingError, match=r"^grpc://host:8500/levels: no server answers there$"):
        run(corpus, out, open_predictor)
    (finished,) = files_of(out)
    assert not left_aside(out)
    again = run(corpus, out)
    assert {f"{name}.csv" for name in done(again)} == {f"{name}.csv" for name in LEVELS} - {finished}


def test_a_server_that_refuses_a_recording_and_is_there_stops_nothing(corpus, out, tmp_path):
    open_predictor = work.failing("refused", tmp_path / "countdown", [1, 0, 0, 1, 0])
    results = run(corpus, out, open_predictor)
    assert list(failed(out).values()) == ["grpc://host:8500/levels: the server refused"], "after three attempts"
    assert len(done(results)) == 2, "the last of them after two"


def test_two_jobs_do_not_share_a_folder(corpus, out):
    second: list[str] = []

    def start_another():
        if not second:
            with pytest.raises(OutputError, match="another job writes there; let it end, or choose another") as caught:
                run(corpus, out)
            second.append(str(caught.value))

    work.hooks["another"] = start_another
    assert done(run(corpus, out, work.watched(work.levels, "another"))) == set(LEVELS)
    assert second
    assert done(run(corpus, out)) == set()


@pytest.mark.parametrize(
    ("room", "told"),
    [
        (10, r"\.parts/recordings\.jsonl: cannot be written \(File too large\)"),
        (1500, r"\w+\.\*: cannot be written \(File too large\); run again to go on"),
        (3000, r"z\d\.\*: cannot be written \(File too large\); run again to go on"),
    ],
    ids=["nothing fits", "few fit", "some fit"],
)
def test_a_full_disk_stops_the_job_and_leaves_nothing_half_written(corpus, out, tmp_path, room, told):
    names = [f"z{i}" for i in range(4)]
    for name in names:
        work.write_levels(corpus / f"{name}.wav", [0.15, 0.0] * 30, seconds=0.1)
    with full_disk(room), pytest.raises(OutputError) as caught:
        run(corpus, out, formats=("csv", "npz", "midi"))
    assert re.fullmatch(rf"{re.escape(str(out))}/{told}", str(caught.value))
    assert not left_aside(out)
    finished = {name.partition(".")[0] for name in files_of(out)}
    assert len(files_of(out)) == 3 * len(finished), "all files of a recording or none"
    again = run(corpus, out, formats=("csv", "npz", "midi"))
    assert done(again) == {*LEVELS, *names} - finished
    assert len(files_of(out)) == 3 * (len(LEVELS) + len(names))
    for name in names:
        assert (out / f"{name}.csv").read_bytes() == direct(corpus, tmp_path, name)


KILLED = """
import sys
from pathlib import Path
import transcribe_work as work
from pipelines import _recordings, transcribe as job
corpus, out, told = map(Path, sys.argv[1:])
model = job.Model(work.MANIFEST, work.stopping(4, told))
job.transcribe(_recordings.find([corpus]), out, model, options=job.beam_options("FnApiRunner"), formats=("csv",))
"""


def test_a_job_that_was_killed_goes_on_where_it_stopped(tmp_path, out):
    corpus, told = tmp_path / "in", tmp_path / "told"
    names = {f"{i}" for i in range(6)}
    for name in names:
        work.write_levels(corpus / f"{name}.wav", [0.15, 0.0])
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}/tests:{ROOT}"}
    process = subprocess.Popen([sys.executable, "-c", KILLED, corpus, out, told], env=environment)
    while not told.exists() and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    finished = {Path(name).stem for name in files_of(out)}
    assert len(finished) == 3
    assert list((out / ".parts/work").iterdir()), "it was killed in the midst of a recording"
    stamps = {name: (out / f"{name}.csv").stat().st_mtime_ns for name in finished}

    assert done(run(corpus, out)) == names - finished
    assert files_of(out) == sorted(f"{name}.csv" for name in names)
    assert {name: (out / f"{name}.csv").stat().st_mtime_ns for name in finished} == stamps
    assert not left_aside(out)
    for name in names:
        assert (out / f"{name}.csv").read_bytes() == direct(corpus, tmp_path, name)


def test_what_happens_is_counted(corpus, out):
    import apache_beam as beam

    (corpus / "noise.wav").write_bytes(b"no sound at all")
    (out / ".parts").mkdir(parents=True)
    handler = job.TranscriptionHandler(work.levels, job.Job(out, ("csv",), {}, None, "this run"))
    found = _recordings.find([corpus])
    with beam.Pipeline(options=job.beam_options("FnApiRunner")) as pipeline:
        notes = pipeline | beam.Create([*found, found[0]]) | job.RunInference(handler)
        _ = notes | beam.ParDo(job.Count())
    counted = {
        counter.key.metric.name: counter.committed
        for counter in pipeline.result.metrics().query()["counters"]
        if counter.key.metric.namespace in ("transcribe", "RunInference")
    }
    told = {"transcribed": 3, "failed": 1, "skipped": 1, "events": 8, "audio_milliseconds": 5000, "num_inferences": 5}
    assert told.items() <= counted.items()


class Claps(Decoding):
    """A task that is none of this program's: a clap for each frame above a level."""

    name: ClassVar[str] = "claps"
    noun: ClassVar[str] = "claps"
    heads: ClassVar[tuple[str, ...]] = ("clap",)
    default_formats: ClassVar[tuple[str, ...]] = ("txt",)
    level: float = 0.5

    def start(self, spec):
        return ClapDecoder(self.level)

    @classmethod
    def formats(cls):
        return {"txt": writers.Format(".txt", lambda path, told: files.write_text(path, f"{len(told.events)} claps"))}


class ClapDecoder:
    def __init__(self, level):
        self._level, self._claps = level, []

    def push(self, heads):
        self._claps += [x for x in heads["clap"][:, 0] if x > self._level]

    def finish(self):
        return self._claps


class ClapModel(work.Levels):
    """Hears a clap wherever the level is above 0.1, a pretty loud one."""

    manifest = Manifest(
        name="claps",
        task="claps",
        spec=dataclasses.replace(work.SPEC, heads={"clap": HeadSpec(4, 0)}).to_dict(),
        decoder={"level": 0.9},
    )

    def __call__(self, windows):
        return {"clap": super().__call__(windows)["frame"] * 0.8}


def test_another_task_needs_nothing_here(corpus, out, monkeypatch):
    DECODERS.names()
    monkeypatch.setitem(DECODERS._classes, "claps", Claps)
    found = _recordings.find([corpus / "Bach"])
    model, options = job.Model(ClapModel.manifest, ClapModel), job.beam_options("FnApiRunner")
    assert {r.events for r in job.transcribe(found, out, model, options=options)} == {0}
    results = job.transcribe(found, out, model, options=options, overrides={"level": 0.7})
    # Half a second has 50 frames, and the halves of one at either end are loud enough for one more.
    assert {r.path.stem: r.events for r in results} == {"fugue": 2 * 51, "prelude": 51}
    assert {path.name: path.read_text() for path in out.glob("*.txt")} == {
        "fugue.txt": "102 claps",
        "prelude.txt": "51 claps",
    }


def test_what_cannot_be_asked_for_is_told_before_any_work(corpus, out):
    with pytest.raises(ConfigError, match=r"unknown output format 'cvs', did you mean 'csv'\?"):
        run(corpus, out, formats=("cvs",))
    with pytest.raises(ConfigError, match=r"^onset_treshold=0\.3: extra inputs are not permitted"):
        run(corpus, out, overrides={"onset_treshold": 0.3})
    work.write_levels(corpus / "failed.wav", [0.15])
    with pytest.raises(OutputError, match=r"failed\.csv: is where failed recordings are listed; rename failed\.wav"):
        run(corpus, out)
    assert not work.calls


def test_no_recording_is_written_over(corpus):
    manifest = corpus / "list.csv"
    sound = work.write_levels(corpus / "sound.wav", [0.15]).rename(corpus / "sound.mid")
    manifest.write_text("audio\nsound.mid\n")
    with pytest.raises(OutputError, match=r"sound\.mid: is a recording, and would be written over"):
        run(manifest, corpus, formats=("midi",))
    assert soundfile.info(sound).duration == 0.5


def named(found):
    return {recording.name: recording.path for recording in found}


def test_recordings_are_found_in_folders_globs_and_by_name(corpus, monkeypatch):
    fugue, prelude = corpus / "Bach/fugue.wav", corpus / "Bach/prelude.wav"
    chopin = corpus / "Chopin/prelude.wav"
    odd = corpus / "Bach/odd.data"
    odd.touch()
    everything = {"Bach/fugue": fugue, "Bach/prelude": prelude, "Chopin/prelude": chopin}
    assert named(_recordings.find([corpus])) == everything
    assert named(_recordings.find([f"{corpus}/**/*"])) == everything
    assert named(_recordings.find([f"{corpus}/*/prelude.*"])) == {k: v for k, v in everything.items() if "pre" in k}
    assert named(_recordings.find([f"{corpus}/Bach/[f]*.wav"])) == {"fugue": fugue}
    assert named(_recordings.find([odd, fugue])) == {"odd": odd, "fugue": fugue}
    assert named(_recordings.find([fugue, corpus / "Chopin", fugue])) == {"Bach/fugue": fugue, "Chopin/prelude": chopin}
    assert named(_recordings.find([corpus / "none.wav"])) == {"none": corpus / "none.wav"}, "fails when it is read"
    monkeypatch.chdir(corpus / "Bach")
    assert named(_recordings.find(["../Chopin", "fugue.wav"])) == {"Bach/fugue": fugue, "Chopin/prelude": chopin}
    assert named(_recordings.find(["*.wav"])) == {"fugue": fugue, "prelude": prelude}


def test_a_name_that_holds_wildcards_is_a_name(tmp_path):
    path = work.write_levels(tmp_path / "Suite [1].wav", [0.1])
    assert named(_recordings.find([path])) == {"Suite [1]": path}


def test_two_recordings_never_share_their_outputs(corpus):
    (corpus / "Bach/fugue.flac").touch()
    with pytest.raises(
        AudioError, match=r"fugue\.flac and .*fugue\.wav would both be written to Bach/fugue\.\*; choose"
    ):
        _recordings.find([corpus])
    (corpus / "Bach/fugue.flac").unlink()
    (corpus / "again.wav").symlink_to(corpus / "Bach/fugue.wav")
    assert len(_recordings.find([corpus])) == 3, "a link to one is that one"


def test_nothing_found_is_an_error(tmp_path):
    with pytest.raises(AudioError, match=r"in: no recording was found; give audio files \(.*\.flac.*\), folders"):
        (tmp_path / "in").mkdir()
        _recordings.find([tmp_path / "in"])
    with pytest.raises(AudioError, match=r"\*\.wav: no recording was found"):
        _recordings.find([f"{tmp_path}/*.wav"])


def test_a_manifest_names_recordings_and_perhaps_their_outputs(corpus):
    path = corpus / "lists/all.csv"
    path.parent.mkdir()
    path.write_text("audio,id\n../Bach/fugue.wav,\n../Bach/fugue.wav,BWV/846 b\n../Chopin/prelude.wav,\n")
    fugue = corpus / "Bach/fugue.wav"
    expected = {"Bach/fugue": fugue, "BWV/846 b": fugue, "Chopin/prelude": corpus / "Chopin/prelude.wav"}
    assert named(_recordings.read_manifest(path)) == expected


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", r"line 1: the header lacks audio"),
        ("audio,ids\n", r"line 1: unknown column 'ids', did you mean 'id'\?"),
        ("audio\n", r"holds no recordings"),
        ("audio,id\n,a\n", r"line 2: audio is empty"),
        ("audio,id\na.wav,../a\n", r"line 2: id '\.\./a' cannot name files"),
        ("audio,id\na.wav,b/../../a\n", r"line 2: id 'b/\.\./\.\./a' cannot name files"),
        ("audio,id\na.wav,/a\n", r"line 2: id '/a' cannot name files"),
        ("audio,id\na.wav,.parts/a\n", r"line 2: id '\.parts/a' cannot name files"),
        ("audio,id\na.wav,a/\n", r"line 2: id 'a/' cannot name files"),
        ("audio,id\na.wav,.\n", r"line 2: id '\.' cannot name files"),
    ],
)
def test_a_manifest_that_cannot_be_is_told_by_file_and_line(tmp_path, text, told):
    path = tmp_path / "recordings.csv"
    path.write_text(text)
    with pytest.raises(DatasetError, match=rf"recordings\.csv: {told}"):
        _recordings.read_manifest(path)


def test_ids_are_unique(tmp_path):
    path = tmp_path / "recordings.csv"
    path.write_text("audio,id\na.wav,x\nb.wav,x\n")
    with pytest.raises(AudioError, match=r"a\.wav and .*b\.wav would both be written to x\.\*"):
        _recordings.read_manifest(path)


def test_a_name_that_is_no_unicode_is_transcribed(out, tmp_path):
    corpus = tmp_path / "in"
    work.write_levels(corpus / "plain.wav", [0.0, 0.15]).rename(os.fsdecode(os.fsencode(corpus) + b"/caf\xe9.wav"))
    (corpus / os.fsdecode(b"bad\xe9.wav")).write_bytes(b"no sound")
    run(corpus, out)
    assert [os.fsencode(path.name) for path in out.glob("c*")] == [b"caf\xe9.csv"]
    assert failed(out).keys() == {"bad\N{REPLACEMENT CHARACTER}"}
    assert done(run(corpus, out)) == set()


def test_the_verb_transcribes_with_a_real_model(musicnet, tiny_run, rising_tone, tmp_path):
    for folder in ("one", "two"):
        (tmp_path / "in" / folder).mkdir(parents=True)
        soundfile.write(tmp_path / "in" / folder / "tone.wav", rising_tone, 16000)
    (tmp_path / "in/noise.wav").write_bytes(b"no sound at all")
    arguments = [f"--model={tiny_run}", "--formats=csv,npz", "--set=onset_threshold=0.3"]
    outcome = musicnet("transcribe_batch", tmp_path / "in", f"--output_dir={tmp_path / 'out'}", *arguments)
    assert outcome.status == 1
    assert "noise.wav: not audio that can be decoded" in outcome.stderr
    assert outcome.stdout.startswith("2 transcribed, 1 failed; ")
    alone = musicnet(
        "transcribe",
        tmp_path / "in/one/tone.wav",
        f"--model={tiny_run}",
        "--formats=csv,npz",
        "--onset_threshold=0.3",
        f"--output_dir={tmp_path / 'alone'}",
    )
    assert alone.status == 0
    for folder in ("one", "two"):
        for suffix in (".csv", ".npz"):
            made = (tmp_path / "out" / folder / f"tone{suffix}").read_bytes()
            assert made == (tmp_path / f"alone/tone{suffix}").read_bytes()
    again = musicnet("transcribe_batch", f"{tmp_path}/in/*/*.wav", f"--output_dir={tmp_path / 'out'}", *arguments)
    assert (again.status, again.stdout.partition(";")[0]) == (0, "0 transcribed, 2 skipped")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--output_dir=out"], "name recordings, folders or globs, or give --manifest"),
        (["in", "--manifest=a.csv", "--output_dir=out"], "name recordings, folders or globs, or give --manifest"),
        (["in", "--model=a", "--server=b", "--output_dir=out"], "give --model or --server, not both"),
        (["in"], "flag --output_dir is required"),
    ],
)
def test_the_verb_refuses_what_does_not_fit_together(musicnet, arguments, told):
    outcome = musicnet("transcribe_batch", *arguments)
    assert outcome.status == 2
    assert told in outcome.stderr


def test_options_of_runners_in_build_md_are_known_to_beam():
    from apache_beam.options.pipeline_options import PipelineOptions

    section = (
        (ROOT / "BUILD.md").read_text(encoding="utf-8").partition("## Transcribe in bulk")[2].partition("\n## ")[0]
    )
    calls = re.findall(r"musicnet transcribe_batch .*?(?<!\\)\n", section, re.DOTALL)
    on_clusters = [call for call in calls if "--runner=" in call]
    assert {re.findall(r"--runner=(\w+)", call)[0] for call in on_clusters} == {
        *("PortableRunner", "FlinkRunner", "SparkRunner", "DataflowRunner")
    }
    known = PipelineOptions([]).get_all_options().keys()
    for call in on_clusters:
        options = dict(re.findall(r"--beam_option=(\w+)=(\S+)", call))
        assert options.keys() <= known, call
        parsed = job.beam_options("FnApiRunner", more=[f"{k}={v}" for k, v in options.items()]).get_all_options()
        assert {name: str(parsed[name]) for name in options} == options


@pytest.fixture
def workers_path(monkeypatch):
    """Lets workers of their own find what is beside this file, and the Python that runs it."""
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}/tests:{ROOT}")
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")


@pytest.fixture
def worker_pool(workers_path, tmp_path):
    """An external worker's port."""
    log = tmp_path / "pool.log"
    command = [sys.executable, "-m", "apache_beam.runners.worker.worker_pool_main", "--service_port=0"]
    with log.open("w") as file, subprocess.Popen(command, stderr=file, start_new_session=True) as process:
        try:
            while not (started := re.search(r"Started worker pool servicer at port: \S+:(\d+)", log.read_text())):
                assert process.poll() is None, log.read_text()
                time.sleep(0.05)
            yield int(started[1])
        finally:
            os.killpg(process.pid, signal.SIGKILL)


def portable(*more):
    return job.beam_options("PortableRunner", more=["job_endpoint=embed", *more])


def check_by(options, corpus, out, tmp_path):
    """What any runner must give, and that its workers are not this process."""
    (corpus / "noise.wav").write_bytes(b"no sound at all")
    results = run(corpus, out, options=options)
    assert {name: r.events for name, r in results.items() if not r.error} == NOTES
    assert failed(out).keys() == {"noise"}
    assert not left_aside(out)
    for name in LEVELS:
        assert (out / f"{name}.csv").read_bytes() == direct(corpus, tmp_path, name)
    away = work.failing("away", tmp_path / "countdown", [1, 0, 0])
    with pytest.raises(ServingError, match=r"^grpc://host:8500/levels: no server answers there$"):
        run(corpus, tmp_path / "stopped", away, options=options)


@pytest.mark.slow
def test_an_external_worker_of_the_portable_runner_gives_the_same(worker_pool, corpus, out, tmp_path):
    options = portable("environment_type=EXTERNAL", f"environment_config=localhost:{worker_pool}")
    check_by(options, corpus, out, tmp_path)
    assert "open" not in work.calls


@pytest.mark.slow
def test_the_portable_runner_with_a_worker_here_gives_the_same(corpus, out, tmp_path):
    check_by(portable("environment_type=LOOPBACK"), corpus, out, tmp_path)


@pytest.mark.slow
def test_several_processes_give_the_same(workers_path, corpus, out, tmp_path):
    check_by(job.beam_options("FnApiRunner", num_workers=2), corpus, out, tmp_path)
    assert "open" not in work.calls


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_recordings(tiny_run, tmp_path):
    sound = np.random.default_rng(3).normal(0, 0.1, 60 * 16000)
    for i in range(60):
        (tmp_path / "in").mkdir(exist_ok=True)
        soundfile.write(tmp_path / f"in/{i:02d}.wav", sound, 16000)
    used: list[int] = []
    work.hooks["memory"] = lambda: used.append(psutil.Process().memory_info().rss)
    model = job.local_model(str(tiny_run))
    model = model._replace(open=work.watched(model.open, "memory"))
    options = job.beam_options("FnApiRunner")
    found = _recordings.find([tmp_path / "in"])
    results = job.transcribe(found, tmp_path / "out", model, options=options, formats=["csv", "npz"])
    assert sum(r.audio_seconds for r in results) == 3600
    sixth = len(used) // 6
    assert max(used[-sixth:]) - max(used[sixth : 2 * sixth]) < 16 * 2**20, "fifty minutes later"


@pytest.mark.slow
def test_a_version_that_a_server_swaps_away_in_mid_recording_loses_nothing(tiny_export, rising_tone, tmp_path):
    from serving import client
    from serving.server import ModelConfig, Server, Settings

    corpus, base = tmp_path / "in", tmp_path / "served/tiny"
    corpus.mkdir()
    for i in range(4):
        soundfile.write(corpus / f"{i}.wav", np.roll(rising_tone, 1000 * i), 16000)
    shutil.copytree(tiny_export, base / "1")
    settings = Settings((ModelConfig("tiny", base),), port=0, rest_api_port=None, poll_seconds=0.05)
    with Server(settings) as server:
        address = f"grpc://localhost:{server.grpc_port}/tiny"
        batches = itertools.count(1)

        def swap_now_and_then():
            if (number := next(batches)) % 7 == 0 and number < 40:
                newest = max(int(path.name) for path in base.iterdir())
                shutil.copytree(base / str(newest), tmp_path / "next")
                (tmp_path / "next").rename(base / str(newest + 1))
                with contextlib.suppress(ServingError):
                    while client.connect(f"{address}@{newest}").close() is None:
                        pass

        work.hooks["swap"] = swap_now_and_then
        model = job.remote_model(functools.partial(client.connect, address))
        model = model._replace(open=work.watched(model.open, "swap"))
        options = job.beam_options("FnApiRunner")
        found = _recordings.find([corpus])
        results = job.transcribe(found, tmp_path / "out", model, options=options, formats=["csv"], batch_size=1)
    assert not any(r.error or r.skipped for r in results)
    assert work.calls.count("open") > 3, "versions did go"
    here = inference.load(tiny_export)
    for recording in found:
        alone = tmp_path / "alone"
        transcription.transcribe_file(recording.path, here, alone, transcription.chosen_formats("notes", ["csv"]))
        assert (tmp_path / f"out/{recording.name}.csv").read_bytes() == (alone / f"{recording.name}.csv").read_bytes()
