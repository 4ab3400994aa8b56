"""What happens after each epoch of a training: the journal, the weights to keep, early stopping, a picture."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from musicnet_tf import files, plots, runs
from musicnet_tf.config import Experiment
from musicnet_tf.errors import ModelError
from musicnet_tf.manifest import TRAINING_SCORES

CHECKPOINTS = "checkpoints"
"""Folder of the whole training state after the last finished epoch."""
HISTORY = "history.json"

Row = dict[str, float]
"""Logs of one epoch."""


@dataclasses.dataclass(frozen=True)
class Progress:
    """How far a run had come: finished epochs, and one row of logs for each."""

    epoch: int = 0
    history: tuple[Row, ...] = ()
    checkpoint: Path | None = None

    @classmethod
    def of(cls, run: Path) -> Progress:
        """Reads a run folder. An epoch counts once its checkpoint was renamed to its final name.

        Raises:
            ModelError: where the rows of finished epochs are missing or damaged.
        """
        found = sorted((run / CHECKPOINTS).glob("epoch-*.weights.h5"))
        if not found:
            return cls()
        epoch = int(found[-1].name.split(".")[0].split("-")[1])
        try:
            rows = json.loads((run / HISTORY).read_text())[:epoch]
        except (OSError, ValueError, TypeError) as error:
            raise ModelError(
                f"{run / HISTORY}: missing or damaged, so the run cannot be resumed; choose another --run_dir"
            ) from error
        return cls(epoch, tuple(rows), found[-1])


def validation_loss(row: Row) -> float:
    """Of an epoch; infinite where there is none or it was no number, so that it is never the best."""
    loss = row.get("val_loss", math.inf)
    return loss if math.isfinite(loss) else math.inf


def is_stale(history: Sequence[Row], patience: int) -> bool:
    """Whether the last `patience` epochs brought no better validation loss; never for a patience of 0."""
    losses = [validation_loss(row) for row in history]
    return 0 < patience < len(losses) and min(losses[-patience:]) >= min(losses[:-patience])


class Journal(keras.callbacks.Callback):
    """Writes one row of logs, then the state of training, each replaced whole.

    Attributes:
        rows: of every epoch since the beginning of the run.
        diverged: whether the loss was no number; such an epoch is not kept.
    """

    def __init__(self, run: Path, progress: Progress) -> None:
        super().__init__()
        self.rows = list(progress.history)
        self.diverged = False
        self._run = run
        files.make_folder(run / CHECKPOINTS)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        row = {key: float(value) for key, value in (logs or {}).items()}
        self.diverged = not math.isfinite(row["loss"])
        if self.diverged:
            self.model.stop_training = True
            return
        rate = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
        self.rows.append({"learning_rate": rate, **row})
        files.write_json(self._run / HISTORY, self.rows)
        target = self._run / CHECKPOINTS / f"epoch-{epoch + 1:05d}.weights.h5"
        runs.save_weights(self.model, target)
        for old in (self._run / CHECKPOINTS).glob("epoch-*.weights.h5"):
            if old != target:
                old.unlink()


class KeepWeights(keras.callbacks.Callback):
    """Keeps the weights that `train.keep` asks for, and the manifest that belongs to them."""

    def __init__(self, run: Path, network: keras.Model, experiment: Experiment, history: Sequence[Row]) -> None:
        super().__init__()
        self._run = run
        self._network = network
        self._experiment = experiment
        self._least = min(map(validation_loss, history), default=math.inf)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if not logs or not self._are_wanted(logs):
            return
        runs.save_weights(self._network, self._run / runs.WEIGHTS)
        measured = {k.removeprefix("val_"): round(float(v), 6) for k, v in logs.items() if k.startswith("val_")}
        scores = {TRAINING_SCORES: measured} if measured else {}
        runs.describe(self._experiment, self._network, scores).write(self._run)

    def _are_wanted(self, logs: dict[str, Any]) -> bool:
        if self._experiment.train.keep == "last":
            return math.isfinite(logs["loss"])
        loss = validation_loss(logs)
        if loss >= self._least:
            return False
        self._least = loss
        return True


class EarlyStopping(keras.callbacks.Callback):
    """Ends the training once it is stale. Asks the journal, so that an interruption is not forgotten."""

    def __init__(self, journal: Journal, patience: int) -> None:
        super().__init__()
        self._journal = journal
        self._patience = patience

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if is_stale(self._journal.rows, self._patience):
            self.model.stop_training = True


class Picture(keras.callbacks.Callback):
    """The task's picture of one validation window, in TensorBoard."""

    def __init__(self, folder: Path, network: keras.Model, experiment: Experiment, batch: tuple[Any, Any]) -> None:
        super().__init__()
        self._network = network
        self._experiment = experiment
        self._writer = tf.summary.create_file_writer(str(folder))
        heard, targets = batch
        self._heard = keras.tree.map_structure(lambda values: values[:1], heard)
        self._truth = {head: target[0].numpy() for head, target in targets.items()}

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        activations = self._experiment.task.activations(self._network(self._heard, training=False))
        heard = {head: keras.ops.convert_to_numpy(values)[0] for head, values in activations.items()}
        figure = self._experiment.task.picture(heard, self._truth, self._experiment.model.spec())
        if figure is None:
            return
        image = tf.io.decode_png(plots.to_png_bytes(figure))[None]
        with self._writer.as_default():
            tf.summary.image(self._experiment.task.name, image, step=epoch)
        self._writer.flush()
