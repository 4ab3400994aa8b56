"""What the benchmark of the paper's models times: steps of training and inference, and the machine's matrix product."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from keras import ops
from numpy.lib.stride_tricks import sliding_window_view

from musicnet_tf import input_pipeline, trainer, windowing
from musicnet_tf.config import Experiment
from musicnet_tf.layers import SlidingDense
from musicnet_tf.models import Model
from musicnet_tf.reproduction.points import WINDOW_FRAMES

Call = Callable[[], object]

MATRIX = 2048
"""Rows of the square matrices that the machine's rate is measured with: large enough to reach it."""

_TURN_SECONDS = 0.25


class Spent(NamedTuple):
    """Seconds on the clock, and of all threads together."""

    wall: float
    cpu: float


def median(turns: Sequence[Spent]) -> Spent:
    """The middle turn by the clock and by CPU seconds, each for itself."""
    return Spent(statistics.median(t.wall for t in turns), statistics.median(t.cpu for t in turns))


def take_turns(calls: Mapping[str, Call], repeats: int) -> dict[str, Spent]:
    """The median turn of each call, one after the other in each round, so that other load concerns all alike.

    Before, each is called twice, to compile; calls that are short are repeated within a turn.
    """
    counts = {}
    for name, call in calls.items():
        call()
        counts[name] = max(1, math.ceil(_TURN_SECONDS / timed(call).wall))
    turns: dict[str, list[Spent]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            turns[name].append(timed(call, counts[name]))
    return {name: median(spent) for name, spent in turns.items()}


def timed(call: Call, count: int = 1) -> Spent:
    """What one of `count` calls takes."""
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(count):
        call()
    return Spent((time.perf_counter() - wall) / count, (time.process_time() - cpu) / count)


def matrix_product(dtype: str) -> Call:
    """The product of two square matrices, `2 * MATRIX**3` operations, with all the threads that models have."""
    left, right = (tf.cast(tf.random.stateless_normal((MATRIX, MATRIX), (seed, 0)), dtype) for seed in (1, 2))
    return tf.function(lambda: tf.matmul(left, right))


def batch(experiment: Experiment, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Noise `(batch, window_length)` at the level of music, and as many labels `(batch, points, 128)` as music has."""
    spec, rng = experiment.model.spec(), np.random.default_rng(seed)
    size = experiment.train.batch_size
    audio = rng.normal(0, 0.1, (size, spec.window_length)).astype(np.float32)
    return audio, (rng.random((size, spec.num_frames, 128)) < 0.03).astype(np.float32)


def windows(audio: np.ndarray, window: int, hop_length: int) -> np.ndarray:
    """Every window of stretches `(batch, samples)`, each copied out: `(batch * points, window)`."""
    return np.ascontiguousarray(sliding_window_view(audio, window, axis=1)[:, ::hop_length]).reshape(-1, window)


def on_single_windows(experiment: Experiment) -> Experiment:
    """The same experiment with as many points a step and an excerpt, each with a window of its own."""
    points = experiment.model.spec().num_frames
    data, train = experiment.data, experiment.train
    return experiment.model_copy(
        update={
            "model": experiment.model.model_copy(update={"window_frames": 1}),
            "data": data.model_copy(update={"windows_per_excerpt": data.windows_per_excerpt * points}),
            "train": train.model_copy(update={"batch_size": train.batch_size * points}),
        }
    )


class PlainFilters(SlidingDense):
    """The filters as one would write them first: a dense layer on a whole window, or a convolution of samples."""

    def call(self, audio: Any) -> Any:
        """`(batch, samples)` → `(batch, regions, units)`."""
        if audio.shape[1] == self.receptive_field:
            return ops.matmul(audio, self.kernel)[:, None]
        return ops.conv(audio[..., None], self.kernel[:, None], strides=self.stride, padding="valid")


def has_filters(network: keras.Model) -> bool:
    """Whether its bottom layer slides filters over samples, and so has a plain form."""
    return any(isinstance(layer, SlidingDense) for layer in network.layers)


def with_plain_filters(network: keras.Model) -> keras.Model:
    """A network of new weights whose bottom layer is `PlainFilters`."""

    def clone(layer: keras.Layer) -> keras.Layer:
        family = PlainFilters if isinstance(layer, SlidingDense) else type(layer)
        return family.from_config(layer.get_config())

    return keras.models.clone_model(network, clone_function=clone)


def trained(experiment: Experiment, plain: bool = False) -> keras.Model:
    """The experiment's network ready to train, in its precision, `plain` with `PlainFilters`."""
    with trainer.precision(experiment.train.mixed_precision):
        keras.utils.set_random_seed(experiment.seed)
        network = experiment.model.build()
        return trainer.compiled(with_plain_filters(network) if plain else network, experiment)


def as_evaluated(model: Model) -> Model:
    """The model with as many points a stretch as the reproduction evaluates it with."""
    return model.model_copy(update={"window_frames": max(model.spec().num_frames, WINDOW_FRAMES)})


def inference(model: Model, points: int | None = None) -> tuple[Call, int]:
    """A call of the network as it is evaluated, in float32 on stretches, and how many points a call labels.

    Args:
        model: with any number of `window_frames`.
        points: at most so many, where at least one stretch remains.
    """
    evaluated = as_evaluated(model)
    spec = evaluated.spec()
    size = windowing.default_batch_size(spec)
    if points:
        size = max(1, min(size, points // spec.num_frames))
    network = evaluated.build()
    signature = [tf.TensorSpec((None, spec.window_length), tf.float32)]
    run = tf.function(lambda audio: network(audio, training=False), input_signature=signature)
    audio = tf.random.stateless_normal((size, spec.window_length), (1, 0), stddev=0.1)
    return lambda: run(audio), size * spec.num_frames


def on_records(experiment: Experiment, folder: str) -> Experiment:
    """The experiment on record sets below a folder, with blocks of one batch to shuffle, so that few begin a turn."""
    data = {"folder": Path(folder), "shuffle_excerpts": 4, "shuffle_windows": experiment.train.batch_size}
    return experiment.model_copy(update={"data": experiment.data.model_copy(update=data)})


def from_records(experiment: Experiment, model: keras.Model, steps: int) -> Spent:
    """What a step takes with the batches that the input pipeline makes meanwhile, after two to begin with."""
    batches = iter(input_pipeline.training(experiment))
    for _ in range(2):
        model.train_on_batch(*next(batches))
    return timed(lambda: model.train_on_batch(*next(batches)), steps)


def versions() -> str:
    """What computes."""
    return f"TensorFlow {tf.__version__}, Keras {keras.__version__}"
