"""Beats in records: what goes in comes out, each beat in one excerpt, and sets without any are as they were."""

from __future__ import annotations

import types

import numpy as np
import pytest
import synthetic
import tensorflow as tf
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st

from musicnet_tf import config, input_pipeline, record_info, records, scores
from musicnet_tf.augment import Augmentation, transposed
from musicnet_tf.datasets import Dataset, Recording
from musicnet_tf.errors import ConfigError, RecordError
from musicnet_tf.events import UNKNOWN, Beats, Notes
from musicnet_tf.models import HeadSpec, ModelSpec
from musicnet_tf.registry import DATASETS
from musicnet_tf.tasks.beats import Beats as BeatsTask
from musicnet_tf.timebase import FrameClock

RATE = 8000
RECORDING = Recording("1001", "train", "Nobody: Nothing")


def excerpts(beats, seconds=2.5, length=1.0):
    samples = np.zeros(round(seconds * RATE), np.float32)
    return records.cut(RECORDING, "musicnet", samples, Notes.empty(), RATE, length, beats)


def read_back(excerpt):
    fields = records.parse(tf.constant(records.serialise(excerpt, "pcm_s16le")))
    return {name: value.numpy() for name, value in fields.items()}


def test_beats_come_back_in_the_excerpt_that_they_begin_in():
    cut = excerpts(Beats([-0.1, 0.0, 0.6, 1.0, 2.25, 2.5], [4, 1, 2, UNKNOWN, 4, 1]))
    assert [e.beats for e in cut] == [Beats([0.0, 0.6], [1, 2]), Beats([0.0], [UNKNOWN]), Beats([0.25], [4])]
    fields = read_back(cut[2])
    assert fields["beats/time"].tolist() == [2000]
    assert fields["beats/time"].dtype == fields["beats/position"].dtype == np.int64
    assert [records.beats_of(read_back(e)) for e in cut] == [e.beats for e in cut]


def test_no_beats_and_beats_that_no_one_told_are_two_things():
    (told, *_), (untold, *_) = excerpts(Beats([1.5])), excerpts(None)
    assert len(records.beats_of(read_back(told))) == 0
    assert records.beats_of(read_back(untold)) is None
    example = tf.train.Example.FromString(records.serialise(untold, "pcm_s16le"))
    assert not [name for name in example.features.feature if name.startswith("beats/")]  # as records were before


@given(st.sets(st.integers(-100, 30_000), max_size=30).map(sorted), st.sampled_from([0.5, 0.7, 1.0, 4.0]))
@settings(max_examples=40)
def test_every_beat_on_the_audio_is_in_one_excerpt(sample, length):
    beats = Beats(np.array(sample) / RATE, 1 + np.arange(len(sample)) % 3)
    cut = excerpts(beats, length=length)
    found = Beats.concatenate([e.beats.shift(e.start_sample / RATE) for e in cut])
    expected = beats.within(0.0, 2.5)
    np.testing.assert_array_equal(np.rint(found.time * RATE), np.rint(expected.time * RATE))
    assert found.position.tolist() == expected.position.tolist()


def test_of_beats_at_one_sample_the_first_stays():
    (first, *_) = excerpts(Beats([0.5, 0.50001, 0.75], [1, 2, 3]))
    assert first.beats == Beats([0.5, 0.75], [1, 3])


def test_damaged_beats_are_told():
    fields = read_back(excerpts(Beats([0.25, 0.5]))[0])
    with pytest.raises(RecordError, match=r"damaged beats \(beat 1: times must increase"):
        records.beats_of({**fields, "beats/time": np.array([4000, 2000])})


def test_transposed_windows_move_beats_as_they_move_notes():
    """What stands at one sample before stands at one sample after, whichever kind it is."""
    times = np.arange(500, 16000, 500)
    constant = {"notes/onset": times, "notes/offset": times + 100, "notes/pitch": np.full(len(times), 60)}
    record = {name: tf.constant(v, tf.int64) for name, v in {**constant, "beats/time": times}.items()}
    settings = Augmentation(pitch_shift=5, jitter=0.1)
    _, moved = transposed(tf.zeros(16000), record, tf.constant(3000, tf.int64), 4000, settings, tf.constant([1, 2]))
    np.testing.assert_array_equal(moved["beats/time"], moved["notes/onset"])
    steps = np.diff(moved["beats/time"])
    assert len(set(np.round(steps / 500, 1).tolist())) == 1
    assert steps[0] != 500


def test_corpora_say_what_they_tell():
    assert DATASETS.get("musicnet").annotations() == ("notes", "beats", "tags")
    assert DATASETS.get("bach10").annotations() == ("notes", "beats", "tags")
    assert DATASETS.get("grooves").annotations() == ("notes", "beats")
    assert DATASETS.get("maps").annotations() == Dataset.annotations() == ("notes",)


@pytest.fixture
def corpus(tmp_path):
    """Three recordings, of which the second tells no beats."""
    root = synthetic.write_musicnet(tmp_path / "corpus", {"11": 2.5, "12": 2.2, "13": 1.5}, sample_rate=16000)
    for name, onsets in (("11", np.arange(10) / 4), ("13", np.arange(6) / 4)):
        notes = Notes(onsets, onsets + 0.2, np.full(len(onsets), 60), start_beat=onsets * 2, end_beat=onsets * 0 + 0.5)
        (root / f"train_labels/{name}.csv").write_text(scores.format_musicnet_csv(notes))
    return root


def test_from_labels_to_the_batches_of_a_training(corpus, musicnet, tmp_path):
    """Builds a set, reads what it says, and draws batches for a task that learns beats."""
    built = musicnet(
        *("build_records", "--dataset=musicnet", f"--data_dir={corpus}", f"--output_dir={tmp_path / 'set'}"),
        *("--sample_rate=16000", "--excerpt_seconds=1", "--encoding=pcm_s16le", '--set=validation=["13"]'),
    )
    assert built.status == 0, built.stderr
    info = record_info.read_info(tmp_path / "set")
    assert info.annotations == ("notes", "beats", "tags")
    assert {id: entry.get("num_beats") for id, entry in info.recordings.items()} == {"11": 5, "12": None, "13": 3}
    assert [info.splits[split]["beats"] for split in ("train", "validation")] == [5, 3]

    source = input_pipeline.WindowSource.open(tmp_path / "set", "train", 16000)
    told = {}
    for fields in source.excerpts(0, tf.constant([0, 0])):
        times = fields["start_sample"] + fields["beats/time"]
        told.setdefault(fields["id"].numpy(), []).extend(times.numpy().tolist())
    assert told == {b"11": [0, 8000, 16000, 24000, 32000], b"12": []}

    experiment = learning_beats(tmp_path / "set", "train.steps=2", "train.steps_per_epoch=2", "train.batch_size=8")
    targets = [targets for _, targets in input_pipeline.training(experiment).as_numpy_iterator()]
    beat = np.concatenate([t["beat"] for t in targets])[..., 0]
    assert beat.shape == (16, 50)
    unknown = (beat < 0).all(axis=1)
    assert 0 < unknown.sum() < 16  # windows of the recording whose beats no one told, and no others
    for window in beat[~unknown]:
        frames = np.flatnonzero(window == 1.0)
        assert set(np.diff(frames).tolist()) <= {25}  # a beat each half second, a frame each 20 ms
    assert (np.concatenate([t["downbeat"] for t in targets]) < 0).mean() > 0.5  # labels count beats, but no bars


def learning_beats(folder, *overrides):
    """An experiment of the beats task and of a model that is all geometry: windows of a second, 50 frames."""
    head = HeadSpec(1, 0)
    spec = ModelSpec(FrameClock(16000, 320), 16000, 50, 0, {"beat": head, "downbeat": head})
    experiment = config.load(ROOT / "configs/tiny.yaml", [f"data.folder={folder}", *overrides])
    data = experiment.data.model_copy(update={"train": (config.Source(records=folder),)})
    model = types.SimpleNamespace(spec=lambda: spec, name="geometry")
    return experiment.model_copy(update={"task": BeatsTask(), "model": model, "data": data})


def test_a_task_of_beats_refuses_sets_of_notes_alone(tiny_records):
    with pytest.raises(ConfigError) as caught:
        input_pipeline.open_sources(learning_beats(tiny_records), "train")
    assert str(caught.value) == (
        f"{tiny_records}: its records tell notes, tags and no beats, from which task 'beats' learns;"
        " build them again if the corpus tells them, or name another set"
    )
