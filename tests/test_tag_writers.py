"""Files of tags: what they hold, read back by those who know their forms."""

import csv
import json

import jams
import numpy as np
import pytest
from matplotlib import image

from musicnet_tf import tag_writers
from musicnet_tf.decode.tags import TagDecoding, decode
from musicnet_tf.errors import ConfigError
from musicnet_tf.models import HeadSpec, ModelSpec
from musicnet_tf.timebase import FrameClock
from musicnet_tf.writers import Transcript

NAMES = ("viola", 'wind, "low"', "piano")
SCORES = np.array([[0.9, 0.2, 0.123456], [0.7, 0.5, 0.00001234], [0.2, 0.75, 0.0], [0.6, 0.5, 0.0]])
DURATION = 3.5


def spec(num_tags=3, labels=NAMES, features=2) -> ModelSpec:
    heads = {"tag": HeadSpec(num_tags, labels=labels)} | ({"embedding": HeadSpec(features)} if features else {})
    return ModelSpec(FrameClock(1000, 1000, 500), 1000, 1, 0, heads)


def transcript(embedding=True, duration=DURATION, scores=SCORES, **params) -> Transcript:
    heads = {"tag": scores} | ({"embedding": np.outer(np.arange(len(scores)), [-1.0, 10.0])} if embedding else {})
    tags = decode(heads, spec(features=2 if embedding else 0), TagDecoding(**params), duration)
    return Transcript(tags, duration, "trio", "a model")


def write(name, path, told=None):
    TagDecoding.formats()[name].write(path, told or transcript())
    return path


def test_the_default_formats_exist():
    assert set(TagDecoding.default_formats) <= set(TagDecoding.formats())


def test_json_has_ranked_tags_and_a_time_line(tmp_path):
    told = json.loads(write("json", tmp_path / "a.json").read_text(encoding="utf-8"))
    # (0.9 + 0.7 + 0.2 + 0.5 * 0.6) / 3.5, (0.2 + 0.5 + 0.75 + 0.5 * 0.5) / 3.5, 0.1234683 / 3.5
    assert told["tags"] == [
        {"tag": "viola", "score": 0.6, "present": True},
        {"tag": 'wind, "low"', "score": 0.4857, "present": False},
        {"tag": "piano", "score": 0.03528, "present": False},
    ]
    assert (told["model"], told["duration"]) == ("a model", 3.5)
    assert told["stretches"] == [
        {"tag": "viola", "start": 0.0, "stop": 2.0},
        {"tag": 'wind, "low"', "start": 1.0, "stop": 3.5},
        {"tag": "viola", "start": 3.0, "stop": 3.5},
    ]
    assert told["timeline"] == {
        "start": [0.0, 1.0, 2.0, 3.0],
        "stop": [1.0, 2.0, 3.0, 3.5],
        "scores": {
            "viola": [0.9, 0.7, 0.2, 0.6],
            'wind, "low"': [0.2, 0.5, 0.75, 0.5],
            "piano": [0.1235, 0.000012, 0.0, 0.0],
        },
    }


def test_json_is_for_people_too(tmp_path):
    lines = write("json", tmp_path / "a.json").read_text(encoding="utf-8").splitlines()
    assert lines[3:5] == ['  "tags": [', '    {"tag": "viola", "score": 0.6, "present": true},']
    assert '      "viola": [0.9, 0.7, 0.2, 0.6],' in lines


def test_csv_has_a_row_a_stretch(tmp_path):
    with write("csv", tmp_path / "a.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["start", "stop", *NAMES]
    assert [(row["start"], row["stop"]) for row in rows][2:] == [("2.000", "3.000"), ("3.000", "3.500")]
    assert [float(row['wind, "low"']) for row in rows] == [0.2, 0.5, 0.75, 0.5]
    assert float(rows[1]["piano"]) == 0.000012


def test_jams_tells_the_whole_and_stretches(tmp_path):
    jam = jams.load(str(write("jams", tmp_path / "a.jams")), validate=True)
    whole, stretches = jam.search(namespace="tag_open")
    assert [(o.time, o.duration, o.value, round(o.confidence, 4)) for o in whole.data] == [
        (0, 3.5, "viola", 0.6),
        (0, 3.5, 'wind, "low"', 0.4857),
        (0, 3.5, "piano", 0.0353),
    ]
    assert [(o.time, o.duration, o.value) for o in stretches.data] == [
        (0.0, 2.0, "viola"),
        (1.0, 2.5, 'wind, "low"'),
        (3.0, 0.5, "viola"),
    ]
    assert [o.confidence for o in stretches.data] == pytest.approx([0.8, 1.75 / 3, 0.6])
    assert (jam.file_metadata.title, jam.file_metadata.duration) == ("trio", 3.5)
    assert "a model" in whole.annotation_metadata.annotation_tools
    assert "mean" in stretches.annotation_metadata.annotation_rules


def test_npz_holds_all_of_it(tmp_path):
    with np.load(write("npz", tmp_path / "a.npz"), allow_pickle=False) as arrays:
        assert arrays["names"].tolist() == list(NAMES)
        np.testing.assert_array_equal(arrays["timeline"], SCORES.astype(np.float32))
        assert arrays["timeline"].dtype == np.float32
        assert arrays["active"].tolist() == [
            [True, False, False],
            [True, True, False],
            [False, True, False],
            [True, True, False],
        ]
        assert arrays["scores"] == pytest.approx([0.6, 1.7 / 3.5, 0.03528], abs=1e-5)
        assert arrays["present"].tolist() == [True, False, False]
        assert arrays["stop"].tolist() == [1.0, 2.0, 3.0, 3.5]
        assert arrays["embedding"][3].tolist() == [-3.0, 30.0]
    with np.load(write("npz", tmp_path / "b.npz", transcript(embedding=False))) as arrays:
        assert "embedding" not in arrays.files


def test_the_embedding_comes_with_its_times(tmp_path):
    with np.load(write("embedding", tmp_path / "a.embedding.npz"), allow_pickle=False) as arrays:
        assert arrays["embedding"].tolist() == [[0.0, 0.0], [-1.0, 10.0], [-2.0, 20.0], [-3.0, 30.0]]
        assert arrays["embedding"].dtype == np.float32
        assert arrays["start"].tolist() == [0.0, 1.0, 2.0, 3.0]
        assert arrays["stop"].tolist() == [1.0, 2.0, 3.0, 3.5]


def test_without_an_embedding_there_is_no_file_of_it(tmp_path):
    with pytest.raises(ConfigError, match="the model gives no head 'embedding'"):
        write("embedding", tmp_path / "a.embedding.npz", transcript(embedding=False))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["json", "csv", "npz", "embedding", "png"])
def test_equal_tags_give_equal_files(name, tmp_path):
    paths = [write(name, tmp_path / f"{i}.out", transcript()) for i in range(2)]
    assert paths[0].read_bytes() == paths[1].read_bytes()


# --- pictures


def strips(axes) -> np.ndarray:
    """The scores that are drawn, from the top down."""
    (mesh,) = axes.collections[:1]
    return np.asarray(mesh.get_array())


def named(axes) -> list[str]:
    return [label.get_text() for label in axes.get_yticklabels()]


def test_a_figure_has_a_strip_a_tag_the_likeliest_on_top():
    top, bar = tag_writers.figure(transcript().events, DURATION, "trio").axes
    assert named(top) == ["viola .60", 'wind, "low" .49', "piano .04"]
    np.testing.assert_allclose(strips(top), SCORES.T, rtol=1e-6)
    assert top.yaxis_inverted()
    assert [label.get_fontweight() for label in top.get_yticklabels()] == ["bold", "normal", "normal"]
    edges = top.collections[0].get_coordinates()[0, :, 0]
    assert edges.tolist() == [0.0, 1.0, 2.0, 3.0, 3.5]
    assert bar.get_ylabel() == "score"
    assert top.get_title("left") == "trio"


def test_long_recordings_are_drawn_in_rows_and_many_frames_by_their_greatest():
    scores = np.tile(SCORES, (2500, 1))
    scores[7777, 2] = 1.0
    *rows, _ = tag_writers.figure(transcript(scores=scores, duration=1e4).events, 1e4).axes
    assert len(rows) == 6
    shown = strips(rows[0])
    assert shown.shape == (3, 3334)
    assert np.argmax(shown[2]) == 7777 // 3 and shown[2].max() == 1.0
    assert rows[1].get_xlim()[0] == rows[0].get_xlim()[1]


def test_of_many_tags_the_highest_are_drawn_in_one_row():
    scores = np.tile(np.linspace(0, 1, 300), (400, 1))
    tags = decode({"tag": scores}, spec(300, (), 0), TagDecoding())
    axes, _ = tag_writers.figure(tags, 400.0).axes
    assert len(named(axes)) == 40
    assert named(axes)[:2] == ["tag 299 1.00", "tag 298 1.00"]


@pytest.mark.parametrize("scores", [SCORES[:1], SCORES[:0]], ids=["one", "none"])
def test_short_recordings_are_drawn_too(scores, tmp_path):
    path = write("png", tmp_path / "a.png", transcript(scores=scores, duration=0.01))
    assert image.imread(path).shape[1] == 12 * 110
    assert json.loads(write("json", tmp_path / "a.json", transcript(scores=scores, duration=0.01)).read_text())["tags"]


def test_names_may_hold_any_text(tmp_path):
    tags = decode({"tag": np.ones((2, 2))}, spec(2, ("$x_1$", "日本/Ünï"), 0), TagDecoding())
    told = Transcript(tags, 2.0, "a", "m")
    assert write("png", tmp_path / "a.png", told).stat().st_size > 1000
    assert "日本/Ünï" in write("json", tmp_path / "a.json", told).read_text(encoding="utf-8")
