"""What lies on disk: stock operations alone, warm-up requests that are answered, and equal bytes of equal models."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import tensorflow as tf
from conftest import ROOT
from google.protobuf import text_format
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from musicnet_tf import audio, canonical, export, inference, warmup, windowing
from musicnet_tf.manifest import Manifest
from musicnet_tf.models import HeadSpec, ModelSpec
from musicnet_tf.timebase import FrameClock

pytest_plugins = ["tiny_models"]

ELSEWHERE = """
import json, sys
import tensorflow as tf
from tensorflow.python.framework import op_def_registry

export, run, again, answers = sys.argv[1:]
def registered(name):
    return op_def_registry.get(name) is not None
used = json.loads(sys.stdin.read())
model = tf.saved_model.load(export)
frame = model.signatures["serving_default"](windows=tf.sin(tf.range(16000.0) / 9)[tf.newaxis])["frame"]
alone = not {"musicnet_tf", "tensorflow_io"} & set(sys.modules)
json.dump({"foreign": [name for name in used if not registered(name)], "frame": frame.numpy().tolist(),
    "alone": alone}, open(answers, "w"))

import keras
from musicnet_tf import export
tf.function(lambda x: x + 1)(tf.constant(1.0))  # other work before, which moves every counter
keras.Sequential([keras.layers.Conv2D(1, 1), keras.layers.BatchNormalization()]).build((None, 2, 2, 1))
export.export(run, again)
"""


@pytest.fixture(scope="module")
def elsewhere(tiny_run, tiny_export, tmp_path_factory) -> tuple[dict[str, Any], Path]:
    """What a process of plain TensorFlow says of the export, and a second export from the same process."""
    folder = tmp_path_factory.mktemp("elsewhere")
    args = [tiny_export, tiny_run, folder / "again", folder / "answers.json"]
    names = json.dumps([*operations(tiny_export), "IO>AudioDecodeWAV"])
    code = [sys.executable, "-c", ELSEWHERE, *map(str, args)]
    outcome = subprocess.run(code, input=names, capture_output=True, text=True, cwd=ROOT)
    assert outcome.returncode == 0, outcome.stderr
    return json.loads((folder / "answers.json").read_text()), folder / "again/1"


def wav_bytes(samples: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, audio.quantise(samples), 16000, format="WAV", subtype="PCM_16")
    return buffer.getvalue()


def saved_model(folder: Path) -> Any:
    return saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())


def operations(folder: Path) -> dict[str, list[str]]:
    """Operation → names of the nodes that run it, in the graph and in all of its functions."""
    found: dict[str, list[str]] = {}
    for meta_graph in saved_model(folder).meta_graphs:
        graph = meta_graph.graph_def
        functions = [(f"{function.signature.name}/", function.node_def) for function in graph.library.function]
        for where, nodes in [("", graph.node), *functions]:
            for node in nodes:
                found.setdefault(node.op, []).append(where + node.name)
    return found


OF_PYTHON = {"PyFunc", "PyFuncStateless", "EagerPyFunc"}
"""TensorFlow registers them, but they call the Python process that traced them, which no server has."""


def foreign(folder: Path, unknown: list[str]) -> dict[str, list[str]]:
    """Operations, with their nodes, that a stock server cannot run: those unknown to plain TensorFlow, or Python's."""
    used = operations(folder)
    return {name: used[name] for name in used if name in OF_PYTHON or name in unknown}


def test_every_operation_is_one_of_stock_tensorflow(tiny_export, elsewhere):
    answers, _ = elsewhere
    used = operations(tiny_export)
    assert {"RFFT", "Conv2D", "Sigmoid", "DecodeWav"} <= set(used), (
        "front end and signatures are part of what is served"
    )
    assert answers["foreign"] == ["IO>AudioDecodeWAV"], "plain TensorFlow knows all of them, and not just any name"
    assert foreign(tiny_export, answers["foreign"]) == {}


def test_a_foreign_operation_would_be_found_and_named(tmp_path):
    tfio = pytest.importorskip("tensorflow_io")

    @tf.function(input_signature=[tf.TensorSpec((), tf.string)])
    def served(data):
        decoded = tf.map_fn(lambda each: tfio.audio.decode_wav(each, dtype=tf.int16)[0, 0], data[None], tf.int16)
        return {"x": tf.numpy_function(lambda each: each, [decoded], tf.int16)}

    module = tf.Module()
    tf.saved_model.save(module, str(tmp_path), signatures=served.get_concrete_function())
    found = foreign(tmp_path, [name for name in operations(tmp_path) if name.startswith("IO>")])
    assert set(found) == {"IO>AudioDecodeWAV", "PyFunc"}
    assert all("/" in where for nodes in found.values() for where in nodes), "each with the function that it lies in"


def test_plain_tensorflow_runs_it_without_this_package(tiny_run, elsewhere):
    answers, _ = elsewhere
    assert answers["alone"]
    window = np.sin(np.arange(16000, dtype=np.float32) / 9)[np.newaxis]
    np.testing.assert_allclose(answers["frame"], inference.load(tiny_run)(window)["frame"], rtol=0, atol=1e-6)


def test_a_session_restores_and_runs_it_as_tensorflow_serving_does(tiny_run, tiny_export, rising_tone):
    v1, windows = tf.compat.v1, rising_tone[None, :16000]
    with tf.Graph().as_default(), v1.Session() as session:
        meta_graph = v1.saved_model.load(session, [tf.saved_model.SERVING], str(tiny_export))
        signature = meta_graph.signature_def[inference.SIGNATURE]
        feed = {signature.inputs[inference.WINDOWS].name: windows}
        frame = session.run(signature.outputs["frame"].name, feed)
        wav = meta_graph.signature_def[inference.WAV_SIGNATURE]
        fetched = [wav.outputs[name].name for name in ("frame", inference.NUM_FRAMES)]
        posteriorgram, num_frames = session.run(fetched, {wav.inputs[inference.WAV].name: [wav_bytes(windows[0])]})
    predictor = inference.load(tiny_run)
    np.testing.assert_allclose(frame, predictor(windows)["frame"], rtol=0, atol=1e-6)
    quantised = audio.quantise(windows[0]) / np.float32(32768)
    expected = windowing.posteriorgram(quantised, predictor.manifest.geometry, predictor)
    np.testing.assert_allclose(posteriorgram[0], expected["frame"], rtol=0, atol=1e-6)
    assert num_frames.tolist() == [50]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_two_exports_of_one_model_are_equal_byte_for_byte(tiny_export, elsewhere, rising_tone):
    _, again = elsewhere
    first, second = contents(tiny_export), contents(again)
    assert {"saved_model.pb", "variables/variables.index", f"assets.extra/{warmup.FILENAME}"} < set(first)
    assert set(first) == set(second)
    assert [name for name in first if first[name] != second[name]] == []
    windows = rising_tone[None, :16000]
    np.testing.assert_array_equal(
        inference.load(again)(windows)["onset"], inference.load(tiny_export)(windows)["onset"]
    )


@pytest.mark.slow
def test_models_with_loops_and_dropout_are_equal_too(make_run, tmp_path):
    """The seeds of dropout are drawn anew whenever a network is built; no request ever reads them."""
    small = ("window_frames=40", "filters=[4,4,6]", "dense=12", "recurrent=6")
    run = make_run(tmp_path / "run", "notes_onsets_and_frames", *(f"model.{field}" for field in small))
    first, second = (contents(export.export(run, tmp_path / "exported")) for _ in range(2))
    assert first == second
    inside = [name for name in operations(tmp_path / "exported/1")["While"] if "lstm" in name]
    assert inside, "the network itself has loops"


def test_weights_are_restored_into_the_canonical_form(tiny_run, tiny_export):
    from musicnet_tf import runs

    _, _, network = runs.load(tiny_run)
    restored = tf.saved_model.load(str(tiny_export)).weights_of_network
    assert len(restored) == len(network.weights) > 10
    for ours, theirs in zip(network.weights, restored, strict=True):
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy())


def test_names_that_a_counter_gave_are_canonical_and_no_others():
    saved = text_format.Parse(
        """
        meta_graphs {
          graph_def {
            node { name: "call_7" op: "PartitionedCall" attr { key: "f" value { func { name: "__inference_f_7" } } } }
            library {
              function {
                signature { name: "while_body_30" input_arg { name: "while_21" } output_arg { name: "while_21_0" } }
                node_def { name: "while/Add" op: "Add" input: "while_21" input: "while/x:output:0" }
                ret { key: "while_21_0" value: "while_21" }
              }
              function {
                signature { name: "__inference_f_7" input_arg { name: "windows" } }
                arg_attr { key: 0 value { attr { key: "_user_specified_name" value { s: "windows" } } } }
                arg_attr { key: 1 value { attr { key: "_user_specified_name" value { s: "2135" } } } }
              }
              gradient { function_name: "while_body_30" gradient_func: "__inference_f_7" }
            }
          }
          object_graph_def {
            concrete_functions { key: "__inference_f_7" value { bound_inputs: 1 } }
            concrete_functions { key: "while_body_30" value { bound_inputs: 2 } }
            nodes { function { concrete_functions: "__inference_f_7" concrete_functions: "other_7" } }
          }
        }""",
        saved_model_pb2.SavedModel(),
    )
    canonical.rename(saved)
    (meta_graph,) = saved.meta_graphs
    graph, objects = meta_graph.graph_def, meta_graph.object_graph_def
    assert (graph.node[0].name, graph.node[0].attr["f"].func.name) == ("call_7", "__inference_f_0")
    f, body = graph.library.function
    assert [f.signature.name, body.signature.name] == ["__inference_f_0", "while_body_1"]
    assert f.signature.input_arg[0].name == "windows"
    assert {place: dict(attributes.attr) for place, attributes in f.arg_attr.items()}[1] == {}
    assert f.arg_attr[0].attr["_user_specified_name"].s == b"windows"
    assert (body.signature.input_arg[0].name, list(body.node_def[0].input)) == (
        "input_0",
        ["input_0", "while/x:output:0"],
    )
    assert dict(body.ret) == {"output_0": "input_0"}
    assert graph.library.gradient[0].function_name == "while_body_1"
    assert {name: list(f.bound_inputs) for name, f in objects.concrete_functions.items()} == {
        "__inference_f_0": [1],
        "while_body_1": [2],
    }
    assert list(objects.nodes[0].function.concrete_functions) == ["__inference_f_0", "other_7"]


def logged(assets: Path) -> list[predict_pb2.PredictRequest]:
    records = tf.data.TFRecordDataset(str(assets / warmup.FILENAME)).as_numpy_iterator()
    return [prediction_log_pb2.PredictionLog.FromString(record).predict_log.request for record in records]


def test_every_warm_up_request_is_answered(tiny_export):
    signatures = tf.saved_model.load(str(tiny_export)).signatures
    shapes: dict[str, list[tuple[int, ...]]] = {}
    for request in logged(tiny_export / inference.ASSETS):
        inputs = {name: tf.make_ndarray(tensor) for name, tensor in request.inputs.items()}
        outputs = signatures[request.model_spec.signature_name](**{k: tf.constant(v) for k, v in inputs.items()})
        shapes.setdefault(request.model_spec.signature_name, []).append(next(iter(inputs.values())).shape)
        for output in outputs.values():
            assert len(output) == len(next(iter(inputs.values()))), "an answer for each"
            assert output.dtype == tf.string or np.isfinite(output).all()
    assert set(shapes) == set(signatures)
    windows = {"serving_default": [(1, 16000), (64, 16000)], "notes": [(1, 16000)]}
    assert shapes == {"describe": [(1,)], **windows, "wav": [(1,)]}


def test_warm_up_asks_for_no_more_than_servers_join_and_than_memory_holds(tmp_path):
    text = (ROOT / "serving/batching.config").read_text(encoding="utf-8")
    assert f"max_batch_size {{ value: {inference.MAX_BATCH} }}" in text
    for window, expected in ((2048, [1, 64, 1]), (2**19, [1, 2, 1]), (2**22, [1, 1])):
        spec = ModelSpec(FrameClock(44100, 512), window, 10, 1, {"a": HeadSpec(1)})
        warmup.write(tmp_path, Manifest(name="any", task="notes", spec=spec.to_dict()))
        windows = [request.inputs[inference.WINDOWS] for request in logged(tmp_path) if "windows" in request.inputs]
        assert [tensor.tensor_shape.dim[0].size for tensor in windows] == expected
        assert all(tensor.tensor_shape.dim[1].size == window for tensor in windows)
        assert sum(tensor.ByteSize() for tensor in windows) < 100


def test_the_manifest_of_an_export_names_no_machine(tiny_export, tiny_run):
    text = (tiny_export / "saved_model.pb").read_bytes()
    for place in (tiny_run.parent, ROOT):
        assert str(place).encode() not in text
    assert Manifest.read(tiny_export / inference.ASSETS) == Manifest.read(tiny_run)
