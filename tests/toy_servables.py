"""Small SavedModels for tests of the server, whose answers are known by hand: a pytest plugin."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def toy(tmp_path_factory) -> Path:
    """A version's folder. Its signatures:

    `add`: x, y float32 (n, 2) → sum (n, 2); `picky`: x float32 (n,) → half (n,), an error where one is negative;
    `ones`: n int32 (batch,) → (batch, largest) ones, so of open length; `echo`: text string (n,) → text (n,) and
    text_bytes (n,).
    """
    import tensorflow as tf

    floats, pairs = tf.TensorSpec([None], tf.float32, "x"), tf.TensorSpec([None, 2], tf.float32, "x")

    @tf.function(input_signature=[pairs, tf.TensorSpec([None, 2], tf.float32, "y")])
    def add(x, y):
        return {"sum": x + y}

    @tf.function(input_signature=[floats])
    def picky(x):
        with tf.control_dependencies([tf.debugging.Assert(tf.reduce_all(x >= 0), ["no negative numbers please"])]):
            return {"half": x / 2}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int32, "n")])
    def ones(n):
        return {"ones": tf.ones([tf.size(n), tf.reduce_max(n)])}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "text")])
    def echo(text):
        return {"text": text, "text_bytes": text}

    module = tf.Module()
    module.functions = [add, picky, ones, echo]
    folder = tmp_path_factory.mktemp("toy") / "1"
    signatures = {"serving_default": add, "picky": picky, "ones": ones, "echo": echo}
    tf.saved_model.save(module, str(folder), signatures=signatures)
    return folder


@pytest.fixture
def toy_model(toy, tmp_path) -> Path:
    """A model's folder of its own for a test, with version 1."""
    shutil.copytree(toy, tmp_path / "toy" / "1")
    return tmp_path / "toy"
