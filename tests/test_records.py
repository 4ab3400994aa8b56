"""Records: what goes in comes out, nothing is lost at an excerpt's edge, and damage is told."""

from __future__ import annotations

import dataclasses
import json
import sys

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import example, given, settings
from hypothesis import strategies as st

from musicnet_tf import audio, record_info, records
from musicnet_tf.datasets import Recording
from musicnet_tf.errors import RecordError
from musicnet_tf.events import UNKNOWN, Notes

RATE = 16000
RECORDING = Recording("1727", "train", "Schubert: Quintet: 1", {"composer": "Schubert", "ensemble": ""})

beats = st.floats(width=32, allow_infinity=False)  # NaN stands for an unknown beat
words = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=6)


@st.composite
def note_rows(draw, low=-60_000, high=60_000, longest=90_000):
    onset = draw(st.integers(low, high))
    length = draw(st.integers(1, longest))
    pitch, velocity = draw(st.integers(0, 127)), draw(st.sampled_from([UNKNOWN, 1, 64, 127]))
    return onset, onset + length, pitch, velocity, draw(st.sampled_from([UNKNOWN, 0, 127])), draw(beats), draw(beats)


def notes_of(rows, rate, values=None):
    if not rows:
        return Notes.empty()
    onset, offset, pitch, velocity, instrument, start, end = map(np.array, zip(*rows, strict=True))
    return Notes(onset / rate, offset / rate, pitch, velocity, instrument, start, end, values)


def excerpt(notes, samples=None, rate=RATE):
    samples = np.linspace(-1, 1, 50, dtype=np.float32) if samples is None else samples
    return records.Excerpt(RECORDING, "musicnet", 3, 120_000, rate, samples, notes)


def parsed(example, encoding="pcm_s16le"):
    fields = records.parse(tf.constant(records.serialise(example, encoding)))
    return {name: value.numpy() for name, value in fields.items()}


def write_shard(folder, excerpts, name="train-00000-of-00001.tfrecord"):
    folder.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(folder / name)) as writer:
        for each in excerpts:
            writer.write(each if isinstance(each, bytes) else records.serialise(each, "pcm_s16le"))
    return folder / name


def write_set(folder, excerpts, rate=RATE):
    path = write_shard(folder, excerpts)
    info = record_info.DatasetInfo(
        library_version="0",
        corpus="musicnet",
        licence="none",
        sample_rate=rate,
        encoding="pcm_s16le",
        config={},
        shards=(
            record_info.Shard(
                file=path.name, split="train", num_excerpts=len(excerpts), num_bytes=len(path.read_bytes())
            ),
        ),
        recordings={RECORDING.id: {"work": RECORDING.work}},
        splits={},
        composers={},
        instruments={},
        split_hash="",
    )
    info.write(folder)
    return folder


@settings(max_examples=60)
@given(st.lists(st.tuples(note_rows(), words), max_size=5))
def test_notes_come_back_exactly(rows):
    notes = notes_of([row for row, _ in rows], RATE, [word for _, word in rows] or None)
    record = parsed(excerpt(notes))
    assert record["notes/onset"].tolist() == sorted(row[0] for row, _ in rows)
    assert sorted(record["notes/offset"].tolist()) == sorted(row[1] for row, _ in rows)
    assert records.notes_of(record) == notes


def test_everything_else_comes_back_too(tmp_path):
    path = write_shard(tmp_path / "set", [excerpt(Notes([0.5], [1.0], [60]))])
    (record,) = records.read(path)
    assert record["id"] == b"1727"
    assert record["corpus"] == b"musicnet"
    assert record["split"] == b"train"
    assert record["work"] == b"Schubert: Quintet: 1"
    assert (record["excerpt"], record["start_sample"], record["sample_rate"]) == (3, 120_000, RATE)
    (raw,) = tf.data.TFRecordDataset(str(path))
    metadata = tf.train.Example.FromString(raw.numpy()).features.feature
    assert metadata["metadata/composer"].bytes_list.value == [b"Schubert"]
    assert metadata["metadata/ensemble"].bytes_list.value == [b""]


@pytest.mark.parametrize("encoding", ["pcm_s16le", "flac"])
def test_audio_decodes_in_the_graph_to_the_quantised_samples(encoding):
    if encoding == "flac" and not records.flac_is_readable():
        pytest.skip("tensorflow-io does not load with this TensorFlow")
    rng = np.random.default_rng(0)
    samples = np.concatenate([rng.uniform(-1.2, 1.2, 5000), [1.0, -1.0, 0.0, 0.5 / 32768, 1.5 / 32768]])
    data = parsed(excerpt(Notes.empty(), samples.astype(np.float32)), encoding)["audio"]
    decode = tf.function(lambda data: records.decode_audio(data, encoding))
    decoded = decode(tf.constant(data)).numpy()
    assert decoded.dtype == np.float32
    np.testing.assert_array_equal(decoded * 32768, audio.quantise(samples.astype(np.float32)))


def test_equal_excerpts_give_equal_bytes_and_others_do_not():
    notes = Notes([0.5, 0.1], [1.0, 0.9], [60, 64])
    first, again = (records.serialise(excerpt(notes), "pcm_s16le") for _ in range(2))
    reordered = dataclasses.replace(RECORDING, metadata=dict(reversed(RECORDING.metadata.items())))
    assert first == again
    assert first == records.serialise(dataclasses.replace(excerpt(notes), recording=reordered), "pcm_s16le")
    assert first != records.serialise(excerpt(notes.shift(1 / RATE)), "pcm_s16le")


LOW_RATE = 100  # so that many edges fit into little audio


@settings(max_examples=25)
@given(
    length=st.integers(1, 450),
    rows=st.lists(note_rows(low=-120, high=500, longest=400), max_size=8),
    seconds=st.sampled_from([0.37, 1.0, 2.0, 10.0]),
)
@example(
    length=250,
    seconds=1.0,
    rows=[  # beginning, ending and reaching over right at the edges at 100, 200 and 250
        *((100, 150, 60, 1, 0, 0.0, 0.0), (50, 100, 61, 1, 0, 0.0, 0.0), (99, 101, 62, 1, 0, 0.0, 0.0)),
        *((-10, 0, 63, 1, 0, 0.0, 0.0), (-10, 1, 64, 1, 0, 0.0, 0.0), (-50, 400, 65, 1, 0, 0.0, 0.0)),
        *((249, 300, 66, 1, 0, 0.0, 0.0), (250, 300, 67, 1, 0, 0.0, 0.0), (200, 250, 68, 1, 0, 0.0, 0.0)),
    ],
)
def test_cut_keeps_every_sample_and_every_note_once(tmp_path_factory, length, rows, seconds):
    samples = np.random.default_rng(length).integers(-(2**15), 2**15, length) / 2.0**15
    excerpts = records.cut(RECORDING, "musicnet", samples, notes_of(rows, LOW_RATE), LOW_RATE, seconds)
    np.testing.assert_array_equal(np.concatenate([e.audio for e in excerpts]), samples)
    assert [e.start_sample for e in excerpts] == np.cumsum([0, *(len(e.audio) for e in excerpts[:-1])]).tolist()
    assert {len(e.audio) for e in excerpts[:-1]} <= {round(seconds * LOW_RATE)}
    for e in excerpts:  # each holds all that sounds in it and nothing else
        stop = e.start_sample + len(e.audio)
        heard = sorted(
            (on - e.start_sample, off - e.start_sample) for on, off, *_ in rows if on < stop and off > e.start_sample
        )
        assert sorted(np.rint(e.notes.intervals() * LOW_RATE).astype(int).tolist()) == [list(x) for x in heard]
    folder = write_set(tmp_path_factory.mktemp("cut") / "set", excerpts, LOW_RATE)
    ((entry, notes),) = records.read_notes(folder)
    assert entry == {"id": "1727", "work": RECORDING.work}
    found = np.rint(np.stack([notes.onset * LOW_RATE, notes.offset * LOW_RATE, notes.pitch], 1)).astype(int).tolist()
    assert sorted(found) == sorted([on, off, pitch] for on, off, pitch, *_ in rows if on < length and off > 0)


def test_cut_puts_notes_on_the_grid_and_keeps_the_shortest():
    notes = Notes([0.99951, 0.5], [0.99952, 0.50001], [60, 62])  # samples 999.51–999.52 and 500–500.01
    first, second = records.cut(RECORDING, "musicnet", np.zeros(1500), notes, 1000, 1.0)
    assert np.rint(first.notes.intervals() * 1000).tolist() == [[500, 501]]
    assert np.rint(second.notes.intervals() * 1000).tolist() == [[0, 1]]  # rounds over the edge, and is there once


def one(folder):
    return write_shard(folder, [excerpt(Notes([0.5], [1.0], [60]))])


def read_all(path):
    return list(records.read(path))


def test_a_truncated_file_is_told(tmp_path):
    path = one(tmp_path / "set")
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(RecordError, match=r"train-00000-of-00001.tfrecord: truncated, or not a TFRecord file; build"):
        read_all(path)


def test_a_foreign_file_is_told(tmp_path):
    path = tmp_path / "noise.tfrecord"
    path.write_bytes(np.random.default_rng(0).bytes(3000))
    with pytest.raises(RecordError, match=r"noise.tfrecord: truncated, or not a TFRecord file"):
        read_all(path)
    with pytest.raises(RecordError, match=r"absent.tfrecord: not found"):
        read_all(tmp_path / "absent.tfrecord")
    with pytest.raises(RecordError, match=f"{tmp_path.name}: cannot be read"):
        read_all(tmp_path)


def test_a_tfrecord_of_something_else_is_told(tmp_path):
    label = tf.train.Feature(int64_list=tf.train.Int64List(value=[1]))
    foreign = tf.train.Example(features=tf.train.Features(feature={"label": label})).SerializeToString()
    for content in (foreign, b"no Example at all"):
        path = write_shard(tmp_path / "set", [content])
        with pytest.raises(RecordError, match=r"tfrecord: not a record of this program's schema 1 \(.+\)$"):
            read_all(path)


def changed(name, value):
    """A record with one feature of another value."""
    example = tf.train.Example.FromString(records.serialise(excerpt(Notes([0.5], [1.0], [60])), "pcm_s16le"))
    feature = example.features.feature[name]
    (feature.bytes_list if isinstance(value, bytes) else feature.int64_list).value[:] = [value]
    return example.SerializeToString()


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("audio/encoding", b"flac", "another audio encoding; this set holds pcm_s16le: build the records again"),
        ("sample_rate", 8000, "another sample rate; this set holds 16000: build the records again"),
        ("sample_rate", 0, "another sample rate; this set holds 16000"),
    ],
)
def test_a_record_of_another_set_is_told(tmp_path, name, value, message):
    folder = write_set(tmp_path / "set", [changed(name, value)])
    with pytest.raises(RecordError, match=rf"tfrecord: .*{message}") as caught:
        list(records.read_notes(folder))
    assert "\n" not in str(caught.value)
    assert "function_node" not in str(caught.value)
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):  # in the graph
        info = record_info.read_info(folder)
        list(tf.data.TFRecordDataset(str(folder / info.shards[0].file)).map(lambda data: records.parse(data, info)))


def test_a_rate_that_cannot_be_is_told(tmp_path):
    (record,) = read_all(write_shard(tmp_path / "set", [changed("sample_rate", 0)]))
    with pytest.raises(RecordError, match="sample rate 0 Hz"):
        records.notes_of(record)


def flipped(path):
    """One bit of the audio turned, the size as it was."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def swapped(path):
    """Another program's TFRecord of the same size."""
    size = path.stat().st_size
    with tf.io.TFRecordWriter(str(path)) as writer:
        writer.write(b"x" * (size - 16))  # 12 bytes before a record and 4 after it
    assert path.stat().st_size == size


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (flipped, "truncated, or not a TFRecord file; build the records again"),
        (swapped, "not a record of this program's schema 1 (Could not parse example input"),
    ],
)
def test_damage_that_leaves_the_size_is_told_by_stats(tmp_path, musicnet, damage, message):
    folder = write_set(tmp_path / "set", [excerpt(Notes([0.5], [1.0], [60]))])
    edit_info(folder, recordings={RECORDING.id: {"seconds": 1.0}})
    assert musicnet("stats", folder).status == 0
    damage(next(folder.glob("*.tfrecord")))
    record_info.read_info(folder)  # sees nothing
    outcome = musicnet("stats", folder)
    assert (outcome.status, outcome.stdout) == (1, "")
    (line,) = [line for line in outcome.stderr.splitlines() if "error:" in line]
    assert line.startswith(f"musicnet stats: error: {folder / 'train-00000-of-00001.tfrecord'}: {message}")


def test_a_record_of_another_schema_version_is_told(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(records, "SCHEMA_VERSION", 2)
        path = one(tmp_path / "set")
    with pytest.raises(RecordError, match=r"another schema version; this program reads 1: build the records again"):
        read_all(path)
    with pytest.raises(tf.errors.InvalidArgumentError, match="another schema version"):
        list(tf.data.TFRecordDataset(str(path)).map(records.parse))  # as the input pipeline reads


def test_a_whole_set_is_read(tmp_path):
    folder = write_set(tmp_path / "set", [excerpt(Notes.empty())] * 3)
    info = record_info.read_info(folder)
    assert (info.num_excerpts("train"), info.num_excerpts("test")) == (3, 0)
    assert info.shards[0].num_bytes == (folder / info.shards[0].file).stat().st_size


def edit_info(folder, **changes):
    path = folder / record_info.INFO
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


DAMAGE = {
    "unfinished": (
        lambda folder: (folder / record_info.INFO).unlink(),
        r"dataset_info.json: not found; .*set is no finished record set: build it with `musicnet build_records`",
    ),
    "version": (lambda folder: edit_info(folder, schema_version=2), "schema version 2, this program reads 1; build"),
    "version and layout": (
        lambda folder: edit_info(folder, schema_version=7, shape="round"),
        "schema version 7, this program reads 1; build the records again, or use the release that wrote them",
    ),
    "unknown key": (lambda folder: edit_info(folder, shape="round"), r"damaged or foreign \(.*shape.*\); build"),
    "no JSON": (lambda folder: (folder / record_info.INFO).write_bytes(b"\x00{"), r"damaged or foreign \("),
    "another shape": (lambda folder: (folder / record_info.INFO).write_text("[1]"), r"damaged or foreign \("),
    "missing shard": (
        lambda folder: (folder / "train-00000-of-00001.tfrecord").unlink(),
        r"train-00000-of-00001.tfrecord: missing; remove it and build the records again",
    ),
    "cut shard": (
        lambda folder: (folder / "train-00000-of-00001.tfrecord").write_bytes(b"x" * 9),
        r"train-00000-of-00001.tfrecord: 9 bytes where \d+ were written; remove it and build",
    ),
    "shard elsewhere": (
        lambda folder: edit_info(
            folder, shards=[{"file": "../../etc/passwd", "split": "train", "num_excerpts": 1, "num_bytes": 1}]
        ),
        r"damaged or foreign \(.*shards.0.file.*\); build",
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_set_is_told_in_one_line(tmp_path, damage):
    folder = write_set(tmp_path / "set", [excerpt(Notes.empty())])
    break_it, message = DAMAGE[damage]
    break_it(folder)
    with pytest.raises(RecordError, match=message) as caught:
        record_info.read_info(folder)
    assert "\n" not in str(caught.value)


def test_notes_that_cannot_be_are_told(tmp_path, monkeypatch):
    wrong = tf.train.Example.FromString(records.serialise(excerpt(Notes([0.5], [1.0], [60])), "pcm_s16le"))
    wrong.features.feature["notes/pitch"].int64_list.value[:] = [300]
    folder = write_set(tmp_path / "set", [wrong.SerializeToString()])
    with pytest.raises(RecordError, match=r"tfrecord: 1727: damaged notes \(.*pitch must be.*\); build"):
        list(records.read_notes(folder))
    edit_info(folder, recordings={"other": {}})
    with pytest.raises(RecordError, match=r"recording '1727' is not in dataset_info.json"):
        list(records.read_notes(folder))


def test_flac_without_tensorflow_io_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_io", None)  # as where it is not installed
    assert not records.flac_is_readable()
    with pytest.raises(RecordError, match=r"need tensorflow-io, .*install musicnet_tf\[tfio\], or build .*pcm_s16le"):
        records.decode_audio(tf.constant(b""), "flac")
