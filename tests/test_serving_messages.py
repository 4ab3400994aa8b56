"""The messages that are written and read without TensorFlow, against TensorFlow Serving's own."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("tensorflow_serving", reason="needs the extra 'serving'")

import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from tensorflow.core.framework import types_pb2
from tensorflow_serving.apis import get_model_status_pb2, predict_pb2, prediction_log_pb2

from musicnet_tf import messages


def test_requests_are_those_of_the_stubs():
    windows = np.random.default_rng(0).standard_normal((2, 50)).astype(np.float32)
    ours = messages.predict_request("notes", "serving_default", {"windows": windows}, version=2**40)
    theirs = predict_pb2.PredictRequest.FromString(ours.SerializeToString())
    assert (theirs.model_spec.name, theirs.model_spec.signature_name) == ("notes", "serving_default")
    assert theirs.model_spec.WhichOneof("version_choice") == "version"
    assert theirs.model_spec.version.value == 2**40
    np.testing.assert_array_equal(tf.make_ndarray(theirs.inputs["windows"]), windows)
    labelled = messages.predict_request("notes", "wav", {}, label="stable").SerializeToString()
    assert predict_pb2.PredictRequest.FromString(labelled).model_spec.version_label == "stable"
    newest = messages.predict_request("notes", "wav", {}).SerializeToString()
    assert predict_pb2.PredictRequest.FromString(newest).model_spec.WhichOneof("version_choice") is None
    zeroth = messages.predict_request("notes", "wav", {}, version=0).SerializeToString()
    assert predict_pb2.PredictRequest.FromString(zeroth).model_spec.WhichOneof("version_choice") == "version"


def test_requests_of_a_status_and_its_answers_are_those_of_the_stubs():
    ours = messages.StatusRequest()
    messages.set_model(ours.model_spec, "notes", 7, "")
    theirs = get_model_status_pb2.GetModelStatusRequest.FromString(ours.SerializeToString())
    assert (theirs.model_spec.name, theirs.model_spec.version.value) == ("notes", 7)
    answer = get_model_status_pb2.GetModelStatusResponse()
    answer.model_version_status.add(version=3, state="AVAILABLE").status.error_message = "none"
    answer.model_version_status.add(version=4, state="LOADING")
    found = messages.StatusResponse.FromString(answer.SerializeToString()).model_version_status
    assert [(status.version, status.state == messages.AVAILABLE) for status in found] == [(3, True), (4, False)]


def test_logs_of_requests_are_those_of_the_stubs():
    request = messages.predict_request("notes", "describe", {"each": np.zeros(1, np.int32)})
    log = messages.PredictionLog(predict_log={"request": request})
    theirs = prediction_log_pb2.PredictionLog.FromString(log.SerializeToString())
    assert theirs.WhichOneof("log_type") == "predict_log"
    assert theirs.predict_log.request.model_spec.signature_name == "describe"
    np.testing.assert_array_equal(tf.make_ndarray(theirs.predict_log.request.inputs["each"]), [0])


SHAPES = arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)


@given(
    arrays.arrays(np.float32, SHAPES, elements=st.floats(width=32, allow_nan=False))
    | arrays.arrays(np.int32, SHAPES)
    | arrays.arrays(object, SHAPES, elements=st.binary(max_size=5))
)
def test_tensors_are_tensorflows_there_and_back(array):
    ours = messages.to_tensor(array)
    theirs = tf.make_tensor_proto(array, shape=array.shape, dtype=tf.string if array.dtype == object else None)
    sent = type(theirs).FromString(ours.SerializeToString())
    np.testing.assert_array_equal(tf.make_ndarray(sent), tf.make_ndarray(theirs))
    assert sent.dtype == theirs.dtype
    back = messages.to_array(type(ours).FromString(theirs.SerializeToString()))
    np.testing.assert_array_equal(back, array)
    assert back.dtype == array.dtype and back.shape == array.shape


@pytest.mark.parametrize("dtype", ["float64", "int64", "bool", "complex64"])
def test_arrays_of_other_kinds_are_not_sent(dtype):
    with pytest.raises(TypeError, match=dtype):
        messages.to_tensor(np.zeros(1, dtype))


def array_of(**fields):
    """What `to_array` reads of a tensor that TensorFlow's own message holds."""
    theirs = predict_pb2.PredictResponse()
    theirs.outputs["x"].dtype = fields.pop("dtype", types_pb2.DT_FLOAT)
    for size in fields.pop("shape"):
        theirs.outputs["x"].tensor_shape.dim.add(size=size)
    for name, value in fields.items():
        theirs.outputs["x"].MergeFrom(type(theirs.outputs["x"])(**{name: value}))
    (entry,) = messages.PredictResponse.FromString(theirs.SerializeToString()).outputs
    return messages.to_array(entry.value)


def test_tensors_of_every_form_are_read():
    np.testing.assert_array_equal(array_of(shape=(2, 1), float_val=[1, 2]), [[1], [2]])
    np.testing.assert_array_equal(array_of(shape=(2, 2), float_val=[3]), [[3, 3], [3, 3]])
    np.testing.assert_array_equal(array_of(shape=(1,), tensor_content=b"\0\0\xc0?"), [1.5])
    assert array_of(shape=(1,), dtype=types_pb2.DT_STRING, string_val=[b"a"]).tolist() == [b"a"]
    assert array_of(shape=(0, 3)).shape == (0, 3)
    integers = array_of(shape=(2,), dtype=types_pb2.DT_INT32, int_val=[7])
    assert (integers.tolist(), integers.dtype) == ([7, 7], np.int32)


def test_one_value_for_all_takes_no_more_memory_than_one():
    assert array_of(shape=(2**20, 2**20), float_val=[1]).strides == (0, 0)


@pytest.mark.parametrize(
    "fields",
    [
        {"shape": (3,), "float_val": [1, 2]},
        {"shape": (2,), "tensor_content": b"\0\0\xc0?"},
        {"shape": (1,), "tensor_content": b"\0\0\xc0"},
        {"shape": (1,), "dtype": types_pb2.DT_DOUBLE, "double_val": [1.0]},
        {"shape": (2,), "dtype": types_pb2.DT_STRING, "string_val": [b"a"]},
        {"shape": (-1,), "float_val": [1, 2]},
        {"shape": (-1,), "dtype": types_pb2.DT_STRING, "string_val": [b"a"]},
        {"shape": (2**40, 2**40), "float_val": [1]},
        {"shape": (2**40,), "float_val": [1, 2]},
    ],
)
def test_tensors_that_are_damaged_or_foreign_are_errors(fields):
    with pytest.raises(ValueError, match=r".+"):
        array_of(**fields)
