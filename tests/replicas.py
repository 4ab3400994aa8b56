"""Trains a linear or a convolutional model on one and on two logical devices, and prints what came of it as JSON."""

import json
import os
import sys

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import keras
import numpy as np
import tensorflow as tf

tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)

from musicnet_tf import config, input_pipeline, trainer  # noqa: E402  # after the devices
from musicnet_tf.models.linear_spectrogram import LinearSpectrogram  # noqa: E402


def run(experiment: config.Experiment, devices: list[str]) -> dict:
    strategy = tf.distribute.MirroredStrategy(devices)
    keras.utils.set_random_seed(experiment.seed)
    with strategy.scope():
        network = experiment.model.build()
        model = trainer.compiled(network, experiment)
    history = model.fit(
        input_pipeline.training(experiment),
        validation_data=input_pipeline.validation(experiment),
        epochs=experiment.train.epochs,
        steps_per_epoch=experiment.train.steps_per_epoch,
        verbose=0,
    ).history
    hits = predicted = labelled = 0
    for audio, targets in input_pipeline.validation(experiment):
        guess, truth = network(audio, training=False)["frame"].numpy() > 0, targets["frame"].numpy() > 0.5
        hits, predicted, labelled = hits + (guess & truth).sum(), predicted + guess.sum(), labelled + truth.sum()
    spread = 0.0
    for variable in network.variables:
        copies = getattr(variable.value, "values", [variable.value])
        spread = max(spread, *(float(np.abs(c.numpy() - copies[0].numpy()).max()) for c in copies))
    return {
        "replicas": strategy.num_replicas_in_sync,
        "weights": np.concatenate([v.numpy().ravel() for v in network.trainable_variables]).tolist(),
        "loss": history["loss"],
        "iterations": int(model.optimizer.iterations.numpy()),
        # Keras names a metric after its head only where there are several.
        "val_frame_f1": history.get("val_frame_f1", history.get("val_f1"))[-1],
        "val_frame_f1_by_hand": float(2 * hits / max(predicted + labelled, 1)),
        "largest_spread_between_replicas": spread,
        "steps_per_execution": model.steps_per_execution,
        "jit_compile": model.jit_compile,
    }


if __name__ == "__main__":
    path, folder, model = sys.argv[1:]
    overrides = ["train.steps=6", "train.steps_per_epoch=3", "train.optimizer=sgd", "train.learning_rate=0.001"]
    small = ["model.channels=4", "model.dilations=[1]"]
    experiment = config.load(path, [f"data.folder={folder}", *small, *overrides])
    if model == "linear":
        experiment = experiment.model_copy(update={"model": LinearSpectrogram(sample_rate=16000, points=1024)})
    print(json.dumps({"one": run(experiment, ["CPU:0"]), "two": run(experiment, ["CPU:0", "CPU:1"])}))
