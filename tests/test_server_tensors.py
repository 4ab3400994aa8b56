"""Tensors from the wire: all forms that TensorFlow writes, and everything that a stranger may send."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("tensorflow_serving", reason="needs the extra 'serving'")

import tensorflow as tf
from grpc import StatusCode
from hypothesis.extra import numpy as hnp
from tensorflow.core.framework import tensor_pb2

from serving.server import tensors
from serving.server.errors import RequestError
from serving.server.servable import Signature, TensorSpec

ANY_SHAPE = {tf.as_dtype(name): TensorSpec(tf.as_dtype(name), None) for name in ("float32", "int32", "int64", "bool")}
WINDOWS = Signature("windows", {"x": TensorSpec(tf.float32, (None, 3))}, {"y": TensorSpec(tf.float32, (None, 1))})


def decode(message, signature=WINDOWS, max_rows=8):
    return tensors.decode(signature, {"x": message}, max_rows)["x"]


def message(dtype=tf.float32, shape=(1, 3), **fields):
    message = tensor_pb2.TensorProto(dtype=dtype.as_datatype_enum, **fields)
    for size in shape:
        message.tensor_shape.dim.add(size=size)
    return message


@given(st.sampled_from(sorted(ANY_SHAPE, key=str)), st.data())
def test_what_tensorflow_writes_is_read_and_what_we_write_it_reads(dtype, data):
    shape = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)
    array = data.draw(hnp.arrays(dtype.as_numpy_dtype, shape))
    signature = Signature("any", {"x": ANY_SHAPE[dtype]}, {})
    np.testing.assert_array_equal(decode(tf.make_tensor_proto(array), signature), array)
    ours = tensor_pb2.TensorProto()
    tensors.encode(array, ours)
    read = tf.make_ndarray(ours)
    assert read.dtype == array.dtype
    np.testing.assert_array_equal(read, array)
    np.testing.assert_array_equal(decode(ours, signature), array)


def test_strings_go_and_come_as_bytes():
    signature = Signature("text", {"x": TensorSpec(tf.string, (None,))}, {})
    array = np.array([b"RIFF\0\xff", b""], object)
    assert decode(tf.make_tensor_proto(array), signature).tolist() == [b"RIFF\0\xff", b""]
    ours = tensor_pb2.TensorProto()
    tensors.encode(array, ours)
    assert tf.make_ndarray(ours).tolist() == [b"RIFF\0\xff", b""]


@pytest.mark.parametrize("values", [[], [7.0], [1.0, 2.0, 3.0, 4.0]])
def test_values_that_are_left_out_are_as_tensorflow_has_them(values):
    sent = message(shape=(2, 3), float_val=values)
    expected = tf.io.parse_tensor(sent.SerializeToString(), tf.float32).numpy()
    np.testing.assert_array_equal(decode(sent), expected)


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (message(tf.float64, double_val=[1, 2, 3]), "'x' is of data type float64; expected float32"),
        (message(tf.string, string_val=[b"a"]), "'x' is of data type string; expected float32"),
        (tensor_pb2.TensorProto(dtype=99), "'x' is of data type 99"),
        (message(shape=(1, 4), float_val=[0]), r"'x' has shape \[1, 4\]; the signature wants \[\?, 3\]"),
        (message(shape=(3,), float_val=[0]), r"'x' has shape \[3\]; the signature wants"),
        (message(shape=(-1, 3), float_val=[0]), "'x' does not say what shape it has"),
        (message(shape=(9, 3), float_val=[0]), "Task size 9 is larger than maximum input batch size 8"),
        (message(shape=(2**62, 3), float_val=[0]), "Task size"),
        (message(tensor_content=b"\0" * 11), r"'x' says shape \[1, 3\] but holds 11 bytes"),
        (message(float_val=[1, 2, 3, 4]), r"'x' says shape \[1, 3\] but holds 4 values"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_does_not_fit_is_refused(sent, reason):
    with pytest.raises(RequestError, match=reason) as caught:
        decode(sent)
    assert caught.value.code is StatusCode.INVALID_ARGUMENT


def test_a_few_bytes_cannot_claim_gigabytes():
    signature = Signature("any", {"x": TensorSpec(tf.float32, None)}, {})
    for shape in [(1, 2**40), (1, 2**40, 2**40)]:
        with pytest.raises(RequestError, match="holds 1 values"):
            decode(message(shape=shape, float_val=[1]), signature)
    unknown = tensor_pb2.TensorProto(dtype=tf.float32.as_datatype_enum)
    unknown.tensor_shape.unknown_rank = True
    with pytest.raises(RequestError, match="does not say what shape"):
        decode(unknown, signature)


def test_inputs_are_those_of_the_signature():
    with pytest.raises(RequestError) as caught:
        tensors.decode(WINDOWS, {"z": message()}, 8)
    assert caught.value.message == (
        "input size does not match signature: 1!=1 len({z}) != len({x}). Sent extra: {z}. Missing but required: {x}."
    )


def test_outputs_that_are_asked_for_are_there_and_once():
    tensors.check_filter(WINDOWS, ["y"])
    with pytest.raises(RequestError, match="output tensor alias not found in signature: z"):
        tensors.check_filter(WINDOWS, ["z"])
    with pytest.raises(RequestError, match="duplicate output tensor alias: y"):
        tensors.check_filter(WINDOWS, ["y", "y"])
