"""The input pipeline: known cardinality, one seed for everything, and targets that belong to their audio."""

from __future__ import annotations

import shutil
import sys

import numpy as np
import pytest
import synthetic
import tensorflow as tf
from conftest import ROOT

from musicnet_tf import config, input_pipeline, record_info, records
from musicnet_tf.datasets import Recording
from musicnet_tf.errors import ConfigError, RecordError
from musicnet_tf.events import Notes
from musicnet_tf.scores import read_musicnet_csv

RATE, WINDOW, HOP, FRAMES = 16000, 16000, 320, 50
TINY = ROOT / "configs/tiny.yaml"


@pytest.fixture
def experiment(tiny_records):
    def make(*overrides):
        small = ["train.steps=4", "train.steps_per_epoch=2", f"data.folder={tiny_records.parent}"]
        return config.load(TINY, [*small, *overrides])

    return make


def flat(dataset):
    """Every window of a dataset: audio, and targets by head."""
    return [
        (audio[i], {head: value[i] for head, value in targets.items()})
        for audio, targets in dataset.as_numpy_iterator()
        for i in range(len(audio))
    ]


def same(one, other):
    return len(one) == len(other) and all(
        np.array_equal(a, b) and all(np.array_equal(x[head], y[head]) for head in x)
        for (a, x), (b, y) in zip(one, other, strict=True)
    )


@pytest.fixture(scope="module")
def excerpts(tiny_records):
    """Record and int16 samples of every excerpt."""
    found = []
    for shard in record_info.read_info(tiny_records).shards:
        found += [(record, np.frombuffer(record["audio"], "<i2")) for record in records.read(tiny_records / shard.file)]
    return found


def locate(window, excerpts):
    """The excerpt that a window lies in, and where; the window is padded where the excerpt ends before it."""
    samples = np.rint(window * 32768).astype("<i2")
    np.testing.assert_array_equal(samples / 32768.0, window)
    for record, whole in excerpts:
        if len(whole) < WINDOW:
            if np.array_equal(samples, np.pad(whole, (0, WINDOW - len(whole)))):
                return record, 0
            continue
        at = whole.tobytes().find(samples.tobytes())
        if at >= 0:
            return record, at // 2
    raise AssertionError("the window is in no excerpt")


def expected_targets(onsets, offsets, pitches, start):
    """Frame, onset and offset targets of a window by their definitions; times in samples of the excerpt."""
    centres = start + HOP * np.arange(FRAMES)[:, None]
    frame, onset = (np.zeros((FRAMES, 88), np.float32) for _ in range(2))
    for begin, end, pitch in zip(onsets, offsets, pitches, strict=True):
        cell = slice(pitch - 21, pitch - 20)
        frame[:, cell] = np.maximum(frame[:, cell], (begin <= centres) & (centres < end))
        onset[:, cell] = np.maximum(onset[:, cell], 1 - np.abs(centres - begin) / (0.05 * RATE))
    return frame, onset


def test_training_is_a_function_of_seed_and_epoch(experiment, excerpts, tiny_corpus):
    whole = experiment("train.steps=6")
    dataset = input_pipeline.training(whole)
    assert dataset.cardinality().numpy() == 6
    windows = flat(dataset)
    assert len(windows) == 6 * 4
    assert windows[0][0].shape == (WINDOW,)
    assert windows[0][1]["frame"].shape == windows[0][1]["onset"].shape == (FRAMES, 88)
    assert windows[0][1]["velocity"].shape == (FRAMES, 88, 2)
    epochs = [windows[i : i + 8] for i in (0, 8, 16)]
    assert not same(epochs[0], epochs[1])
    long = [audio.tobytes() for audio, _ in windows if len(locate(audio, excerpts)[0]["audio"]) > 2 * WINDOW]
    assert len(set(long)) == len(long) > 8
    assert same(flat(input_pipeline.training(whole)), windows)
    resumed = input_pipeline.training(whole, first_epoch=2)
    assert resumed.cardinality().numpy() == 2
    assert same(flat(resumed), epochs[2])
    assert not same(flat(input_pipeline.training(experiment("seed=1", "train.steps=2"))), epochs[0])
    _belong(windows, excerpts, tiny_corpus, synthetic.TRAIN)


def _belong(windows, excerpts, tiny_corpus, ids):
    """Asserts that each window lies in an excerpt of these recordings and has the targets of its place."""
    heard, labelled = set(), 0
    for audio, targets in windows:
        record, start = locate(audio, excerpts)
        heard.add(record["id"].decode())
        frame, onset = expected_targets(record["notes/onset"], record["notes/offset"], record["notes/pitch"], start)
        np.testing.assert_array_equal(targets["frame"], frame)
        np.testing.assert_allclose(targets["onset"], onset, atol=1e-5)
        assert not targets["velocity"].any()  # MusicNet's labels tell none
        labels = read_musicnet_csv(tiny_corpus / "train_labels" / f"{record['id'].decode()}.csv")
        begin, end = (np.rint(x * RATE).astype(int) for x in (labels.onset, labels.offset))
        truth, _ = expected_targets(begin, end, labels.pitch, start + record["start_sample"])
        np.testing.assert_array_equal(targets["frame"], truth)
        labelled += truth.sum()
    assert labelled > 100
    assert heard <= set(ids)
    assert len(heard) > 1


def test_validation_is_spread_evenly_and_always_the_same(experiment, excerpts, tiny_corpus):
    whole = experiment("data.augmentation={gain_db: 12, snr_db: 10, tilt_db: 3, pitch_shift: 3, jitter: 0.1}")
    dataset = input_pipeline.validation(whole)
    assert dataset.cardinality().numpy() == 2
    windows = flat(dataset)
    assert len(windows) == 2 * 4
    assert same(windows, flat(dataset))
    assert same(windows, flat(input_pipeline.validation(whole)))
    _belong(windows, excerpts, tiny_corpus, synthetic.VALIDATION)  # so nothing was augmented
    places = [locate(audio, excerpts) for audio, _ in windows]
    assert {(r["id"], r["excerpt"]) for r, _ in places} == {
        (r["id"], r["excerpt"]) for r, _ in excerpts if r["split"] == b"validation"
    }
    long = [(r["id"], int(r["excerpt"]), start) for r, start in places if len(r["audio"]) > 2 * WINDOW]
    assert len(set(long)) == len(long)
    padded = [audio for (r, _), (audio, _) in zip(places, windows, strict=True) if len(r["audio"]) < 2 * WINDOW]
    assert padded
    assert all(audio[: round(0.3 * RATE)].any() and not audio[round(0.6 * RATE) :].any() for audio in padded)


def test_a_short_validation_hears_each_part(experiment, excerpts):
    windows = flat(input_pipeline.validation(experiment("train.batch_size=3", "train.validation_steps=1")))
    order = [(r["id"], r["excerpt"]) for r, _ in excerpts if r["split"] == b"validation"]  # five
    places = [order.index((r["id"], r["excerpt"])) for r, _ in (locate(audio, excerpts) for audio, _ in windows)]
    assert len(places) == 3
    assert max(places) == 4
    assert max(np.diff(sorted([-1, *places]))) <= 2


def constant_set(folder, level, seconds=3.0, split="train", count=1):
    """A record set of excerpts of one level, without notes."""
    samples = np.full(round(seconds * RATE), level, np.float32)
    recording = Recording("only", split, "work")
    name = f"{split}-00000-of-00001.tfrecord"
    folder.mkdir(parents=True)
    with tf.io.TFRecordWriter(str(folder / name)) as writer:
        for i in range(count):
            excerpt = records.Excerpt(recording, "made", i, 0, RATE, samples, Notes.empty())
            writer.write(records.serialise(excerpt, "pcm_s16le"))
    shard = record_info.Shard(file=name, split=split, num_excerpts=count, num_bytes=len((folder / name).read_bytes()))
    record_info.DatasetInfo(
        library_version="0",
        corpus="made",
        licence="none",
        sample_rate=RATE,
        encoding="pcm_s16le",
        config={},
        shards=(shard,),
        recordings={recording.id: {"num_notes": 0}},
        splits={},
        composers={},
        instruments={},
        split_hash="",
    ).write(folder)


def test_sources_are_mixed_by_weight(tmp_path):
    for name, level in (("a", 0.25), ("b", 0.5), ("c", 0.75)):
        constant_set(tmp_path / name, level)
    sources = "[{records: a, weight: 5}, {records: b, weight: 1}, {records: c, weight: 2}]"
    mixed = config.load(
        TINY,
        [f"data.folder={tmp_path}", f"data.train={sources}", "train.steps=30", "train.steps_per_epoch=30"],
    )
    levels = [float(audio[0]) for audio, _ in flat(input_pipeline.training(mixed))]
    shares = [levels.count(level) / 120 for level in (0.25, 0.5, 0.75)]
    assert sum(shares) == 1.0
    assert shares == pytest.approx([5 / 8, 1 / 8, 2 / 8], abs=0.13)  # about three standard deviations


def test_each_pass_over_a_small_set_draws_other_windows(tmp_path):
    folder = tmp_path / "tiny"
    constant_set(folder, 0.0)
    (shard,) = record_info.read_info(folder).shards
    ramp = (np.arange(3 * RATE) / (4 * RATE)).astype(np.float32)  # a window's first sample tells its place
    excerpt = records.Excerpt(Recording("only", "train", "work"), "made", 0, 0, RATE, ramp, Notes.empty())
    with tf.io.TFRecordWriter(str(folder / shard.file)) as writer:
        writer.write(records.serialise(excerpt, "pcm_s16le"))
    one = config.load(TINY, [f"data.folder={tmp_path}", "data.windows_per_excerpt=2", "train.steps=10"])
    starts = {float(audio[0]) for audio, _ in flat(input_pipeline.training(one))}
    assert len(starts) > 35  # of 40, over twenty passes
    assert min(starts) < 0.1
    assert max(starts) > 0.4  # of 0 to 0.5


def test_augmentation_reaches_training_windows_alone(experiment):
    plain, loud = (
        flat(input_pipeline.training(experiment("train.steps=2", f"data.augmentation.gain_db={db}"))) for db in (0, 12)
    )
    gains = []
    for (a, x), (b, y) in zip(plain, loud, strict=True):
        np.testing.assert_array_equal(x["frame"], y["frame"])
        if not a.any():
            continue  # the end of a recording may be silent
        gains.append(20 * np.log10(np.abs(b).max() / np.abs(a).max()))
        np.testing.assert_allclose(b, a * 10 ** (gains[-1] / 20), atol=1e-5)
    assert np.std(gains) > 2
    assert max(np.abs(gains)) <= 12.01


def test_transposition_moves_training_windows_and_their_labels(experiment):
    strength = "data.augmentation={pitch_shift: 3, jitter: 0.1}"
    whole = experiment("train.steps=6", strength)
    windows = flat(input_pipeline.training(whole))
    assert same(flat(input_pipeline.training(whole, first_epoch=2)), windows[16:])
    plain = flat(input_pipeline.training(experiment("train.steps=6")))
    shifts = []
    for (audio, x), (before, y) in zip(windows, plain, strict=True):
        notes = np.flatnonzero(x["frame"].any(axis=0)), np.flatnonzero(y["frame"].any(axis=0))
        if (
            len(notes[1])
            and notes[0][0] - notes[1][0] == notes[0][-1] - notes[1][-1]
            and len(notes[0]) == len(notes[1])
        ):
            shifts.append(notes[0][0] - notes[1][0])  # it sounds as before, moved
        assert not before.any() or not np.array_equal(audio, before)  # jitter alone changes it
    assert len(shifts) > 8
    assert len(set(shifts)) > 3
    assert max(np.abs(shifts)) <= 3


@pytest.fixture
def one_frame(tiny_records):
    """Experiments on a network of one frame a window."""

    def make(**data):
        sets = {"folder": tiny_records.parent, "train": [{"records": "tiny"}], "windows_per_excerpt": 40}
        return config.Experiment(
            name="one",
            task={"name": "notes"},
            model={"name": "mlp", "sample_rate": RATE, "hidden": 4},
            data={**sets, "shuffle_windows": 8, **data},
            train={"steps": 4, "steps_per_epoch": 2, "batch_size": 10},
        )

    return make


@pytest.mark.parametrize("wanted", [0, 1])
def test_windows_of_one_polyphony(one_frame, wanted):
    chosen = one_frame(polyphony=wanted)
    windows = flat(input_pipeline.training(chosen))
    assert [targets["frame"].sum() for _, targets in windows] == [wanted] * 40
    assert len({audio.tobytes() for audio, _ in windows if audio.any()}) > (10 if wanted else 0)
    assert same(flat(input_pipeline.training(chosen)), windows)
    counts = {targets["frame"].sum() for _, targets in flat(input_pipeline.validation(chosen))}
    assert len(counts) > 1  # which is left whole


def test_a_polyphony_that_cannot_be_had_is_refused(experiment, one_frame):
    with pytest.raises(ConfigError, match=r"data.polyphony: needs a model of one frame.*'harmonic_cnn' has 50"):
        input_pipeline.training(experiment("data.polyphony=1"))
    with pytest.raises(ConfigError, match=r"data.polyphony: .* leave out data.augmentation.pitch_shift and jitter"):
        input_pipeline.training(one_frame(polyphony=1, augmentation={"jitter": 0.1}))
    with pytest.raises(ConfigError, match=r"of \d+ windows from .*tiny none has exactly 99 pitches; choose another"):
        input_pipeline.training(one_frame(polyphony=99))


def test_another_sample_rate_is_refused(experiment):
    with pytest.raises(ConfigError, match=r"tiny: records at 16000 Hz, and the model takes 22050 Hz; build them with"):
        input_pipeline.training(experiment("model.sample_rate=22050"))


def test_an_empty_split_is_refused(tmp_path):
    constant_set(tmp_path / "tiny", 0.5)
    train_only = config.load(TINY, [f"data.folder={tmp_path}"])
    with pytest.raises(ConfigError, match=r"data.validation: no excerpts in the validation split of .*tiny"):
        input_pipeline.validation(train_only)
    shutil.rmtree(tmp_path / "tiny")
    constant_set(tmp_path / "tiny", 0.5, split="validation")
    with pytest.raises(ConfigError, match=r"data.train: no excerpts in the train split of .*tiny"):
        input_pipeline.training(train_only)


def test_flac_that_cannot_be_decoded_is_refused_before_training(tmp_path, monkeypatch):
    constant_set(tmp_path / "tiny", 0.5)
    info = tmp_path / "tiny" / record_info.INFO
    info.write_text(info.read_text().replace("pcm_s16le", "flac"))
    monkeypatch.setitem(sys.modules, "tensorflow_io", None)
    with pytest.raises(RecordError, match=r"tiny: FLAC records need tensorflow-io, which does not load here; install"):
        input_pipeline.training(config.load(TINY, [f"data.folder={tmp_path}"]))
    with pytest.raises(RecordError, match="no finished record set"):
        input_pipeline.training(config.load(TINY, [f"data.folder={tmp_path / 'nowhere'}"]))
