"""Tags in records: what goes in comes out, cut at the ends of excerpts; what corpora tell; and a training on both."""

from __future__ import annotations

import json
from typing import ClassVar

import numpy as np
import pytest
import tensorflow as tf
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from musicnet_tf import config, input_pipeline, instruments, record_info, records, scores
from musicnet_tf.datasets import Recording
from musicnet_tf.datasets._recorded import Recorded
from musicnet_tf.datasets._tagged import TaggedDataset, tags_of_music
from musicnet_tf.datasets.bach10 import Bach10
from musicnet_tf.datasets.musicnet import MusicNet
from musicnet_tf.datasets.rendered import Rendered
from musicnet_tf.errors import AudioError, ConfigError, RecordError
from musicnet_tf.events import UNKNOWN, Note, Notes, TagSpans
from musicnet_tf.manifest import Manifest

RATE = 100
NAMES = ("a", "b", "größer")
RECORDING = Recording("1001", "train", "Nobody: Nothing")


def excerpts(tags, seconds=2.5, length=1.0):
    samples = np.zeros(round(seconds * RATE), np.float32)
    return records.cut(RECORDING, "musicnet", samples, Notes.empty(), RATE, length, None, tags)


def read_back(excerpt):
    fields = records.parse(tf.constant(records.serialise(excerpt, "pcm_s16le")))
    return {name: value.numpy() for name, value in fields.items()}


def test_tags_come_back_cut_at_the_ends_of_their_excerpts():
    told = TagSpans([-0.5, 0.0, 1.5, 2.0, 0.2], [0.5, np.inf, 2.25, 2.1, 0.204], ["a", "b", "c", "c", "short"])
    cut = excerpts(told)
    expected = [
        TagSpans([0.0, 0.0], [0.5, 1.0], ["a", "b"]),
        TagSpans([0.0, 0.5], [1.0, 1.0], ["b", "c"]),
        TagSpans([0.0, 0.0], [0.5, 0.25], ["b", "c"]),
    ]
    assert [e.tags for e in cut] == expected
    fields = read_back(cut[2])
    assert (fields["tags/start"].tolist(), fields["tags/stop"].tolist()) == ([0, 0], [50, 25])
    assert fields["tags/start"].dtype == fields["tags/stop"].dtype == np.int64
    assert fields["tags/name"].tolist() == [b"b", b"c"]
    assert [records.tags_of(read_back(e)) for e in cut] == expected


stretches = st.lists(
    st.tuples(st.floats(-1, 3), st.floats(0.001, 2) | st.just(np.inf), st.sampled_from(NAMES)), max_size=9
)


@given(stretches, st.sampled_from([0.5, 0.7, 1.0, 4.0]))
@settings(max_examples=25)
def test_every_sample_keeps_the_tags_that_it_bears(rows, length):
    told = TagSpans([r[0] for r in rows], [r[0] + r[1] for r in rows], [r[2] for r in rows])
    found = np.zeros((250, len(NAMES)), bool)
    for excerpt in excerpts(told, length=length):
        tags = records.tags_of(read_back(excerpt))
        assert tags == excerpt.tags == tags.merged()
        for start, stop, name in zip(tags.start, tags.stop, tags.tag, strict=True):
            assert 0 <= start < stop <= len(excerpt.audio) / RATE
            first = excerpt.start_sample + round(start * RATE)
            found[first : excerpt.start_sample + round(stop * RATE), NAMES.index(name)] = True
    expected = np.zeros_like(found)
    for start, length, name in rows:
        begin, end = np.clip(np.rint([start * RATE, (start + length) * RATE]), 0, 250).astype(int)
        expected[begin:end, NAMES.index(name)] = True
    np.testing.assert_array_equal(found, expected)


def test_equal_tags_give_equal_bytes_in_whatever_order_they_are_told():
    one = TagSpans([0.0, 0.25, 0.5], [0.5, 0.75, 1.0], ["a", "b", "a"])
    other = TagSpans([0.25, 0.0], [0.75, 1.0], ["b", "a"])
    first, second = ([records.serialise(e, "pcm_s16le") for e in excerpts(tags)] for tags in (one, other))
    assert first == second
    assert first != [records.serialise(e, "pcm_s16le") for e in excerpts(one.shift(0.01))]


def test_no_tags_and_tags_that_no_one_told_are_two_things():
    (told, *_), (untold, *_) = excerpts(TagSpans.empty()), excerpts(None)
    assert records.tags_of(read_back(told)) == TagSpans.empty()
    assert records.tags_of(read_back(untold)) is None
    example = tf.train.Example.FromString(records.serialise(untold, "pcm_s16le"))
    assert not [name for name in example.features.feature if name.startswith("tags/")]  # as records were before


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ({"tags/stop": np.array([0, 50])}, r"damaged tags \(tag 0 \(a\): must end after it begins"),
        ({"tags/name": np.array([b"a"], object)}, r"damaged tags \(tags: columns of shapes \(2,\), \(2,\) and \(1,\)"),
        ({"tags/name": np.array([b"a", b"\xff"], object)}, r"damaged tags \('utf-8' codec can't decode"),
    ],
)
def test_damaged_tags_are_told(damage, message):
    fields = read_back(excerpts(TagSpans([0.0, 0.25], [0.5, 0.5], ["a", "b"]))[0])
    with pytest.raises(RecordError, match=message):
        records.tags_of({**fields, **damage})


def test_music_tells_its_instruments_its_composer_and_who_plays():
    notes = Notes([0.0, 0.5, 0.9], [0.6, 1.0, 2.0], [60, 62, 64], None, [40, 40, UNKNOWN])
    found = tags_of_music(notes, {"composer": "Bach", "ensemble": "Solo Violin", "movement": "Allegro", "catalog": ""})
    assert found == TagSpans(
        [0.0, 0.0, 0.0], [1.0, np.inf, np.inf], ["violin", "composer/Bach", "ensemble/Solo Violin"]
    )
    assert tags_of_music(notes, {"composer": "", "ensemble": ""}) == TagSpans([0.0], [1.0], ["violin"])


def labelled(path, *programs):
    """A label file in which each instrument plays a second alone, one after the other."""
    notes = Notes.from_list([Note(k, k + 1.0, 60, instrument=program) for k, program in enumerate(programs)])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(scores.format_musicnet_csv(notes))


METADATA = (
    "id,composer,composition,movement,ensemble,source,transcriber,catalog_name,seconds\n"
    "1001,Cambini,Quintet,Allegro,Wind Quintet,x,y,z,100\n"
)


def whole(tags):
    return sorted(tags.tag[np.isinf(tags.stop)].tolist())


def test_musicnet_tells_tags_of_its_labels_and_metadata(tmp_path):
    labelled(tmp_path / "train_labels/1001.csv", 73, 68, 73)
    (tmp_path / "train_data").mkdir()
    (tmp_path / "train_data/1001.wav").touch()
    (tmp_path / "musicnet_metadata.csv").write_text(METADATA)
    (recording,) = MusicNet(root=tmp_path).recordings()
    for delay in (0.0, 0.25):
        tags = MusicNet(root=tmp_path, delay=delay).load_tags(recording)
        assert whole(tags) == ["composer/Cambini", "ensemble/Wind Quintet"]
        parts = sorted(zip(tags.start[np.isfinite(tags.stop)], tags.tag[np.isfinite(tags.stop)], strict=True))
        assert parts == [(delay, "flute"), (1 + delay, "oboe"), (2 + delay, "flute")]


def test_rendered_scores_tell_who_plays_where_that_is_sure(tmp_path):
    labelled(tmp_path / "train_labels/1001.csv", 73, 68, 71)
    (tmp_path / "musicnet_metadata.csv").write_text(METADATA)

    def told(**options):
        corpus = Rendered(root=tmp_path, soundfonts=("any.sf2",), excerpt_seconds=None, **options)
        (recording,) = corpus.recordings()
        notes, tags = corpus.load_notes(recording), corpus.load_tags(recording)
        playing = {instruments.name_of(program) for program in notes.instrument.tolist()}
        assert set(tags.tag[np.isfinite(tags.stop)]) == playing
        return playing, whole(tags)

    assert told() == ({"flute", "oboe", "clarinet"}, ["composer/Cambini", "ensemble/Wind Quintet"])
    assert told(recast={71: (70,)}) == ({"flute", "oboe", "bassoon"}, ["composer/Cambini"])
    fewer = [told(fewer=1.0, seed=seed) for seed in range(5)]
    assert len({frozenset(playing) for playing, _ in fewer}) > 1
    assert {tuple(rest) for _, rest in fewer} == {("composer/Cambini",)}


def test_a_part_of_bach10_tells_its_instrument_alone(tmp_path):
    labelled(tmp_path / "01-Title.musicnet.csv", 40, 71, 66, 70)
    for name in ("01-Title", *(f"01-Title-{part}" for part in ("violin", "clarinet", "saxphone", "bassoon"))):
        (tmp_path / f"{name}.wav").touch()
    corpus = Bach10(root=tmp_path)
    told = {recording.id: corpus.load_tags(recording) for recording in corpus.recordings()}
    mix = told.pop("01-Title")
    assert mix.tag[np.isfinite(mix.stop)].tolist() == ["violin", "clarinet", "tenor sax", "bassoon"]
    assert {id: tags.tag.tolist()[0] for id, tags in told.items()} == {
        "01-Title-bassoon": "bassoon",
        "01-Title-clarinet": "clarinet",
        "01-Title-saxphone": "tenor sax",
        "01-Title-violin": "violin",
    }
    assert all("composer/Bach" in tags.tag for tags in told.values())


class Genres(TaggedDataset):
    """Noise, of which half a second is called loud; recording `broken` cannot be read."""

    name: ClassVar[str] = "genres"
    description: ClassVar[str] = "noise"
    licence: ClassVar[str] = "CC0"
    source: ClassVar[str] = "tests"

    def recordings(self):
        return [Recording(id, "train", id) for id in ("blues", "broken", "jazz")]

    def load_audio(self, recording, sample_rate):
        if recording.id == "broken":
            raise AudioError("broken.wav: cannot be read")
        return np.random.default_rng(len(recording.id)).normal(0, 0.1, round(2.5 * sample_rate)).astype(np.float32)

    def load_tags(self, recording):
        loud = TagSpans([0.75], [1.25], ["loud"])
        return TagSpans.concatenate([TagSpans.of_whole([f"genre/{recording.id}"]), loud])


@pytest.fixture(scope="module")
def genres(tmp_path_factory):
    """A set of records of a corpus that tells tags alone."""
    from pipelines import build_records

    folder = tmp_path_factory.mktemp("records") / "genres"
    how = build_records.Settings(Genres(root=folder.parent), 16000, 1.0, "pcm_s16le", 8)
    build_records.build(how, folder, build_records.beam_options("FnApiRunner"))
    return folder


def test_a_set_of_tags_alone_says_so(genres):
    info = record_info.read_info(genres)
    assert Genres.annotations() == info.annotations == ("tags",)
    entry = info.recordings["jazz"]
    assert "num_notes" not in entry
    assert (entry["num_tags"], entry["tags"]) == (2, {"genre/jazz": 2.5, "loud": 0.5})
    totals = info.splits["train"]
    assert (totals["recordings"], totals["notes"], totals["tags"]) == (2, 0, 3)
    assert info.failed == {"broken": "broken.wav: cannot be read"}


def test_records_are_the_corpus_that_they_were_made_of(genres):
    recorded = Recorded(root=genres)
    for recording in recorded.recordings():
        expected = [(0.0, 2.5, f"genre/{recording.id}"), (0.75, 1.25, "loud")]  # put together again at 1 s and 2 s
        found = recorded.load_tags(recording)
        assert list(zip(found.start, found.stop, found.tag, strict=True)) == expected
        assert len(recorded.load_notes(recording)) == 0


def test_records_without_tags_tell_none(genres, tiny_records, tmp_path):
    recorded = Recorded(root=tiny_records)
    first = recorded.recordings()[0]
    assert set(recorded.load_tags(first).tag) <= {"piano", "violin", "cello"}
    info = record_info.read_info(tiny_records)
    assert info.annotations == ("notes", "tags")
    assert set(info.recordings[first.id]["tags"]) == set(recorded.load_tags(first).tag)


def experiment(folder, task, *overrides):
    fields = yaml.safe_load(
        """
        name: tags_tiny
        model: {name: instrument_cnn, num_tags: 3, num_mels: 16, chunk_frames: 100, frame_spectra: 50, filters: [4, 8],
          pools: [[5, 4], [5, 2]], temporal_filters: 8, dilations: [1], dense: 6}
        train: {steps: 2, steps_per_epoch: 2, validation_steps: 1, batch_size: 4, schedule: constant}
        """
    )
    path = folder.parent / f"{task['labels']}.yaml"
    data = {"folder": str(folder.parent), "train": [{"records": folder.name}], "windows_per_excerpt": 2}
    path.write_text(yaml.safe_dump({**fields, "task": {"name": "tags", **task}, "data": data}))
    return path


def test_tags_that_no_recording_bears_are_told_before_training(genres, caplog):
    path = experiment(genres, {"labels": "tags", "tags": ["genre/jazz", "genre/rock", "loud"]})
    input_pipeline.training(config.load(path))
    told = "data.train: no recording teaches genre/rock; what is learnt of it is that it is never borne"
    assert told in caplog.messages


def test_windows_of_a_training_bear_the_tags_of_their_records(genres, caplog):
    path = experiment(genres, {"labels": "tags", "tags": ["genre/jazz", "loud", "genre/blues"], "least_seconds": 0.4})
    made = config.load(path, ["train.batch_size=16"])
    (_, targets), *_ = input_pipeline.training(made).as_numpy_iterator()
    assert not caplog.messages
    tags = targets["tag"]
    assert tags.shape == (16, 2, 3)
    np.testing.assert_array_equal(tags[:, 0, 0] + tags[:, 0, 2], 1)  # of one genre each, in the second that is audio
    assert not tags[:, 1].any()  # excerpts of a second end where the second frame begins
    assert not tags[..., 1].any()  # a quarter of a second is not enough
    assert 0 < tags[:, 0, 0].sum() < 16


def test_records_that_do_not_tell_what_is_learnt_are_refused(genres):
    path = experiment(genres, {"labels": "instruments", "tags": ["piano", "violin", "cello"]})
    with pytest.raises(ConfigError, match="its records tell tags and no notes, from which task 'tags' learns"):
        input_pipeline.open_sources(config.load(path), "train")


def test_a_tagger_of_instruments_is_trained_from_end_to_end(tiny_records, musicnet, tmp_path):
    path = experiment(tiny_records, {"labels": "instruments", "tags": ["piano", "violin", "cello"]})
    outcome = musicnet("train", f"--config={path}", f"--run_dir={tmp_path / 'run'}")
    assert outcome.status == 0, outcome.stderr
    (row,) = json.loads((tmp_path / "run/history.json").read_text())
    assert 0 < row["val_pr_auc"] <= 1
    assert row["loss"] == pytest.approx(np.log(2), abs=0.3)  # of a network that knows nothing yet
    manifest = Manifest.read(tmp_path / "run")
    assert manifest.task == "tags"
    assert manifest.geometry.heads["tag"].labels == ("piano", "violin", "cello")
    assert manifest.geometry.heads["embedding"].num_classes == 6
    assert manifest.decoder["exclusive"] is False
    assert list((tmp_path / "run/tensorboard/pictures").glob("*"))
