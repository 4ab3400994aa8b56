"""Training on real records: learns, resumes with the same curve, and each known trap has its cure."""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from musicnet_tf import callbacks, config, inference, input_pipeline, record_info, runs, trainer
from musicnet_tf.errors import ConfigError, ModelError
from musicnet_tf.models.mlp import Mlp

ROOT = Path(__file__).parents[1]
TINY = ROOT / "configs/tiny.yaml"


@pytest.fixture
def tiny(tiny_records: Path):
    def load(*overrides: str) -> config.Experiment:
        return config.load(TINY, [f"data.folder={tiny_records.parent}", *overrides])

    return load


@pytest.fixture
def quick(tiny):
    """As `tiny`, of a model that is traced and trained in seconds, for what does not depend on the model."""
    model = Mlp(sample_rate=16000, window=512, hidden=16, hop_length=320, window_frames=49)
    return lambda *overrides: tiny(*overrides).model_copy(update={"model": model})


def curve(rows: list[dict[str, float]]) -> np.ndarray:
    return np.array([[row[key] for key in sorted(row)] for row in rows])


def test_overfits_eight_windows(tiny):
    experiment = tiny("train.batch_size=8", "train.learning_rate=0.005", "model.channels=16")
    audio, targets = next(iter(input_pipeline.training(experiment)))
    keras.utils.set_random_seed(1)
    network = experiment.model.build()
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.8  # so that the running statistics keep up with so short a training
    model = trainer.compiled(network, experiment)
    windows = tf.data.Dataset.from_tensors((audio, targets))
    before = model.evaluate(windows, verbose=0, return_dict=True)
    model.fit(windows.repeat(150), verbose=0)
    after = model.evaluate(windows, verbose=0, return_dict=True)
    assert targets["frame"].numpy().sum() > 100
    assert before["frame_f1"] < 0.3
    assert after["frame_f1"] > 0.95
    assert after["onset_f1"] > 0.9
    assert after["loss"] < 0.2 * before["loss"]


def test_killed_run_resumes_with_the_same_curve(quick, tmp_path):
    experiment = quick("train.steps=400", "train.steps_per_epoch=100")
    whole = trainer.train(experiment, tmp_path / "whole")

    killed = tmp_path / "killed"
    (tmp_path / "quick.yaml").write_text(experiment.to_yaml())
    command = [
        sys.executable,
        "-m",
        "musicnet_tf",
        "train",
        f"--config={tmp_path / 'quick.yaml'}",
        f"--run_dir={killed}",
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 240
        while callbacks.Progress.of(killed).epoch < 1:
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    done = callbacks.Progress.of(killed).epoch
    assert 1 <= done < 4
    # What a kill may leave behind must not be taken for a checkpoint, nor a row without its checkpoint count.
    (killed / callbacks.CHECKPOINTS / "part-epoch-00004.weights.h5").write_bytes(b"half")
    rows = json.loads((killed / callbacks.HISTORY).read_text())[:done]
    (killed / callbacks.HISTORY).write_text(json.dumps([*rows, rows[-1]]))

    resumed = trainer.train(experiment, killed)
    assert len(resumed) == len(whole) == 4
    np.testing.assert_allclose(curve(resumed), curve(whole), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(curve(resumed[:done]), curve(whole[:done]), rtol=1e-3, atol=1e-4)
    assert trainer.train(experiment, killed) == resumed  # finished: nothing is trained again


def test_validation_is_held_whole_before_a_part_is_read(tiny, tiny_records, tmp_path):
    experiment = tiny(f"data.folder={tmp_path}", "train.validation_steps=3")
    moved = shutil.copytree(tiny_records, tmp_path / tiny_records.name)
    held = trainer._validation(experiment)
    whole = [audio.numpy() for audio, _ in input_pipeline.validation(experiment)]
    shutil.rmtree(moved)
    next(iter(held))
    again = [audio.numpy() for audio, _ in held]
    assert len(again) == 3
    np.testing.assert_array_equal(again, whole)


def test_run_folder_holds_what_others_need(tiny, tmp_path):
    experiment = tiny("train.steps=4", "train.steps_per_epoch=2")
    rows = trainer.train(experiment, tmp_path)
    assert config.load(tmp_path / config.FILENAME) == experiment
    manifest, loaded, network = runs.load(tmp_path)
    assert loaded.model == experiment.model and loaded.train == experiment.train
    assert loaded.data.folder == config.Data.model_fields["folder"].default  # no path of this machine travels
    assert str(experiment.data.folder) not in (tmp_path / "manifest.json").read_text()
    assert manifest.num_parameters == sum(int(np.prod(v.shape)) for v in network.trainable_variables)
    assert manifest.training_data == [{"corpus": "musicnet", "licence": manifest.training_data[0]["licence"]}]
    best = min(rows, key=lambda row: row["val_loss"])
    assert manifest.scores["validation_windows"]["frame_f1"] == pytest.approx(best["val_frame_f1"], abs=1e-6)
    # The weights are those that were measured: the validation loss comes out again.
    model = trainer.compiled(network, experiment)
    again = model.evaluate(input_pipeline.validation(experiment), verbose=0, return_dict=True)
    assert again["loss"] == pytest.approx(best["val_loss"], rel=1e-4)
    # And they hold no optimiser: the file is barely larger than the parameters.
    import h5py

    with h5py.File(tmp_path / runs.WEIGHTS) as file:
        assert not any("optimizer" in name for name in file)
    predictor = inference.load(tmp_path)
    outputs = predictor(np.zeros((1, predictor.manifest.geometry.window_length), np.float32))
    assert all(values.shape == (1, 50, 88) and (values >= 0).all() for values in outputs.values())


def test_tensorboard_holds_scalars_and_a_picture(tiny, tmp_path):
    trainer.train(tiny("train.steps=2", "train.steps_per_epoch=2"), tmp_path)
    tags: dict[str, bytes] = {}
    for path in (tmp_path / "tensorboard").rglob("events*"):
        for event in tf.compat.v1.train.summary_iterator(str(path)):
            for value in event.summary.value:
                tags[value.tag] = value.tensor.string_val[2] if value.tensor.string_val else b""
    assert {"epoch_loss", "epoch_frame_f1", "epoch_onset_f1", "notes"} <= set(tags)
    picture = tf.io.decode_png(tags["notes"]).numpy()
    assert picture.shape[0] > 300 and picture.std() > 10


@pytest.mark.parametrize(
    ("losses", "patience", "stale"),
    [
        ([], 3, False),
        ([1.0, 0.5, 0.6, 0.7], 3, False),
        ([1.0, 0.5, 0.6, 0.7, 0.5], 3, True),
        ([1.0, 0.5, 0.6, 0.7, 0.4], 3, False),
        ([1.0, np.nan, np.nan], 2, True),
        ([np.nan, 0.5, 0.4], 2, False),
        ([1.0, 2.0, 3.0], 0, False),
    ],
)
def test_a_run_is_stale_after_epochs_without_a_better_loss(losses, patience, stale):
    assert callbacks.is_stale([{"val_loss": loss} for loss in losses], patience) == stale


def test_early_stopping_ends_a_training_for_good(quick, tmp_path):
    experiment = quick("train.steps=40", "train.steps_per_epoch=1", "train.patience=1", "train.learning_rate=0.1")
    rows = trainer.train(experiment, tmp_path)
    assert 2 <= len(rows) < 40
    assert rows[-1]["val_loss"] >= min(row["val_loss"] for row in rows[:-1])
    assert trainer.train(experiment, tmp_path) == rows  # stopped early is finished, also after a restart


def test_a_diverged_loss_is_told_and_keeps_the_best_weights(quick, tmp_path):
    experiment = quick("train.steps=4", "train.steps_per_epoch=2")
    before = trainer.train(experiment, tmp_path)
    kept = (tmp_path / runs.WEIGHTS).read_bytes()
    network = experiment.model.build()
    model = trainer.compiled(network, experiment)
    journal = callbacks.Journal(tmp_path, callbacks.Progress.of(tmp_path))
    keep = callbacks.KeepWeights(tmp_path, network, experiment, before)
    for callback in (keep, journal):
        callback.set_model(model)
        callback.on_epoch_end(2, {"loss": float("nan"), "val_loss": float("nan")})
    assert journal.diverged and model.stop_training
    assert journal.rows == before
    assert (tmp_path / runs.WEIGHTS).read_bytes() == kept
    keep.on_epoch_end(3, {"loss": 0.0, "val_loss": 0.0})  # a number may be the best again
    assert (tmp_path / runs.WEIGHTS).read_bytes() != kept


def test_a_loss_that_explodes_is_one_line(quick, tmp_path):
    with pytest.raises(ModelError, match=r"the loss became NaN in epoch \d+; lower train.learning_rate"):
        trainer.train(quick("train.steps=6", "train.steps_per_epoch=3", "train.learning_rate=1.0e+30"), tmp_path)


def test_a_damaged_record_is_told_by_the_verb(musicnet, tiny_records, tmp_path):
    folder = shutil.copytree(tiny_records, tmp_path / "tiny")
    shard = next(s for s in record_info.read_info(folder).shards if s.split == "train")
    data = bytearray((folder / shard.file).read_bytes())
    data[len(data) // 2] ^= 0xFF
    (folder / shard.file).write_bytes(data)
    flags = [f"--config={TINY}", f"--run_dir={tmp_path / 'run'}", f"--set=data.folder={tmp_path}"]
    outcome = musicnet("train", *flags, "--set=train.steps=8", "--set=train.steps_per_epoch=8")
    assert outcome.status == 1
    assert "tiny is damaged or foreign" in outcome.stderr and "build the records again" in outcome.stderr
    assert "Traceback" not in outcome.stderr


def test_an_unknown_key_is_told_by_the_verb(musicnet, tmp_path):
    outcome = musicnet("train", f"--config={TINY}", "--set=train.step=3", f"--run_dir={tmp_path / 'run'}")
    assert outcome.status == 1
    assert outcome.stderr.strip().endswith("unknown key 'train.step', did you mean 'steps'?")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("policy", ["mixed_bfloat16", pytest.param("mixed_float16", marks=pytest.mark.slow)])
def test_mixed_precision_trains_and_keeps_float32_weights(policy, tiny, tmp_path):
    rows = trainer.train(tiny("train.steps=4", "train.steps_per_epoch=4", f"train.mixed_precision={policy}"), tmp_path)
    assert np.isfinite(rows[-1]["val_loss"])
    assert keras.mixed_precision.dtype_policy().name == "float32"
    _, _, network = runs.load(tmp_path)
    assert {v.dtype for v in network.trainable_variables} == {"float32"}


def test_another_config_does_not_overwrite_a_run(tiny, tmp_path):
    trainer._claim(tmp_path, tiny())
    trainer._claim(tmp_path, tiny("data.folder=/elsewhere"))  # the same training, its records moved
    with pytest.raises(ConfigError, match="holds a run of another config"):
        trainer.train(tiny("seed=7"), tmp_path)


def test_missing_or_foreign_weights_are_told(tiny, tmp_path):
    experiment = tiny()
    network = experiment.model.build()
    runs.describe(experiment, network, {}).write(tmp_path)
    with pytest.raises(ModelError, match=r"model\.weights\.h5: missing"):
        runs.load(tmp_path)
    (tmp_path / runs.WEIGHTS).write_bytes(b"not weights")
    with pytest.raises(ModelError, match=r"model\.weights\.h5: missing, damaged"):
        runs.load(tmp_path)


@pytest.mark.parametrize("model", ["linear", pytest.param("convolutional", marks=pytest.mark.slow)])
def test_two_replicas_equal_one_and_no_trap_is_open(model, tiny_records):
    """In a process of its own, since logical devices must be set up before TensorFlow starts."""
    command = [sys.executable, str(Path(__file__).parent / "replicas.py"), str(TINY), str(tiny_records.parent), model]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr[-3000:]
    seen = json.loads(done.stdout.splitlines()[-1])
    one, two = seen["one"], seen["two"]
    assert (one["replicas"], two["replicas"]) == (1, 2)
    if model == "linear":  # the same sums in another order; ReLUs, which are on or off, magnify the difference
        np.testing.assert_allclose(two["weights"], one["weights"], atol=1e-6)
    np.testing.assert_allclose(two["loss"], one["loss"], rtol=1e-5 if model == "linear" else 1e-3)
    # A dataset of unknown cardinality would add a step an epoch and scale metrics down by N / (N + 1).
    assert one["iterations"] == two["iterations"] == 6
    np.testing.assert_allclose(two["val_frame_f1"], two["val_frame_f1_by_hand"], rtol=1e-5)
    # Unsynchronised batch statistics would differ between replicas, and the export with them.
    assert two["largest_spread_between_replicas"] == 0.0
    assert two["steps_per_execution"] == 1 and two["jit_compile"] is False


def test_the_last_weights_need_no_validation(quick, tmp_path, tiny_records):
    experiment = quick("train.steps=6", "train.steps_per_epoch=3", "train.keep=last")
    rows = trainer.train(experiment, tmp_path)
    assert len(rows) == 2 and not any(name.startswith("val_") for row in rows for name in row)
    assert trainer.kept(rows, experiment) == rows[-1]
    _, _, network = runs.load(tmp_path)
    model = trainer.compiled(experiment.model.build(), experiment)
    model.optimizer.build(model.trainable_variables)
    model.load_weights(callbacks.Progress.of(tmp_path).checkpoint)
    for kept, last in zip(network.trainable_variables, model.trainable_variables, strict=True):
        np.testing.assert_array_equal(kept, last)


def test_validation_that_is_named_is_watched_though_the_last_weights_are_kept(quick, tmp_path, tiny_records):
    watched = f"data.validation=[{{records: {tiny_records.name}}}]"
    rows = trainer.train(quick("train.steps=2", "train.steps_per_epoch=2", "train.keep=last", watched), tmp_path)
    assert np.isfinite(rows[-1]["val_loss"])


def test_training_begins_from_the_weights_of_another_and_names_its_data(quick, tmp_path):
    first = quick("train.steps=10")
    trainer.train(first, tmp_path / "first")
    still = quick(
        "name=second", f"initial_weights={tmp_path / 'first'}", "train.learning_rate=1.0e-30", "train.steps=5"
    )
    (tmp_path / "first/manifest.json").write_text(
        (tmp_path / "first/manifest.json").read_text().replace('"licence": "', '"licence": "before, ', 1)
    )
    trainer.train(still, tmp_path / "second")
    before, after = (runs.load(tmp_path / name) for name in ("first", "second"))
    for ours, theirs in zip(after[2].get_weights(), before[2].get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert after[0].experiment["initial_weights"] == "first"
    assert [data["licence"] for data in after[0].training_data] == [
        before[0].training_data[0]["licence"],
        before[0].training_data[0]["licence"].removeprefix("before, "),
    ]
    shutil.move(tmp_path / "first", tmp_path / "elsewhere/first")
    assert still.trains_as(
        still.model_copy(update={"initial_weights": str(tmp_path / "elsewhere/first")})
    ) and not still.trains_as(still.model_copy(update={"initial_weights": "another"}))


def test_initial_weights_of_another_model_are_refused(quick, tmp_path):
    trainer.train(quick("train.steps=5"), tmp_path / "first")
    wider = quick(f"initial_weights={tmp_path / 'first'}")
    wider = wider.model_copy(update={"model": wider.model.model_copy(update={"hidden": 17})})
    with pytest.raises(ConfigError, match=r"first has another model section \(hidden\)"):
        trainer.train(wider, tmp_path / "second")
    with pytest.raises(ModelError, match="no folder and no shipped model"):
        trainer.train(quick("initial_weights=nowhere"), tmp_path / "third")
