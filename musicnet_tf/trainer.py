"""Training: strategy, fit, checkpoints from which a killed training goes on with the same curve."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import logging
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

import musicnet_tf
from musicnet_tf import config, files, input_pipeline, plots, validation
from musicnet_tf.config import Experiment
from musicnet_tf.decode.notes import NoteDecoding, decode
from musicnet_tf.errors import ConfigError, ModelError
from musicnet_tf.manifest import Manifest

WEIGHTS = "model.weights.h5"
"""The best weights so far by validation loss, without the optimiser's state."""
CHECKPOINTS = "checkpoints"
"""Folder of the whole training state after the last finished epoch."""
HISTORY = "history.json"


@dataclasses.dataclass(frozen=True)
class Progress:
    """How far a run had come: finished epochs, and one row of logs for each."""

    epoch: int = 0
    history: tuple[dict[str, float], ...] = ()
    checkpoint: Path | None = None

    @classmethod
    def of(cls, run: Path) -> Progress:
        """Reads a run folder. A checkpoint counts only once it was renamed to its final name."""
        found = sorted((run / CHECKPOINTS).glob("epoch-*.weights.h5"))
        if not found:
            return cls()
        epoch = int(found[-1].name.split(".")[0].split("-")[1])
        rows = json.loads((run / HISTORY).read_text())[:epoch]
        return cls(epoch, tuple(rows), found[-1])

    @property
    def best(self) -> float:
        """The least validation loss so far."""
        return min((row["val_loss"] for row in self.history), default=float("inf"))


def train(experiment: Experiment, run: str | Path, devices: Sequence[str] | None = None) -> list[dict[str, float]]:
    """Trains an experiment in a run folder, or goes on with what is there.

    Leaves `config.yaml`, `model.weights.h5` (the best by validation loss) with `manifest.json`,
    `history.json`, `checkpoints/` and `tensorboard/`. Epochs are functions of (seed, epoch), so that a run
    that was killed and resumed has the curve of one that was not.

    Args:
        experiment: what to train.
        run: the folder.
        devices: for MirroredStrategy; all there are by default.

    Returns:
        One row of logs for every epoch since the beginning.

    Raises:
        ConfigError: where the folder holds a run of another config.
    """
    run = files.make_folder(run)
    _claim(run, experiment)
    progress = Progress.of(run)
    keras.utils.set_random_seed(experiment.seed)
    keras.mixed_precision.set_global_policy(experiment.train.mixed_precision)
    try:
        return _fit(experiment, run, progress, tf.distribute.MirroredStrategy(devices))
    finally:
        keras.mixed_precision.set_global_policy("float32")


def _fit(experiment: Experiment, run: Path, progress: Progress, strategy: Any) -> list[dict[str, float]]:
    settings = experiment.train
    logging.info(
        "%s: %d replica(s), %d of %d epochs done", run, strategy.num_replicas_in_sync, progress.epoch, settings.epochs
    )
    with strategy.scope():
        network = experiment.model.build()
        model = compiled(network, experiment)
        if progress.checkpoint:
            model.optimizer.build(model.trainable_variables)
            model.load_weights(progress.checkpoint)
    validation = input_pipeline.validation(experiment)
    journal = _Journal(run, progress)
    callbacks = [
        _KeepBest(run, network, experiment, progress.best),
        journal,
        keras.callbacks.TensorBoard(str(run / "tensorboard"), write_graph=False, update_freq=20),
        _Picture(run / "tensorboard" / "pictures", network, experiment, validation),
    ]
    if settings.patience:
        callbacks.append(_ResumedEarlyStopping(progress.history, patience=settings.patience))
    if progress.epoch < settings.epochs:
        model.fit(
            input_pipeline.training(experiment, progress.epoch),
            validation_data=validation,
            initial_epoch=progress.epoch,
            epochs=settings.epochs,
            steps_per_epoch=settings.steps_per_epoch,
            callbacks=callbacks,
            verbose=1 if sys.stderr.isatty() else 2,
        )
    return journal.rows


def compiled(network: keras.Model, experiment: Experiment) -> keras.Model:
    """The network with the task's losses and metrics and the config's optimiser, sharing its weights."""
    spec, task = experiment.model.spec(), experiment.task
    heads = task.heads(spec)
    model = keras.Model(network.inputs, {head: network.output[head] for head in heads}, name="training")
    model.compile(
        optimizer=optimizer(experiment),
        loss=task.losses(spec),
        loss_weights=task.loss_weights(spec),
        metrics=task.metrics(spec),
        jit_compile=False,
    )
    return model


def optimizer(experiment: Experiment) -> keras.optimizers.Optimizer:
    """The optimiser and its schedule of learning rates."""
    settings = experiment.train
    rate: Any = settings.learning_rate
    if settings.schedule == "cosine" or settings.warmup_steps:
        decay = max(1, settings.epochs * settings.steps_per_epoch - settings.warmup_steps)
        rate = keras.optimizers.schedules.CosineDecay(
            initial_learning_rate=0.0 if settings.warmup_steps else settings.learning_rate,
            decay_steps=decay,
            alpha=0.01 if settings.schedule == "cosine" else 1.0,
            warmup_target=settings.learning_rate if settings.warmup_steps else None,
            warmup_steps=settings.warmup_steps,
        )
    clip = settings.clip_norm or None
    if settings.optimizer == "sgd":
        return keras.optimizers.SGD(rate, momentum=0.9, global_clipnorm=clip)
    if settings.weight_decay:
        return keras.optimizers.AdamW(rate, weight_decay=settings.weight_decay, global_clipnorm=clip)
    return keras.optimizers.Adam(rate, global_clipnorm=clip)


def describe(experiment: Experiment, network: keras.Model, scores: dict[str, dict[str, float]]) -> Manifest:
    """The manifest of a network that an experiment trained."""
    corpora = {}
    for source in experiment.data.train:
        info = input_pipeline.records.read_info(experiment.data.path(source))
        corpora[info.corpus] = {"corpus": info.corpus, "licence": info.licence}
    return Manifest(
        name=experiment.name,
        task=experiment.task.name,
        spec=experiment.model.spec().to_dict(),
        decoder=experiment.task.decoder_params(),
        experiment=experiment.model_dump(mode="json"),
        num_parameters=sum(math.prod(v.shape) for v in network.trainable_variables),
        training_data=list(corpora.values()),
        scores=scores,
        versions={
            "musicnet_tf": musicnet_tf.__version__,
            **{package: importlib.metadata.version(package) for package in ("tensorflow", "keras")},
        },
    )


def load_run(run: str | Path) -> tuple[Manifest, Experiment, keras.Model]:
    """The manifest, the experiment and the network, with its best weights, of a run or shipped model.

    Raises:
        ModelError: where weights are missing or do not fit.
    """
    run = Path(run)
    manifest = Manifest.read(run)
    experiment = validation.construct(Experiment, manifest.experiment, where=str(run / "manifest.json"))
    network = experiment.model.build()
    try:
        network.load_weights(run / WEIGHTS)
    except (OSError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())
        raise ModelError(f"{run / WEIGHTS}: missing, damaged or of another model ({reason})") from error
    return manifest, experiment, network


def _claim(run: Path, experiment: Experiment) -> None:
    """Writes `config.yaml`, or checks that the one there says the same."""
    path = run / config.FILENAME
    if path.exists() and path.read_text(encoding="utf-8") != experiment.to_yaml():
        raise ConfigError(
            f"{path}: this folder holds a run of another config; resume it with that config,"
            " or choose another --run_dir"
        )
    experiment.write(run)


def _save_weights(model: keras.Model, target: Path) -> None:
    """Writes a whole weights file, or none; Keras insists on the name's ending."""
    part = target.with_name(f"part-{target.name}")
    model.save_weights(part)
    part.replace(target)


class _Journal(keras.callbacks.Callback):
    """After each epoch: one row of logs, then the state of training, each replaced whole."""

    def __init__(self, run: Path, progress: Progress) -> None:
        super().__init__()
        self.rows = list(progress.history)
        self._run = run
        files.make_folder(run / CHECKPOINTS)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        rate = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
        self.rows.append({"learning_rate": rate, **{k: float(v) for k, v in (logs or {}).items()}})
        files.write_json(self._run / HISTORY, self.rows)
        target = self._run / CHECKPOINTS / f"epoch-{epoch + 1:05d}.weights.h5"
        _save_weights(self.model, target)
        for old in (self._run / CHECKPOINTS).glob("epoch-*.weights.h5"):
            if old != target:
                old.unlink()


class _KeepBest(keras.callbacks.Callback):
    """Keeps the weights with the least validation loss, and the manifest that belongs to them."""

    def __init__(self, run: Path, network: keras.Model, experiment: Experiment, best: float) -> None:
        super().__init__()
        self._run = run
        self._network = network
        self._experiment = experiment
        self._best = best

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if not logs or logs["val_loss"] >= self._best:
            return
        self._best = logs["val_loss"]
        _save_weights(self._network, self._run / WEIGHTS)
        measured = {k.removeprefix("val_"): round(float(v), 6) for k, v in logs.items() if k.startswith("val_")}
        describe(self._experiment, self._network, {"validation_windows": measured}).write(self._run)


class _ResumedEarlyStopping(keras.callbacks.EarlyStopping):
    """Early stopping that remembers the epochs before the interruption."""

    def __init__(self, history: Sequence[dict[str, float]], patience: int) -> None:
        super().__init__(monitor="val_loss", mode="min", patience=patience)
        self._history = history

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        super().on_train_begin(logs)
        for epoch, row in enumerate(self._history):
            self.on_epoch_end(epoch, row)


class _Picture(keras.callbacks.Callback):
    """A posteriorgram against the truth, in TensorBoard, after each epoch."""

    def __init__(self, folder: Path, network: keras.Model, experiment: Experiment, validation: Any) -> None:
        super().__init__()
        self._network = network
        self._experiment = experiment
        self._writer = tf.summary.create_file_writer(str(folder))
        audio, targets = next(iter(validation.take(1)))
        self._audio, self._truth = audio[:1], {"frame": targets["frame"][0].numpy()}

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        logits = self._network(self._audio, training=False)
        estimate = keras.ops.convert_to_numpy(self._experiment.task.activations(logits)["frame"])[0]
        spec = self._experiment.model.spec()
        lowest = spec.heads["frame"].first_pitch
        truth = decode(self._truth, spec.clock, NoteDecoding(min_duration=0.0, max_gap=0.0), lowest)
        figure = plots.posteriorgram(estimate, spec.clock, truth, lowest, title=f"epoch {epoch + 1}")
        with self._writer.as_default():
            tf.summary.image("posteriorgram", tf.io.decode_png(plots.to_png_bytes(figure))[None], step=epoch)
        self._writer.flush()
