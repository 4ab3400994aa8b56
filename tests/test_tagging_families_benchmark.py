"""The table of families of taggers: that all hear the same, what is counted of it, and that it goes on where it was."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from benchmarks import _tagging_families_work as work
from benchmarks import tagging_families as benchmark
from benchmarks._tagging_families_work import Budget, Piece, Row
from musicnet_tf.errors import ConfigError, ModelError
from musicnet_tf.events import TagSpans
from musicnet_tf.metrics.tags import Items
from musicnet_tf.models import HeadSpec, ModelSpec
from musicnet_tf.timebase import FrameClock

NAMES = ("violin", "flute")
ROW = Row("fcn", {"minutes": 1.0}, 447_732, 29.0, 4, steps=11, first=20.0, seconds=60.0, real_time_factor=0.01)


@pytest.mark.parametrize("family", benchmark.families())
def test_every_family_hears_as_much_of_the_same(family, tmp_path):
    chosen = benchmark.experiment(family, tmp_path, ["parts:5", "musicnet"], batch_seconds=128)
    spec = chosen.model.spec()
    assert spec.clock.sample_rate == 16000
    window = spec.window_length / 16000
    assert abs(chosen.train.batch_size * window - 128) <= window / 2 + 1e-6
    assert [(str(one.records), one.weight) for one in chosen.data.train] == [("parts", 5.0), ("musicnet", 1.0)]
    assert chosen.task.tags[0] == "piano"
    assert len(chosen.task.tags) == spec.heads["tag"].num_classes == 11
    published = benchmark.MODELS.get(family)().spec()
    seconds = published.window_length / published.clock.sample_rate
    assert window == pytest.approx(seconds, rel=0.4), "chunks are about as long as published"


def test_families_are_named_or_all():
    assert benchmark.select([]) == benchmark.families()
    assert benchmark.select(["vggish", "fcn"]) == ["fcn", "vggish"]
    assert "beat_tcn" not in benchmark.families()
    with pytest.raises(ConfigError, match="'fcm' tags nothing, did you mean 'fcn'"):
        benchmark.select(["fcm"])


def test_a_budget_ends_after_the_step_in_which_it_is_used_up():
    times = iter([100.0, 130.0, 140.0, 161.0])
    budget = Budget(60.0, lambda: next(times))
    model = type("Model", (), {"stop_training": False})()
    budget.set_model(model)
    budget.on_train_begin()
    stopped = []
    for step in range(3):
        budget.on_train_batch_end(step, {"loss": 0.5})
        stopped.append(model.stop_training)
    assert stopped == [False, False, True]
    assert (budget.steps, budget.first, budget.seconds, budget.diverged) == (3, 30.0, 61.0, False)


def test_a_loss_that_is_no_number_ends_a_training():
    budget = Budget(60.0, lambda: 0.0)
    budget.set_model(type("Model", (), {"stop_training": False})())
    budget.on_train_begin()
    budget.on_train_batch_end(0, {"loss": float("nan")})
    assert budget.diverged
    assert budget.model.stop_training


def test_the_first_step_is_not_counted_as_speed():
    assert ROW.examples_a_second == pytest.approx(10 * 4 / 40)
    assert dataclasses.replace(ROW, steps=1, seconds=20.0).examples_a_second == 0


def spec_of(frames, seconds):
    hop = round(100 * seconds / frames)
    return ModelSpec(FrameClock(100, hop, hop // 2), 100 * seconds, frames, 0, {"tag": HeadSpec(2, labels=NAMES)})


def test_seconds_have_the_scores_of_the_frames_they_lie_in():
    spans = TagSpans(np.array([0.5, 2.0]), np.array([1.5, 3.0]), np.array(["violin", "flute"]))
    piece = Piece("a", np.zeros(390, np.float32), spans)
    scores = np.array([[0.9, 0.1], [0.2, 0.6]])
    items = work.by_second(scores, piece, NAMES, spec_of(2, 4))  # a frame is two seconds
    assert items.truth.tolist() == [[True, False], [True, False], [False, True]]
    assert items.scores.tolist() == [[0.9, 0.1], [0.9, 0.1], [0.2, 0.6]]
    one = work.whole(items)
    assert one.truth.tolist() == [[True, True]]
    np.testing.assert_allclose(one.scores, [[2 / 3, 0.8 / 3]])


def test_scores_are_scikit_learns_means_over_the_tags_that_are_borne():
    rng = np.random.default_rng(0)
    pieces = []
    for _ in range(3):
        truth, scores = rng.random((20, 3)) > 0.6, rng.random((20, 3))
        truth[:, 2] = False
        pieces.append(Items(truth, scores, scores >= 0.5))
    pieces[0].truth[:, 0] = False
    found = work.scored(pieces)
    truth, scores = (np.concatenate([getattr(items, name)[:, :2] for items in pieces]) for name in ("truth", "scores"))
    assert found["second/pr_auc"] == pytest.approx(sklearn_metrics.average_precision_score(truth, scores))
    assert found["second/roc_auc"] == pytest.approx(sklearn_metrics.roc_auc_score(truth, scores))
    assert found["second/pr_floor"] == pytest.approx(truth.mean(axis=0).mean())
    means = np.array([items.scores.mean(axis=0) for items in pieces])
    ranks = (sklearn_metrics.roc_auc_score([0, 1, 1], means[:, 0]),)  # of the second tag there are only positives
    assert found["piece/roc_auc"] == pytest.approx(np.mean(ranks))


def test_a_row_is_kept_for_the_same_settings(tmp_path):
    path = tmp_path / "fcn.json"
    assert benchmark.read(path) is None
    path.write_text(json.dumps(dataclasses.asdict(ROW)))
    assert benchmark.read(path, {"minutes": 1.0}) == ROW
    assert benchmark.read(path, {"minutes": 2.0}) is None
    path.write_text("{}")
    with pytest.raises(ConfigError, match=r"fcn\.json: damaged .*remove it"):
        benchmark.read(path)


def test_a_process_that_is_killed_or_fails_is_told(tmp_path, monkeypatch):
    job, log = tmp_path / "fcn/job.json", tmp_path / "log.txt"
    script = tmp_path / "script.sh"
    monkeypatch.setattr(benchmark.sys, "executable", str(script))

    def after(text, limit=30.0):
        script.write_text(f"#!/bin/sh\n{text}\n")
        script.chmod(0o755)
        return benchmark._run(job, log, limit)

    assert after("exit 0") == ""
    assert after("kill -9 $$") == "took more memory than there is"
    assert after("exec sleep 30", limit=0.2) == "was not done after 0 s"
    with pytest.raises(ModelError, match=r"fcn: failed .the reason.; .*log.txt has all of it"):
        after("echo the reason >&2; exit 1")


def test_the_table_has_the_best_first_and_tells_what_is_not_in_it():
    scores = {"second/pr_auc": 0.5, "second/roc_auc": 0.75, "second/pr_floor": 0.2, "piece/pr_auc": 0.625}
    rows = [
        dataclasses.replace(ROW, scores=scores),
        dataclasses.replace(ROW, family="vggish", scores={**scores, "second/pr_auc": 0.6}),
        Row("hts_at", {}, left_out="took more memory than there is"),
    ]
    text = benchmark.markdown(rows, ["a note"])
    lines = text.splitlines()
    assert [line.split()[1] for line in lines[2:4]] == ["vggish", "fcn"]
    assert lines[3] == "| fcn | 447,732 | 0.500 | 0.750 | 0.625 | – | 11 × 4 × 29.00 s | 1.00 | 0.0100 |"
    assert "- PR-AUC by chance, by second: 0.200" in lines
    assert lines[-1] == "- left out: hts_at: took more memory than there is"
