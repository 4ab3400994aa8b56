"""Evaluation of tags from sound to figures: of a model, of folders, and the choice of thresholds."""

import json

import numpy as np
import pytest
from tone_corpus import HERTZ, LOUDNESS, ToneEar, Tones

from musicnet_tf import evaluation
from musicnet_tf.decode.tags import TagDecoding
from musicnet_tf.errors import ConfigError, DatasetError
from musicnet_tf.events import TagSpans
from musicnet_tf.metrics import Heard, tag_search
from musicnet_tf.metrics.tag_search import TagParameters


@pytest.fixture
def corpus(tmp_path) -> Tones:
    return Tones(root=tmp_path)


def test_a_model_is_scored_by_frame_and_by_recording(corpus):
    report = evaluation.evaluate_model(ToneEar(), corpus, "test")
    assert list(report.pieces) == ["brief", "trio"]
    assert report.left_out == {"bear no tag that the model tells": ["silent"]}
    # Of trio's frames 8 are low, 3 mid and 3 high, whose tone is too soft by far; of brief's 5 low, and the 4th mid
    # too, a fifth of it, and not heard.
    trio, brief = report.pieces["trio"], report.pieces["brief"]
    assert trio["frame/micro/precision"] == 1 and trio["frame/micro/recall"] == pytest.approx(11 / 14)
    assert brief["frame/micro/recall"] == pytest.approx(5 / 6) and brief["frame/micro/pr_floor"] == pytest.approx(
        6 / 20
    )
    assert report.pooled["frame/micro/recall"] == pytest.approx(16 / 20)
    # The means over trio: low 1, mid 3/8 of .75, high 3/8 of .25: found is low.
    assert trio["recording/micro/precision"] == 1 and trio["recording/micro/recall"] == pytest.approx(1 / 3)
    assert trio["recording/top1"] == trio["recording/top3"] == 1
    by_class = report.by_class["frame"]
    assert [row["positives"] for row in by_class.values()] == [13, 4, 3, 0]
    assert [row["found"] for row in by_class.values()] == [13, 3, 0, 0]
    assert by_class["low"]["f1"] == 1 and by_class["mid"]["recall"] == 3 / 4 and by_class["high"]["f1"] == 0
    assert by_class["never"] == {"positives": 0, "found": 0, "threshold": 0.5}
    whole = report.by_class["recording"]
    assert [row["positives"] for row in whole.values()] == [2, 2, 1, 0]
    # Nothing in silence ranks above what sounds: the scores of all three are told apart.
    assert [whole[tag]["roc_auc"] for tag in LOUDNESS] == [1, 1, 1]
    assert report.pooled["recording/macro/pr_auc"] == 1 and report.pooled["recording/macro/f1"] == pytest.approx(1 / 3)
    assert report.pooled["frame/macro/f1"] == pytest.approx(np.mean([by_class[tag]["f1"] for tag in LOUDNESS]))
    assert "frame/samples/f1" not in report.pooled and "recording/samples/f1" in report.pooled


def test_what_lasts_no_longer_than_the_least_is_not_borne(corpus):
    trained = evaluation.evaluate_model(ToneEar(least_seconds=0.25), corpus, "test")
    asked = evaluation.evaluate_model(ToneEar(), corpus, "test", least_seconds=0.25)
    assert trained.pieces == asked.pieces and trained.settings["least_seconds"] == 0.25
    assert trained.by_class["frame"]["mid"]["positives"] == 3 and trained.by_class["recording"]["mid"]["positives"] == 1
    assert trained.by_class["frame"]["mid"]["f1"] == 1


def test_pieces_without_scores_count_in_the_pool_or_are_told(corpus):
    told = evaluation.evaluate_model(ToneEar({"threshold": 0.0}), corpus, "test", ["silent", "trio"])
    assert told.by_class["recording"]["low"]["found"] == 2  # everything is found in silence, too
    assert told.pooled["recording/micro/precision"] == pytest.approx(3 / 8)
    report = evaluation.evaluate_model(ToneEar(), Tones(root=corpus.root, untold=True, broken=True), "test")
    assert report.left_out["tell no tags"] == ["untold"] and report.failed == {"broken": "broken.wav: cannot be read"}
    with pytest.raises(DatasetError, match="none of 1 pieces could be evaluated; silent: bear no tag that the model"):
        evaluation.evaluate_model(ToneEar(), corpus, "test", ["silent"])
    with pytest.raises(ConfigError, match="scores of tags have no option 'trim_seconds', only least_seconds"):
        evaluation.evaluate_model(ToneEar(), corpus, "test", trim_seconds=1.0)


def test_tags_that_exclude_one_another_have_an_accuracy(corpus):
    report = evaluation.evaluate_model(ToneEar({"exclusive": True}), corpus, "all")
    # Frames that bear just one: 4 of duo are low and 2 high (or both), 3 of solo, 3 of trio, 4 of brief.
    single = {"duo": 4, "solo": 3, "trio": 3, "brief": 4}
    assert {id: row["frame/accuracy"] for id, row in report.pieces.items()} == dict.fromkeys(sorted(single), 1)
    frame = report.confusion["frame"]
    assert frame["low"] == {"low": 9, "mid": 0, "high": 0, "never": 0} and frame["high"]["high"] == 2
    assert sum(sum(row.values()) for row in frame.values()) == sum(single.values())
    assert report.confusion["recording"]["mid"] == {"low": 0, "mid": 1, "high": 0, "never": 0}
    assert "threshold" not in report.by_class["frame"]["low"]
    assert "frame: true, taken for" in report.table() and "whole accuracy" in report.table()
    chosen = evaluation.choose_thresholds(ToneEar({"exclusive": True}), [corpus])
    assert chosen.decoder == TagDecoding(exclusive=True)
    assert chosen.scores["frame/macro/f1"] == pytest.approx(np.mean([8 / 8, 6 / 6, 0]), abs=1)


def test_table_figure_and_json_tell_of_every_tag(corpus, tmp_path):
    report = evaluation.evaluate_model(ToneEar(), corpus, "test")
    pieces, frame, recording = report.table().split("\n\n")
    assert pieces.splitlines()[-1].split()[0] == "pooled" and "frame macro F" in pieces
    assert frame.splitlines()[0].split() == ["frame", "true", "found", "threshold", "P", "R", "F", "ROC", "PR", "by", "chance"]
    assert frame.splitlines()[2].split()[:5] == ["low", "13", "13", "0.500", "1.000"]
    assert frame.splitlines()[5].split() == ["never", "0", "0", "0.500", *["-"] * 6]
    assert recording.splitlines()[0].startswith("recording")
    assert "frame: nothing is never; in no mean over classes" in report.remarks()
    written = report.write(tmp_path / "out")
    told = json.loads(written[0].read_text())
    assert told["by_class"] == report.by_class and "confusion" not in told
    assert set(told["curves"]) == {"frame", "recording"} and told["pooled"]["frame/macro/pr_auc"] > 0.9
    figure = report.figure()
    assert [axes.get_title() for axes in figure.axes] == ["", "all tags as one", "frame", "recording"]
    names = [text.get_text() for text in figure.axes[2].get_yticklabels()]
    assert names == ["low", "mid", "high"]  # of what never is, there is nothing to draw
    bars = [bar.get_width() for bar in figure.axes[2].containers[0]]
    assert bars == [report.by_class["frame"][tag]["f1"] for tag in names]


def test_curves_hold_the_points_of_all_thresholds(corpus):
    report = evaluation.evaluate_model(ToneEar(), corpus, "test")
    curve = report.curves["frame"]
    low = np.argmin(np.abs(np.array(curve["threshold"]) - 1.0))
    assert (curve["precision"][low], curve["recall"][low]) == (1.0, pytest.approx(13 / 20, abs=0.06))


def test_chosen_thresholds_serve_unseen_pieces(corpus, tmp_path):
    before = evaluation.evaluate_model(ToneEar(), corpus, "test").pooled
    chosen = evaluation.choose_thresholds(ToneEar(), [corpus])
    assert set(chosen.decoder.thresholds) == set(LOUDNESS) and chosen.not_chosen == ("never",)
    chosen.write(tmp_path / "thresholds.json")
    again = TagParameters.read(tmp_path / "thresholds.json")
    assert again == chosen
    own = evaluation.evaluate_model(ToneEar(), corpus, "validation", thresholds=again).pooled
    assert {name: own[name] for name in chosen.scores} == pytest.approx(chosen.scores)
    unseen = evaluation.evaluate_model(ToneEar(), corpus, "test", thresholds=again)
    assert before["frame/macro/f1"] < 0.7 and unseen.pooled["frame/macro/f1"] > 0.9
    assert unseen.by_class["frame"]["high"]["threshold"] == chosen.decoder.thresholds["high"] < 0.3


def test_thresholds_have_the_highest_sum_of_both_f_measures(corpus):
    """Against what evaluation reaches with each threshold of each tag."""
    ear = ToneEar({"aggregate": "vote"})
    chosen = evaluation.choose_thresholds(ear, [corpus])
    reached = []
    for threshold in tag_search.THRESHOLDS[::7]:
        decoder = TagDecoding(aggregate="vote", threshold=threshold)
        report = evaluation.evaluate_model(ear, corpus, "validation", thresholds=TagParameters(decoder=decoder))
        reached.append([sum(report.by_class[grain][tag]["f1"] for grain in report.by_class) for tag in LOUDNESS])
    best = evaluation.evaluate_model(ear, corpus, "validation", thresholds=chosen)
    mine = [sum(best.by_class[grain][tag]["f1"] for grain in best.by_class) for tag in LOUDNESS]
    assert (np.array(mine) >= np.max(reached, axis=0) - 1e-12).all() and np.max(mine) > np.min(reached)


def heard(id: str, levels: list[float], spans: TagSpans) -> Heard:
    """A piece with the scores of tag `low`, of one second each."""
    values = np.zeros((len(levels), len(HERTZ)), np.float32)
    values[:, 0] = levels
    return Heard(id, spans, {"tag": values}, float(len(levels)))


def test_corpora_count_alike_however_many_pieces_they_have():
    """What finds all of one corpus finds too much in the other, what suits the other nothing of the first."""
    spec = ToneEar().manifest.geometry
    soft = heard("soft", [0.25, 0.25, 0.1, 0.1], TagSpans([0.0], [2.0], ["low"]))
    loud = heard("loud", [0.65, 0.4, 0.4, 0.4], TagSpans([0.0], [1.0], ["low"]))
    alone = tag_search.search_parameters([[soft]], spec, TagDecoding())
    assert alone.decoder.thresholds == {
        "low": 0.17
    }  # frames of .25, of a mean of .175: the nearest to .5 that finds both
    other = tag_search.search_parameters([[loud]], spec, TagDecoding())
    assert other.decoder.thresholds == {"low": 0.46}  # for the mean, .4625
    alike = tag_search.search_parameters([[soft], [loud]], spec, TagDecoding())
    many = tag_search.search_parameters([[soft], [loud] * 9], spec, TagDecoding())
    assert many.decoder == alike.decoder == alone.decoder and many.scores == pytest.approx(alike.scores)
    drowned = tag_search.search_parameters([[soft, *[loud] * 9]], spec, TagDecoding())
    assert drowned.decoder == other.decoder
    # Of ten pieces of four frames, each counted alike: 9 of 11 frames are found, and 9 of 10 recordings.
    assert [*drowned.scores.values()] == pytest.approx([2 * 9 / (9 + 11), 2 * 9 / (9 + 10)])
    with pytest.raises(DatasetError, match="bears a tag of the model, which are low, mid, high, never"):
        tag_search.search_parameters([[heard("none", [0.5], TagSpans.empty())]], spec, TagDecoding())
