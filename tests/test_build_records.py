"""Building records by Beam: counts, sameness, resuming, and going on past what is bad."""

from __future__ import annotations

import json
import re
import shutil

import numpy as np
import pytest
import synthetic
from conftest import ROOT, full_disk

from musicnet_tf import config, input_pipeline, record_info, records
from musicnet_tf.errors import OutputError, RecordError
from musicnet_tf.registry import DATASETS
from musicnet_tf.scores import read_musicnet_csv

SECONDS = {**synthetic.TRAIN, **synthetic.VALIDATION}


@pytest.fixture
def small(tmp_path):
    """Three recordings of a corpus that a test may spoil."""
    return synthetic.write_musicnet(tmp_path / "corpus", {"11": 2.5, "12": 2.2, "13": 1.5}, sample_rate=8000)


@pytest.fixture
def build(musicnet, tmp_path):
    """Calls the verb; returns what it gave."""

    def call(corpus, *more, output=tmp_path / "set", validation='["13"]'):
        return musicnet(
            *("build_records", "--dataset=musicnet", f"--data_dir={corpus}", f"--output_dir={output}"),
            *("--sample_rate=8000", "--excerpt_seconds=1", "--encoding=pcm_s16le", "--recordings_per_shard=1"),
            *(f"--set=validation={validation}", *more),
        )

    return call


def shards(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.tfrecord"))}


def stamps(folder):
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("*.tfrecord")}


def leftovers(folder):
    return [path.name for path in folder.rglob("*") if ".part" in path.name and path.name != ".parts"]


def spoil(corpus, name="12"):
    """Ruins one recording's audio; returns what repairs it."""
    path = corpus / "train_data" / f"{name}.wav"
    whole = path.read_bytes()
    path.write_bytes(b"RIFF and then nothing that is sound")
    return lambda: path.write_bytes(whole)


def test_a_set_counts_what_it_holds(tiny_corpus, tiny_records):
    info = record_info.read_info(tiny_records)
    assert list(info.recordings) == sorted(SECONDS)
    labels = {id: read_musicnet_csv(tiny_corpus / "train_labels" / f"{id}.csv") for id in SECONDS}
    for split, ids in {"train": synthetic.TRAIN, "validation": synthetic.VALIDATION, "test": {}}.items():
        totals = info.splits[split]
        assert totals["recordings"] == len(ids)
        assert totals["notes"] == sum(len(labels[id]) for id in ids)
        assert totals["excerpts"] == info.num_excerpts(split) == sum(-(-s // 2) for s in ids.values())
        assert totals["hours"] == pytest.approx(sum(ids.values()) / 3600, abs=1e-6)
    assert sum(info.instruments.values()) == sum(info.composers.values()) == sum(map(len, labels.values()))
    assert set(info.instruments) == {"0", "40", "42"}
    assert {s.file for s in info.shards} == set(shards(tiny_records))
    assert len(info.shards) == 3  # two recordings each
    for entry, notes in records.read_notes(tiny_records):
        truth = labels[entry["id"]]
        assert entry["num_notes"] == len(notes) == len(truth)
        assert entry["seconds"] == pytest.approx(SECONDS[entry["id"]])
        assert notes.pitch.tolist() == truth.pitch.tolist()
        assert notes.onset == pytest.approx(truth.onset, abs=0.51 / 16000)


def test_the_verb_tells_the_totals_and_the_same_config_gives_the_same_bytes(build, small, tmp_path):
    first, second = (build(small, output=tmp_path / name) for name in ("a", "b"))
    assert first.status == second.status == 0
    rows = [line.split()[:4] for line in first.stdout.splitlines()]
    assert rows[:2] == [["train", "2", "recordings", "6"], ["validation", "1", "recordings", "2"]]
    assert len(shards(tmp_path / "a")) == 3
    assert shards(tmp_path / "a") == shards(tmp_path / "b")
    infos = [json.loads((tmp_path / name / record_info.INFO).read_text()) for name in "ab"]
    assert infos[0] == infos[1]
    assert not leftovers(tmp_path)


def test_a_second_run_resumes(build, small, tmp_path):
    assert build(small).status == 0
    before = stamps(tmp_path / "set")
    lost = sorted(before)[0]
    (tmp_path / "set" / lost).write_bytes(b"cut by a full disk")
    assert build(small).status == 0
    after = stamps(tmp_path / "set")
    assert after.keys() == before.keys()
    assert {name for name in after if after[name] != before[name]} == {lost}
    record_info.read_info(tmp_path / "set")


def test_a_bad_recording_is_listed_and_the_rest_goes_on_until_it_is_repaired(build, small, tmp_path):
    repair = spoil(small)
    assert build(small, "--strict").status == 1
    before = stamps(tmp_path / "set")
    outcome = build(small)
    assert outcome.status == 0
    (listed,) = [line for line in outcome.stdout.splitlines() if line.startswith("left out")]
    assert "12: " in listed
    assert "12.wav" in listed
    assert outcome.stdout.endswith("1 of 3 recordings left out\n")
    info = record_info.read_info(tmp_path / "set")
    assert (sorted(info.recordings), sorted(info.failed)) == (["11", "13"], ["12"])
    assert [entry["id"] for entry, _ in records.read_notes(tmp_path / "set")] == ["11", "13"]
    assert not leftovers(tmp_path)
    repair()
    assert build(small, "--strict").status == 0
    info = record_info.read_info(tmp_path / "set")
    assert (sorted(info.recordings), info.failed) == (["11", "12", "13"], {})
    after = stamps(tmp_path / "set")
    assert len([name for name in after if after[name] == before[name]]) == 2


def test_nothing_found_or_all_bad_is_an_error(build, small, tmp_path):
    for name in ("11", "12", "13"):
        spoil(small, name)
    outcome = build(small)
    assert outcome.status == 1
    assert "set: nothing was written (11: " in outcome.stderr
    assert not (tmp_path / "set" / record_info.INFO).exists()
    assert not leftovers(tmp_path)
    for folder in ("train_data", "train_labels"):
        shutil.rmtree(small / folder)
        (small / folder).mkdir()
    outcome = build(small)
    assert outcome.status == 1
    assert "nothing was written (no recordings found)" in outcome.stderr


def test_a_run_that_breaks_off_leaves_no_info_and_no_parts(build_records, small, tmp_path, monkeypatch):
    corpus = DATASETS.get("musicnet")(root=small, validation=("13",))
    settings = build_records.Settings(corpus, 8000, 1.0, "pcm_s16le", 1)
    folder = tmp_path / "set"
    from apache_beam.options.pipeline_options import PipelineOptions

    serialise, calls = records.serialise, []

    def breaks_off(*args):
        calls.append(args)
        if len(calls) > 4:
            raise RuntimeError("no MusicNetError")
        return serialise(*args)

    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="no MusicNetError"):
        patch.setattr(records, "serialise", breaks_off)
        build_records.build(settings, folder, PipelineOptions([]))
    assert not leftovers(tmp_path)
    with pytest.raises(RecordError, match="no finished record set"):
        record_info.read_info(folder)
    killed = folder / ".train-00000-of-00002.123.part.tfrecord"
    killed.write_bytes(b"of a run that was killed")
    info = build_records.build(settings, folder, PipelineOptions([]))
    assert len(info.recordings) == 3
    assert not leftovers(tmp_path)


@pytest.mark.parametrize(
    "runner",
    [
        "--runner=FnApiRunner",
        "--runner=BundleBasedDirectRunner",
        pytest.param("--num_workers=2", marks=pytest.mark.slow),
    ],
)
def test_a_full_disk_is_told_in_one_line_and_leaves_no_half_shard(build, small, tmp_path, runner):
    with full_disk(30_000):  # of the three, only 1.5 s at 8000 Hz fit
        outcome = build(small, runner)
    assert outcome.status == 1
    (line,) = [line for line in outcome.stderr.splitlines() if line.startswith("musicnet build_records: error: ")]
    assert re.search(r"set/train-0000\d-of-00002\.tfrecord: cannot be written \(.+\); run again to go on$", line)
    assert "Traceback" not in outcome.stderr
    assert not leftovers(tmp_path)
    assert set(shards(tmp_path / "set")) <= {"validation-00000-of-00001.tfrecord"}
    assert not (tmp_path / "set" / record_info.INFO).exists()
    assert build(small).status == 0
    assert record_info.read_info(tmp_path / "set").num_excerpts("train") == 6


def test_a_corpus_that_moved_is_not_built_again(build, small, tmp_path):
    assert build(small).status == 0
    info, before = (tmp_path / "set" / record_info.INFO).read_text(), stamps(tmp_path / "set")
    assert str(tmp_path) not in info
    assert build(small.rename(tmp_path / "elsewhere")).status == 0
    assert stamps(tmp_path / "set") == before
    assert (tmp_path / "set" / record_info.INFO).read_text() == info


def test_settings_name_soundfonts_by_file_name_alone(build_records):
    def settings(*fonts, seed=0):
        corpus = DATASETS.get("rendered")(root="/here", soundfonts=fonts, seed=seed)
        return build_records.Settings(corpus, 8000, 1.0, "pcm_s16le", 1).to_dict()

    assert settings("/a/b.sf2")["dataset"]["soundfonts"] == ["b.sf2"]
    assert settings("/a/b.sf2") == settings("/c/b.sf2")
    assert settings("/a/b.sf2") != settings("/a/c.sf2")
    assert settings("/a/b.sf2") != settings("/a/b.sf2", seed=1)
    assert json.loads(json.dumps(settings("/a/b.sf2"))) == settings("/a/b.sf2")


@pytest.mark.skipif(not records.flac_is_readable(), reason="tensorflow-io does not load with this TensorFlow")
def test_the_default_encoding_gives_the_model_what_pcm_gives(musicnet, tiny_corpus, tiny_records, tmp_path):
    outcome = musicnet(
        *("build_records", "--dataset=musicnet", f"--data_dir={tiny_corpus}", f"--output_dir={tmp_path / 'tiny'}"),
        *("--sample_rate=16000", "--excerpt_seconds=2", "--recordings_per_shard=2"),
        *("--encoding=auto", f"--set=validation={json.dumps(list(synthetic.VALIDATION))}"),
    )
    assert outcome.status == 0
    assert (record_info.read_info(tmp_path / "tiny").encoding, record_info.read_info(tiny_records).encoding) == (
        "flac",
        "pcm_s16le",
    )
    flac, pcm = (
        config.load(ROOT / "configs/tiny.yaml", ["train.steps=4", "train.steps_per_epoch=2", f"data.folder={folder}"])
        for folder in (tmp_path, tiny_records.parent)
    )
    for give in (input_pipeline.training, input_pipeline.validation):
        pairs = list(zip(*(give(e).as_numpy_iterator() for e in (flac, pcm)), strict=True))
        assert len(pairs) >= 2
        for (audio, targets), (expected, truth) in pairs:
            assert np.ptp(expected) > 0.1, "two silences would be equal too"
            np.testing.assert_array_equal(audio, expected)
            assert targets.keys() == truth.keys()
            for head in truth:
                np.testing.assert_array_equal(targets[head], truth[head])


def test_an_output_that_cannot_be_is_refused(build, small, tmp_path):
    (tmp_path / "file").write_text("in the way")
    outcome = build(small, output=tmp_path / "file")
    assert outcome.status == 1
    assert "file: cannot write there" in outcome.stderr


def test_changed_settings_rebuild_and_remove_the_old_shards_but_no_others(build, small, tmp_path):
    assert build(small).status == 0
    folder = tmp_path / "set"
    old = shards(folder)
    (folder / "train-00000-of-00099.tfrecord").write_bytes(b"of another program")
    assert build(small, "--excerpt_seconds=2", "--recordings_per_shard=2").status == 0
    new = shards(folder)
    assert set(new) == {f"{s}-00000-of-00001.tfrecord" for s in ("train", "validation")} | {
        "train-00000-of-00099.tfrecord"
    }
    assert not set(old) & set(new) - {"validation-00000-of-00001.tfrecord"}
    assert new["validation-00000-of-00001.tfrecord"] != old["validation-00000-of-00001.tfrecord"]
    assert sorted(p.name for p in (folder / ".parts").iterdir()) == [
        "train-00000-of-00001.tfrecord.json",
        "validation-00000-of-00001.tfrecord.json",
    ]
    assert record_info.read_info(folder).num_excerpts("train") == 4


def test_another_runner_gives_the_same(build, small, tmp_path):
    assert build(small, output=tmp_path / "a").status == 0
    assert build(small, "--runner=BundleBasedDirectRunner", output=tmp_path / "b").status == 0
    assert shards(tmp_path / "a") == shards(tmp_path / "b")


@pytest.mark.slow
def test_several_processes_give_the_same(build, small, tmp_path):
    assert build(small, output=tmp_path / "a").status == 0
    assert build(small, "--num_workers=2", output=tmp_path / "b").status == 0
    assert shards(tmp_path / "a") == shards(tmp_path / "b")
    assert len(shards(tmp_path / "b")) == 3


def test_recordings_are_dealt_evenly_and_splits_kept_apart(build_records):
    from musicnet_tf.datasets import Recording

    recordings = [Recording(f"{i:02d}", "train", str(i)) for i in range(9)] + [Recording("v", "validation", "v")]
    plans = build_records.plan(recordings, 4)
    assert [p.file for p in plans] == [
        *(f"train-{i:05d}-of-00003.tfrecord" for i in range(3)),
        "validation-00000-of-00001.tfrecord",
    ]
    assert [[r.id for r in p.recordings] for p in plans] == [
        ["00", "03", "06"],
        ["01", "04", "07"],
        ["02", "05", "08"],
        ["v"],
    ]


def test_wrong_flags_are_told(build, small):
    assert "unknown key 'validaton', did you mean 'validation'?" in build(small, "--set=validaton=[]").stderr
    assert "takes flags only" in build(small, "stray").stderr
    assert build(small, "--excerpt_seconds=0.2").status == 2


def test_a_corpus_that_is_not_there_leaves_a_finished_set_alone(build, small, tmp_path):
    assert build(small).status == 0
    outcome = build(tmp_path / "nowhere")
    assert outcome.status == 1
    assert "nowhere" in outcome.stderr
    assert record_info.read_info(tmp_path / "set").num_excerpts("train") == 6


def test_build_refuses_a_folder_that_is_a_file(build_records, small, tmp_path):
    (tmp_path / "file").write_text("in the way")
    settings = build_records.Settings(DATASETS.get("musicnet")(root=small), 8000, 1.0, "pcm_s16le", 1)
    with pytest.raises(OutputError, match="cannot write there"):
        build_records.build(settings, tmp_path / "file", None)
