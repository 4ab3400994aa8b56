"""What the benchmark of the paper's models counts, and that what it holds to each other does the same work."""

from __future__ import annotations

import math
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf
from absl import app

from benchmarks import _paper_models_operations as operations
from benchmarks import _paper_models_work as work
from benchmarks import paper_models as benchmark
from benchmarks._paper_models_work import Spent
from musicnet_tf.registry import MODELS

FAMILIES = {
    "linear_spectrogram": {"points": 64, "hop_length": 32},
    "mlp": {"window": 300, "hidden": 7, "hop_length": 100},
    "waveform_cnn": {"window": 300, "receptive_field": 200, "stride": 25, "hidden": 7, "hop_length": 100},
    "waveform_cnn mean": {"window": 300, "receptive_field": 210, "stride": 30, "hidden": 7, "pooling": "mean"},
    "filterbank_mlp": {"window": 1024, "filter_length": 256, "stride": 128, "num_filters": 20, "hidden": 7},
    "filterbank_mlp linear": {"window": 1024, "filter_length": 256, "stride": 128, "num_filters": 20, "hidden": 0},
    "translation_invariant": {
        "window": 1024,
        "filter_length": 256,
        "stride": 128,
        "num_filters": 20,
        "width": 9,
        "layer_2": 5,
        "layer_3": 6,
    },
}
PRODUCTS = ("MatMul", "BatchMatMulV2", "Conv2D")


def make(family, window_frames=3):
    return MODELS.get(family.split()[0])(**FAMILIES[family], window_frames=window_frames)


def awake(network, seed=0):
    """The network with weights of one size everywhere, where linear layers begin at zero."""
    rng = np.random.default_rng(seed)
    for variable in network.trainable_variables:
        variable.assign(rng.normal(0, 0.1, variable.shape))
    return network


def profiled(network, batch, training):
    """Operations of the matrix products in the graph of a step; TensorFlow's own profiler counts those forward."""

    def forward(weights, state, audio):
        return network.stateless_call(weights, state, audio, training=training)[0]["frame"]

    def gradients(weights, state, audio):
        with tf.GradientTape() as tape:
            tape.watch(weights)
            loss = tf.reduce_sum(tf.square(forward(weights, state, audio)))
        return tape.gradient(loss, weights)

    parts = (network.trainable_variables, network.non_trainable_variables)
    weights, state = ([tf.TensorSpec(v.shape, v.dtype) for v in part] for part in parts)
    audio = tf.TensorSpec((batch, network.input.shape[1]), tf.float32)
    traced = tf.function(gradients if training else forward).get_concrete_function(weights, state, audio)
    outputs = [tensor.op.name for tensor in traced.outputs]
    needed = tf.compat.v1.graph_util.extract_sub_graph(traced.graph.as_graph_def(), outputs)
    with tf.Graph().as_default() as graph:
        tf.import_graph_def(needed, name="")
    builder = tf.compat.v1.profiler.ProfileOptionBuilder
    options = builder(builder.float_operation()).with_empty_output().build()
    node, total = tf.compat.v1.profiler.profile(graph, cmd="op", options=options), 0
    while node.children:  # a chain, a type of operation each
        (node,) = node.children
        total += node.float_ops * (node.name in PRODUCTS)
    return total + sum(gradient_operations(op) for op in graph.get_operations() if "Conv2DBackprop" in op.type)


def gradient_operations(op):
    """Of a convolution's gradient: each output met each weight of its filter once. The profiler counts edges too."""
    kernel = op.outputs[0] if op.type == "Conv2DBackpropFilter" else op.inputs[1]
    return 2 * math.prod(op.inputs[2].shape) * math.prod(kernel.shape[:3])


@pytest.mark.parametrize("family", FAMILIES)
def test_operations_are_those_that_tensorflow_counts(family):
    model = make(family)
    network = model.build()
    for training in (False, True):
        expected = sum(product.operations(training) for product in operations.products(model))
        assert profiled(network, 2, training) == 2 * expected


@pytest.mark.parametrize(
    ("row", "forward", "training"),
    [
        ("mlp_500", 500 * (2048 + 128), 2 * 500 * 2048 + 3 * 500 * 128),
        # 97 regions of the first window, and 512 / 64 more for each of the other 15 points.
        ("cnn", (97 + 15 * 8) * 10240 * 500 / 16 + 97 * 500 * 128, 2 * 217 * 10240 * 500 / 16 + 3 * 97 * 500 * 128),
        # 512 is no multiple of 5: nothing is shared.
        ("avgpool", 11 * 1998 * 500 + 500 * 128, 2 * 11 * 1998 * 500 + 3 * 500 * 128),
        # A fixed product of 512 points, ten halvings of two thirds of a complex transform's.
        ("linear_512", 512 * 128 + 2.5 * 1024 * 10 / 2, 2 * 512 * 128 + 2.5 * 1024 * 10 / 2),
    ],
)
def test_operations_of_the_papers_rows_worked_out_by_hand(row, forward, training):
    experiment = benchmark.experiments([row])[row]
    for is_training, multiply_adds in ((False, forward), (True, training)):
        done = operations.operations(experiment.model, is_training, experiment.train.mixed_precision)
        assert sum(done.values()) == pytest.approx(2 * multiply_adds)


def test_every_row_of_the_paper_has_its_operations_in_its_own_precision():
    found = benchmark.experiments(None)
    assert set(benchmark.SHARED) < set(found) == {path.stem for path in benchmark.CONFIGS.glob("*.yaml")}
    for row, experiment in found.items():
        done = operations.operations(experiment.model, True, experiment.train.mixed_precision)
        assert done.keys() <= {"float32", "bfloat16"}
        assert ("bfloat16" in done) == (experiment.train.mixed_precision == "mixed_bfloat16"), row
    cnn = operations.operations(found["cnn"].model, True, "mixed_bfloat16")
    assert cnn.keys() == {"bfloat16"}, "its layers all go by the policy"
    assert benchmark.experiments(["cnn"], points=40)["cnn"].train.batch_size == 2
    assert benchmark.experiments(["cnn"], points=3)["cnn"].train.batch_size == 1
    with pytest.raises(app.UsageError, match="no row 'mlp_50'; choose from: avgpool, cnn"):
        benchmark.experiments(["mlp_50"])


def test_the_floor_is_the_time_of_each_type_at_its_own_rate():
    rates = {"float32": 100.0, "bfloat16": 400.0}
    assert operations.floor({"float32": 50.0, "bfloat16": 800.0}, rates) == pytest.approx(0.5 + 2.0)
    product = 2 * work.MATRIX**3
    done = {"float32": product / 10, "bfloat16": product / 5}
    seconds = {"float32": Spent(1.0, 2.0), "bfloat16": Spent(0.5, 1.0)}
    cost = benchmark.Cost("cnn", "training", "bfloat16", 8, done, Spent(8 * 0.5, 8 * 1.2), seconds)
    assert cost.floor == pytest.approx((0.1 + 0.1, 0.2 + 0.2))
    assert cost.to_floor == pytest.approx((2.5, 3.0))
    cells = [cell.strip() for cell in benchmark.cost_line(cost).strip("|").split("|")]
    assert cells == [
        *("cnn", "training", "bfloat16", "8", f"{0.3 * product / 1e6:.2f}", "2", "1200000.0", "200000.0"),
        *("2.50", "3.00"),
    ]
    assert len(cells) == len(benchmark.COST_HEADER.splitlines()[0].strip("|").split("|"))


def test_ways_are_held_to_the_first():
    ways = [
        benchmark.Way("cnn", benchmark.STRETCHES, 512, 2**20, 2e6, Spent(0.2, 0.4)),
        benchmark.Way("cnn", benchmark.WINDOWS, 512, 2**23, 6e6, Spent(0.7, 1.0)),
        benchmark.Way("cnn", benchmark.COPYING, 512, 2**23, 0.0, Spent(0.001, 0.002)),
    ]
    assert benchmark.way_lines(ways) == [
        "| cnn | stretches | 512 | 1.0 MiB | 2.00 | 200.0 ms | 400.0 ms | 1.00 | 1.00 | 1.00 |",
        "| cnn | windows | 512 | 8.0 MiB | 6.00 | 700.0 ms | 1000.0 ms | 3.50 | 2.50 | 3.00 |",
        "| cnn | copying | 512 | 8.0 MiB | 0.00 | 1.0 ms | 2.0 ms | 0.01 | 0.01 | |",
    ]
    columns = benchmark.WAYS_HEADER.splitlines()[0].count("|")
    assert {line.count("|") for line in benchmark.way_lines(ways)} == {columns}


def test_turns_alternate_and_are_told_by_their_median(monkeypatch):
    now = {"wall": 100.0, "cpu": 50.0}
    clocks = SimpleNamespace(perf_counter=lambda: now["wall"], process_time=lambda: now["cpu"])
    monkeypatch.setattr(work, "time", clocks)
    order, waits = [], iter([9, 1, 5, 3, 4])  # two calls to begin with, then three turns

    def slow():
        order.append("slow")
        now["wall"] += next(waits)

    def quick():
        order.append("quick")
        now["wall"] += 0.1
        now["cpu"] += 0.2

    spent = work.take_turns({"slow": slow, "quick": quick}, 3)
    assert order == ["slow"] * 2 + ["quick"] * 2 + ["slow", "quick", "quick", "quick"] * 3, (
        "three fill a quarter second"
    )
    assert spent["slow"] == pytest.approx((4.0, 0.0))
    assert spent["quick"] == pytest.approx((0.1, 0.2))
    assert work.median([Spent(3, 1), Spent(1, 2), Spent(2, 9)]) == Spent(2, 2)


@pytest.mark.parametrize("family", ["mlp", "waveform_cnn", "translation_invariant"])
def test_stretches_and_single_windows_have_the_same_loss_on_the_same_points(family):
    model = make(family)
    experiment = benchmark.experiments(["mlp_500"])["mlp_500"]
    train = experiment.train.model_copy(update={"batch_size": 2, "optimizer": "sgd", "warmup_steps": 0})
    experiment = experiment.model_copy(update={"model": model, "train": train})
    single = work.on_single_windows(experiment)
    assert (single.train.batch_size, single.model.window_frames) == (6, 1)
    assert single.data.windows_per_excerpt == 3 * experiment.data.windows_per_excerpt
    audio, labels = work.batch(experiment)
    assert audio.shape == (2, model.window + 2 * model.hop_length)
    assert labels.shape == (2, 3, 128)
    copied = work.windows(audio, model.window, model.hop_length)
    assert copied.flags["C_CONTIGUOUS"]
    np.testing.assert_array_equal(copied[4], audio[1, model.hop_length : model.hop_length + model.window])

    first = awake(work.trained(experiment))
    expected = first.test_on_batch(audio, {"frame": labels})[0]
    weights = first.get_weights()
    others = [work.trained(single)]
    assert work.has_filters(others[0]) == (family != "translation_invariant")
    if work.has_filters(others[0]):
        others.append(work.trained(single, plain=True))
        assert isinstance(others[1].get_layer("filters"), work.PlainFilters)
    for network in others:
        network.set_weights(weights)
        one_by_one = {"frame": labels.reshape(6, 1, 128)}
        assert network.test_on_batch(copied, one_by_one)[0] == pytest.approx(expected, rel=1e-5)
        if family != "translation_invariant":  # whose map's frames, and so the batch's statistics, are shared
            network.train_on_batch(copied, one_by_one)
    if family != "translation_invariant":
        first.train_on_batch(audio, {"frame": labels})
        for network in others:
            for ours, theirs in zip(network.get_weights(), first.get_weights(), strict=True):
                np.testing.assert_allclose(ours, theirs, atol=1e-6)
        assert np.abs(first.get_weights()[0] - weights[0]).max() > 1e-4


def test_precision_is_put_back_and_inference_is_in_float32():
    experiment = benchmark.experiments(["mlp_500_16384"], points=16)["mlp_500_16384"]
    small = experiment.model_copy(update={"model": make("mlp", 2)})
    network = work.trained(small)
    assert keras.config.dtype_policy().name == "float32"
    assert network.get_layer("filters").compute_dtype == "bfloat16"
    call, points = work.inference(small.model, points=300)
    assert points == 256
    assert work.as_evaluated(small.model).window_frames == 128
    given = call()["frame"]
    assert given.shape == (2, 128, 128)
    assert given.dtype == "float32"


def test_the_matrix_product_is_of_its_type_and_size():
    product = work.matrix_product("bfloat16")()
    assert product.dtype == tf.bfloat16
    assert product.shape == (work.MATRIX, work.MATRIX)
    # Of two standard normal matrices; each number has the variance of so many products.
    assert float(tf.math.reduce_std(tf.cast(product, tf.float32))) == pytest.approx(math.sqrt(work.MATRIX), rel=0.05)
