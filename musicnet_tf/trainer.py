"""Training: strategy, fit, and checkpoints from which a killed training goes on with the same curve."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
from absl import logging

from musicnet_tf import callbacks, config, files, input_pipeline, runs
from musicnet_tf.callbacks import Progress, Row
from musicnet_tf.config import Experiment
from musicnet_tf.errors import ConfigError, ModelError, RecordError


def train(experiment: Experiment, run: str | Path, devices: Sequence[str] | None = None) -> list[Row]:
    """Trains an experiment in a run folder, or goes on with what is there.

    Leaves `config.yaml`, `model.weights.h5` (those that `train.keep` asks for) with `manifest.json`,
    `history.json`, `checkpoints/` and `tensorboard/`. Epochs are functions of (seed, epoch), so that a run
    that was killed and resumed has the curve of one that was not.

    Args:
        experiment: what to train.
        run: the folder.
        devices: for MirroredStrategy; all there are by default.

    Returns:
        One row of logs for every epoch since the beginning.

    Raises:
        ConfigError: where the folder holds a run of another config, or `initial_weights` are of another model.
        RecordError: where records turn out to be damaged.
        ModelError: where the loss is no number any more, and the weights before stay; or where the model that
            training begins from is missing.
    """
    run = files.make_folder(run)
    _claim(run, experiment)
    progress = Progress.of(run)
    keras.utils.set_random_seed(experiment.seed)
    with precision(experiment.train.mixed_precision):
        return _fit(experiment, run, progress, tf.distribute.MirroredStrategy(devices))


def _fit(experiment: Experiment, run: Path, progress: Progress, strategy: Any) -> list[Row]:
    settings = experiment.train
    logging.info(
        "%s: %d replica(s), %d of %d epochs done", run, strategy.num_replicas_in_sync, progress.epoch, settings.epochs
    )
    if progress.epoch >= settings.epochs or callbacks.is_stale(progress.history, settings.patience):
        return list(progress.history)
    with strategy.scope():
        network = experiment.model.build()
        learner = _learner(network, experiment)
        if experiment.initial_weights and not (progress.checkpoint and learner is network):
            runs.begin_from(network, experiment)
        model = compiled(learner, experiment)
        if progress.checkpoint:
            model.optimizer.build(model.trainable_variables)
            model.load_weights(progress.checkpoint)
    validation = _validation(experiment)
    journal = callbacks.Journal(run, progress)
    observers = [
        keras.callbacks.TerminateOnNaN(),
        callbacks.KeepWeights(run, network, experiment, progress.history),
        journal,
        callbacks.EarlyStopping(journal, settings.patience),
        # By epoch: any other frequency drops the scalars of epochs that end between its steps.
        keras.callbacks.TensorBoard(str(run / "tensorboard"), write_graph=False, update_freq="epoch"),
    ]
    if validation is not None:
        first = next(iter(validation))
        observers.append(callbacks.Picture(run / "tensorboard/pictures", learner, experiment, first))
    with _naming_records(experiment):
        model.fit(
            input_pipeline.training(experiment, progress.epoch),
            validation_data=validation,
            initial_epoch=progress.epoch,
            epochs=settings.epochs,
            steps_per_epoch=settings.steps_per_epoch,
            callbacks=observers,
            verbose=1 if sys.stderr.isatty() else 2,
        )
    if journal.diverged:
        raise ModelError(
            f"{run}: the loss became NaN in epoch {len(journal.rows) + 1}; lower train.learning_rate or set"
            " train.clip_norm, and start in another --run_dir; the weights before that stay"
        )
    return journal.rows


def _learner(network: keras.Model, experiment: Experiment) -> keras.Model:
    """What is trained: all of the network, or, where it hears notes, what follows its transcriber."""
    return network.get_layer("trunk") if experiment.data.hear == "notes" else network


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


def kept(history: Sequence[Row], experiment: Experiment) -> Row:
    """The epoch whose weights were kept."""
    return history[-1] if experiment.train.keep == "last" else min(history, key=callbacks.validation_loss)


def _validation(experiment: Experiment) -> tf.data.Dataset | None:
    """Validation batches, held in memory; None where the last weights are kept and no records named to watch."""
    if experiment.train.keep == "last" and not experiment.data.validation:
        return None
    batches = input_pipeline.validation(experiment).cache()
    for _ in batches:  # all, at once: an iterator that is left in the middle may close the cache where it stands
        pass
    return batches


def _claim(run: Path, experiment: Experiment) -> None:
    """Writes `config.yaml`, or checks that the one there asks for the same, wherever its records lie."""
    path = run / config.FILENAME
    if path.exists() and not config.load(path).trains_as(experiment):
        raise ConfigError(
            f"{path}: this folder holds a run of another config; resume it with that config,"
            " or choose another --run_dir"
        )
    experiment.write(run)


@contextmanager
def precision(policy: str) -> Iterator[None]:
    """Keras's policy of dtypes, put back afterwards."""
    before = keras.mixed_precision.dtype_policy()
    keras.mixed_precision.set_global_policy(policy)
    try:
        yield
    finally:
        keras.mixed_precision.set_global_policy(before)


@contextmanager
def _naming_records(experiment: Experiment) -> Iterator[None]:
    """Turns TensorFlow's errors of reading records, which name no file, into one that tells where to look."""
    try:
        yield
    except (tf.errors.DataLossError, tf.errors.InvalidArgumentError) as error:
        reason = " ".join(error.message.split())
        if isinstance(error, tf.errors.DataLossError) or "schema" in reason or "Feature:" in reason:
            folders = ", ".join(
                str(experiment.data.path(s)) for s in experiment.data.train + experiment.data.validation
            )
            raise RecordError(
                f"a record in one of {folders} is damaged or foreign ({reason[:200]}); `musicnet stats` on each"
                " names the file; remove it and build the records again"
            ) from error
        raise
