"""A small study from records to results: what is trained, what is measured, what is skipped and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import synthetic
import yaml
from sklearn import metrics as sklearn_metrics

from musicnet_tf import callbacks, config, evaluation, record_info, runs, trainer
from musicnet_tf.config import Train
from musicnet_tf.datasets import Recording
from musicnet_tf.datasets.musicnet import MusicNet
from musicnet_tf.errors import ConfigError, DatasetError, ModelError
from musicnet_tf.events import Notes
from musicnet_tf.metrics import protocol
from musicnet_tf.models import HeadSpec, ModelSpec
from musicnet_tf.reproduction import points, settings, study, training
from musicnet_tf.reproduction.result import FILENAME, Result
from musicnet_tf.timebase import FrameClock

TESTED = tuple(synthetic.VALIDATION)

EXPERIMENT = {
    "name": "small_mlp",
    "task": {"name": "notes", "frame_loss": "square"},
    "model": {"name": "mlp", "sample_rate": 16000, "window": 512, "hidden": 16, "hop_length": 256, "window_frames": 8},
    "data": {"train": [{"records": "elsewhere"}], "windows_per_excerpt": 4, "shuffle_windows": 16},
    "train": {"steps": 12, "steps_per_epoch": 6, "batch_size": 4, "learning_rate": 0.002, "schedule": "constant"},
}


def write_study(folder: Path, **changes: object) -> settings.Study:
    """A study of two rows, `small` and `broken`, whose config has an unknown key."""
    folder.mkdir(exist_ok=True)
    (folder / "small.yaml").write_text(yaml.safe_dump(EXPERIMENT))
    (folder / "broken.yaml").write_text(yaml.safe_dump({**EXPERIMENT, "trian": {}}))
    rows = [{"name": name, "title": name, "config": f"{name}.yaml"} for name in ("small", "broken")]
    whole = {"name": "tiny", "title": "Tiny", "source": "nowhere", "test": list(TESTED), "rows": rows, **changes}
    (folder / "study.yaml").write_text(yaml.safe_dump(whole))
    return settings.load(folder / "study.yaml")


@pytest.fixture(scope="module")
def done(tmp_path_factory, tiny_corpus, tiny_records) -> tuple[Path, study.Outcome]:
    """The output folder and the outcome of a whole study; not to be changed."""
    folder = tmp_path_factory.mktemp("study")
    return folder / "out", study.run(
        write_study(folder), tiny_corpus, folder / "out", train_records=[tiny_records], scale=0.75
    )


@pytest.fixture
def again(done, tmp_path, tiny_corpus, tiny_records):
    """Runs the same study once more on a copy of what is there, with changes; gives the folder's copy, too."""
    shutil.copytree(done[0], tmp_path / "out")

    def run(scale: float = 0.75, **changes: object) -> study.Outcome:
        return study.run(
            write_study(tmp_path / "study", **changes),
            tiny_corpus,
            tmp_path / "out",
            train_records=[tiny_records],
            rows=["small"],
            scale=scale,
        )

    run.folder = tmp_path / "out/runs/small"
    return run


def estimates_one_by_one(run: Path, audio: np.ndarray, times: np.ndarray) -> np.ndarray:
    """`(points, 128)`: the run's weights, asked for the window round each instant, rounded to hops from the first."""
    _, experiment, trained = runs.load(run)
    single = experiment.model.model_copy(update={"window_frames": 1})
    network = single.build()
    network.set_weights(trained.get_weights())
    first = round(times[0] * 16000)
    centres = first + np.floor((times * 16000 - first) / 256 + 0.5).astype(int) * 256
    centres = np.minimum(centres, first + (len(audio) - 1 - first) // 256 * 256)
    padded = np.pad(audio, 256)
    windows = np.stack([padded[c : c + 512] for c in centres])
    return network.predict(windows, verbose=0)["frame"][:, 0]


def test_a_row_is_scored_as_the_protocol_says(done, tiny_corpus):
    folder, outcome = done
    (result,) = outcome.results
    corpus = MusicNet(root=tiny_corpus, test=TESTED, validation=())
    labels, estimates = [], []
    for recording in evaluation.select(corpus, "test"):
        audio, notes = corpus.load_audio(recording, 16000), corpus.load_notes(recording)
        times = np.arange(44_100, round(len(audio) / 16000 * 44_100), 512) / 44_100
        sounding = [[any(n.pitch == p and n.onset <= t < n.offset for n in notes) for p in range(128)] for t in times]
        labels.append(np.array(sounding))
        estimates.append(estimates_one_by_one(folder / "runs/small", audio, times))
        own = result.pieces[recording.id]
        ap = sklearn_metrics.average_precision_score(labels[-1].ravel(), estimates[-1].ravel())
        assert own["points"] == len(times)
        assert own["average_precision"] == pytest.approx(ap, abs=1e-4)
    truth, raw = np.concatenate(labels), np.concatenate(estimates)
    assert raw.min() < 0  # so that clipping would have changed the ranking
    predicted = raw > result.threshold
    assert result.pooled["points"] == len(truth)
    assert result.pooled["precision"] == pytest.approx((truth & predicted).sum() / predicted.sum(), abs=2e-3)
    assert result.pooled["recall"] == pytest.approx((truth & predicted).sum() / truth.sum(), abs=2e-3)
    pooled = sklearn_metrics.average_precision_score(truth.ravel(), raw.ravel())
    assert result.pooled["average_precision"] == pytest.approx(pooled, abs=1e-4)
    # Neither is an average of the pieces; the split by polyphony is a partition.
    assert sorted(map(int, result.polyphony)) == sorted({*truth.sum(axis=1).tolist()})
    assert sum(scores["points"] for scores in result.polyphony.values()) == len(truth)
    alone = truth.sum(axis=1) == 1
    one = sklearn_metrics.average_precision_score(truth[alone].ravel(), raw[alone].ravel())
    assert result.polyphony["1"]["average_precision"] == pytest.approx(one, abs=1e-4)


def test_what_a_result_tells(done, tiny_records):
    folder, outcome = done
    (result,) = outcome.results
    # Three quarters of 12 steps are 9, in epochs of 6 the second of which is whole; 4 windows of 8 points a step.
    assert result.settings["steps"] == 12 and result.points_trained == 12 * 4 * 8
    assert result.num_parameters == 512 * 16 + 16 * 128
    assert result.settings["test"] == list(TESTED)
    assert result.settings["records"]["tiny"]["recordings"] == len(synthetic.TRAIN)
    assert result.settings["protocol"]["convention"] == "midpoint"
    assert str(tiny_records.parent) not in json.dumps(result.settings)
    assert result.seconds > 0
    assert set(result.curves) <= {"all", "one", "three"} and len(result.curves["all"]["recall"]) <= 500
    assert study.read_results(write_study(folder.parent), folder) == [result]
    trained = config.load(folder / "runs/small" / config.FILENAME)
    assert trained.train.keep == "last" and trained.data.path(trained.data.train[0]) == tiny_records


def test_a_failing_row_is_told_and_the_others_go_on(done):
    _, outcome = done
    assert [result.row for result in outcome.results] == ["small"]
    assert list(outcome.failed) == ["broken"] and "trian" in outcome.failed["broken"]


def test_what_is_done_is_skipped(again, done, monkeypatch):
    monkeypatch.setattr(trainer, "train", lambda *_: pytest.fail("trained again"))
    monkeypatch.setattr(study, "evaluate", lambda *_: pytest.fail("evaluated again"))
    assert again().results == done[1].results


def test_a_run_is_evaluated_again_without_training(again, done):
    weights = (again.folder / runs.WEIGHTS).stat().st_mtime_ns
    (again.folder / FILENAME).unlink()
    (before,), (after,) = done[1].results, again().results
    assert after.pooled == before.pooled and after.threshold == before.threshold
    assert before.seconds <= after.seconds < before.seconds + 2

    (other,) = again(protocol={"convention": "thickstun2018", "interpolation": "linear"}).results
    assert other.settings["protocol"]["convention"] == "thickstun2018"
    assert other.pooled["average_precision"] != before.pooled["average_precision"]
    assert Result.read(again.folder) == other
    assert (again.folder / runs.WEIGHTS).stat().st_mtime_ns == weights


@pytest.mark.slow
def test_training_goes_on_where_it_stopped(done, tmp_path, tiny_corpus, tiny_records, monkeypatch):
    def run() -> study.Outcome:
        whole = write_study(tmp_path / "study")
        out = tmp_path / "out"
        return study.run(whole, tiny_corpus, out, train_records=[tiny_records], rows=["small"], scale=0.75)

    folder = tmp_path / "out/runs/small"
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        # It comes after the journal, so that the first of two epochs is done and kept.
        patched.setattr(callbacks.EarlyStopping, "on_epoch_end", interrupt)
        run()
    (first,) = json.loads((folder / callbacks.HISTORY).read_text())
    spent = training.read(folder)["seconds"]
    assert spent > 0 and not (folder / FILENAME).exists()

    (after,) = run().results
    (before,) = done[1].results
    history = json.loads((folder / callbacks.HISTORY).read_text())
    uninterrupted = json.loads((done[0] / "runs/small" / callbacks.HISTORY).read_text())
    assert history[0] == first  # not trained again
    np.testing.assert_allclose([row["loss"] for row in history], [row["loss"] for row in uninterrupted], rtol=1e-4)
    assert after.pooled["average_precision"] == pytest.approx(before.pooled["average_precision"], abs=1e-3)
    assert after.seconds > spent


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def test_another_training_in_the_same_folder_is_refused(again, done):
    outcome = again(scale=2.0)
    assert "another config or --scale" in outcome.failed["small"] and not outcome.results
    path = again.folder / training.FILENAME
    known = json.loads(path.read_text())
    known["records"]["tiny"]["split_hash"] = "0"
    path.write_text(json.dumps(known))
    (again.folder / FILENAME).unlink()
    assert "trained on other records" in again().failed["small"]
    path.write_text("{")
    assert "damaged" in again().failed["small"]


def changed_info(source: Path, target: Path, name: str, **entry: str) -> Path:
    shutil.copytree(source, target)
    info = json.loads((target / record_info.INFO).read_text())
    info["recordings"][name] |= {key.replace("__", "/"): value for key, value in entry.items()}
    (target / record_info.INFO).write_text(json.dumps(info))
    return target


def test_training_records_that_hold_a_test_work_are_refused(tmp_path, tiny_corpus, tiny_records):
    small = write_study(tmp_path / "study")

    def run(folder: Path, test: str):
        study.run(small, tiny_corpus, tmp_path / "out", train_records=[folder], test=[test])

    with pytest.raises(ConfigError, match=r"training split holds 1001.*which is tested on"):
        run(tiny_records, "1001")
    # Works and rendered scores alike; a recording without metadata is a work of its own.
    other = changed_info(tiny_records, tmp_path / "work", "1002", work=f"{TESTED[0]}: ")
    with pytest.raises(ConfigError, match="training split holds 1002"):
        run(other, TESTED[0])
    rendered = changed_info(tiny_records, tmp_path / "rendered", "1003", metadata__score=f"labels/{TESTED[1]}.csv")
    with pytest.raises(ConfigError, match=f"training split holds 1003, of {TESTED[1]}"):
        run(rendered, TESTED[1])
    assert not (tmp_path / "out").exists()
    # What is merely in the set, but not in the split that is drawn from, is not trained on.
    training.refuse_tested([tiny_records], study.test_recordings(tiny_corpus, TESTED)[1])


def test_test_recordings_that_are_not_there(tiny_corpus, caplog):
    with pytest.raises(DatasetError, match=r"none of the test recordings 1819, 2303 is there.*--test.*2001"):
        study.test_recordings(tiny_corpus, ["1819", "2303"])
    with caplog.at_level("WARNING"):
        corpus, there = study.test_recordings(tiny_corpus, ["1819", "2002"])
    assert [recording.id for recording in there] == ["2002"]
    assert "without the test recordings 1819" in caplog.text
    assert [r.id for r in evaluation.select(corpus, "test")] == ["2002"]


def test_rows_and_results_that_are_not_there(tmp_path, tiny_corpus, tiny_records):
    small = write_study(tmp_path)
    with pytest.raises(ConfigError, match=r"no row 'smal'.*'small'"):
        study.select_rows(small, ["smal"])
    assert study.read_results(small, tmp_path) == []
    with pytest.raises(ConfigError, match="--train_records"):
        study.run(small, tiny_corpus, tmp_path / "out")
    (tmp_path / "runs/small").mkdir(parents=True)
    (tmp_path / "runs/small" / FILENAME).write_text("{}")
    with pytest.raises(ModelError, match="damaged"):
        study.read_results(small, tmp_path)


@pytest.mark.parametrize(
    ("scale", "steps", "steps_per_epoch", "warmup"),
    [(1, 1000, 100, 50), (0.25, 250, 100, 12), (0.05, 50, 50, 2), (1e-9, 1, 1, 0), (3, 3000, 100, 150)],
)
def test_scale(scale, steps, steps_per_epoch, warmup):
    train = training.scaled(Train(steps=1000, steps_per_epoch=100, warmup_steps=50, patience=3), scale)
    assert (train.steps, train.steps_per_epoch, train.warmup_steps) == (steps, steps_per_epoch, warmup)
    assert (train.keep, train.patience) == ("last", 0)
    assert Train.model_validate(train.model_dump()) == train


@pytest.mark.parametrize("scale", [0, -1, float("nan"), float("inf")])
def test_scale_is_positive(scale, tmp_path):
    with pytest.raises(ConfigError, match="--scale"):
        training.scaled(Train(), scale)
    with pytest.raises(ConfigError, match="--scale"):  # once, before anything is done
        study.run(write_study(tmp_path / "study"), tmp_path, tmp_path / "out", scale=scale)
    assert not (tmp_path / "out").exists()


def test_sampled_points_have_their_whole_windows_inside():
    # One window of 2,048 samples labels its middle; 128 of them make a stretch.
    spec = ModelSpec(FrameClock(44_100, 512, 1024), 2048 + 127 * 512, 128, 0, {"frame": HeadSpec(128)})
    # Centres 1,024, 1,536 … 3,072: the last window ends at 4,096.
    assert points._inside(4096, spec).tolist() == [2, 3, 4, 5, 6]
    assert points._inside(4095, spec).tolist() == [2, 3, 4, 5]
    assert points._inside(2048, spec).tolist() == [2]
    assert not len(points._inside(2047, spec))
    # At 22.05 kHz the points are 256 samples apart, and a window of 1,024 lasts as long.
    half = ModelSpec(FrameClock(22_050, 256, 512), 1024, 1, 0, {"frame": HeadSpec(128)})
    assert points._inside(2048, half).tolist() == [2, 3, 4, 5, 6]
    # A margin is beyond what labels a point.
    wide = ModelSpec(FrameClock(44_100, 512, 0), 20 * 512, 20, 3, {"frame": HeadSpec(88, 21)})
    assert points._inside(10 * 512, wide).tolist() == [3, 4, 5, 6]


def test_threshold_is_chosen_on_sampled_training_points(done, tiny_records):
    folder, outcome = done
    (result,) = outcome.results
    excerpts = points.sample_excerpts([tiny_records], seed=0)
    assert len(excerpts) == record_info.read_info(tiny_records).num_excerpts("train")
    network = points.RawNetwork(folder / "runs/small")
    sample = points.of_training(network, excerpts, 0, "nearest")
    assert protocol.choose_threshold(sample.labels, sample.estimates) == result.threshold
    assert len(sample) == result.training["points"]
    some = points.sample_excerpts([tiny_records], seed=4, size=3)
    assert [len(excerpt.audio) for excerpt in some] == [
        len(excerpt.audio) for excerpt in points.sample_excerpts([tiny_records], seed=4, size=3)
    ]
    few = points.of_training(network, some, 4, "nearest", size=10)
    assert len(few) <= 30
    # The estimates are those of the excerpt's own windows.
    inside = points._inside(len(some[0].audio), network.spec)
    chosen = inside[protocol.sample(len(inside), 10, (4, 0))]
    alone = estimates_one_by_one(folder / "runs/small", some[0].audio, chosen * 512 / 44_100)
    np.testing.assert_allclose(few.estimates[: len(chosen)], alone, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("convention", ["midpoint", "thickstun2018"])
def test_each_point_is_estimated_from_the_window_that_it_is_the_middle_of(convention):
    """A network that gives the middle sample of each window, over a recording that counts its samples."""
    spec = ModelSpec(FrameClock(44_100, 512, 1024), 2048 + 3 * 512, 4, 0, {"frame": HeadSpec(128)})

    class Middle:
        def __call__(self, windows):
            return {"frame": np.repeat(windows[:, 1024 + 512 * np.arange(4), None], 128, axis=2)}

    class Ramp:
        def load_audio(self, recording, sample_rate):
            return np.arange(2**17, dtype=np.float32)

        def load_notes(self, recording):
            return Notes([0.0], [9.0], [60])

    network = Middle()
    network.spec = spec
    got = points.of_recording(network, Ramp(), Recording("1", "test", "1", {}), convention, "nearest")
    late = 1024 if convention == "thickstun2018" else 0
    np.testing.assert_array_equal(got.estimates[:, 0], np.arange(44_100 + late, 2**17, 512))
    assert got.labels.sum() == len(got) == len(got.estimates)


def test_points_of_no_parts():
    assert points.Points.concatenate([]).labels.shape == (0, 128)
