"""The field's transcribers: each part where it can be told by hand, what lies beyond margins, and that all learn."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import synthetic
import tensorflow as tf
from conftest import ROOT

from musicnet_tf import config, export, inference, trainer
from musicnet_tf.models.basic_pitch import NormalizedLog
from musicnet_tf.registry import MODELS

pytest_plugins = ["tiny_models"]

OVERFIT = {
    "onsets_and_frames": [
        "model.window_frames=48",
        "model.filters=[8,8,16]",
        "model.dense=96",
        "model.recurrent=48",
        "model.dropout=[0,0]",
        "train.learning_rate=0.005",
    ],
    "high_resolution": [
        "model.window_frames=60",
        "model.hop_length=320",
        "model.filters=[8,8,16]",
        "model.dense=96",
        "model.recurrent=48",
        "model.dropout=[0,0]",
        "train.learning_rate=0.005",
    ],
    # Its filters of unit norm turn too far in a step at the rates of the others.
    "basic_pitch": ["model.window_frames=100", "train.learning_rate=0.005"],
    "harmonic_shift_26k": ["model.window_frames=40", "train.learning_rate=0.01"],
}
STEPS = {"basic_pitch": 200}


def load(name, *overrides):
    return config.load(
        ROOT / f"configs/notes_{name}.yaml", [*overrides, "train.schedule=constant", "train.warmup_steps=0"]
    )


def chords(experiment, count=4, seed=0):
    """A batch of windows of random notes, and the task's targets of them."""
    spec = experiment.model.spec()
    rate, seconds = spec.clock.sample_rate, spec.window_length / spec.clock.sample_rate
    rng = np.random.default_rng(seed)
    audio, targets = [], []
    for _ in range(count):
        notes = synthetic.random_notes(rng, seconds, 8)
        audio.append(synthetic.synthesise(notes, rate, seconds))
        record = {
            "notes/onset": tf.constant(np.round(notes.onset * rate), tf.int64),
            "notes/offset": tf.constant(np.round(notes.offset * rate), tf.int64),
            "notes/pitch": tf.constant(notes.pitch, tf.int64),
            "notes/velocity": tf.constant(rng.integers(30, 110, len(notes.onset)), tf.int64),
        }
        targets.append(experiment.task.targets(record, tf.constant(0, tf.int64), spec))
    stacked = {head: tf.stack([target[head] for target in targets]) for head in targets[0]}
    return tf.stack([wave[: spec.window_length] for wave in audio]), stacked


@pytest.mark.slow
@pytest.mark.parametrize("name", OVERFIT)
def test_learns_a_few_windows_of_chords_by_heart(name):
    experiment = load(name, *OVERFIT[name])
    windows = tf.data.Dataset.from_tensors(chords(experiment))
    keras.utils.set_random_seed(1)
    network = experiment.model.build()
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.8  # so that the running statistics keep up with so short a training
    model = trainer.compiled(network, experiment)
    before = model.evaluate(windows, verbose=0, return_dict=True)
    model.fit(windows.repeat(STEPS.get(name, 120)), verbose=0)
    after = model.evaluate(windows, verbose=0, return_dict=True)
    assert before["frame_f1"] < 0.3
    assert after["frame_f1"] > 0.9
    assert after["onset_f1"] > 0.8
    assert after["loss"] < 0.3 * before["loss"]
    if name == "basic_pitch":
        filters = [layer.kernel for layer in network.layers if isinstance(layer, keras.layers.Conv2D)]
        norms = [np.sqrt(np.sum(np.square(kernel), axis=(0, 1, 2))) for kernel in filters]
        np.testing.assert_allclose(np.concatenate(norms), 1.0, atol=1e-4)


def test_margins_add_up():
    def margin(name, **fields):
        return MODELS.get(name)(**fields).spec().margin

    assert margin("onsets_and_frames") == 2 + 3 + 32  # half a spectrum of 2048, three convolutions, warming up
    assert margin("high_resolution") == 7 + 8 + 64
    assert margin("basic_pitch") == 15
    # The lowest filter is 30,815 samples long.
    assert margin("harmonic_shift") == 31 + 12 + 6 + 16
    assert margin("harmonic_shift", blocks=2, warm_up=0) == 31 + 12 + 4


def test_the_normalised_log_by_hand():
    power = np.array([[[1e-10, 1e-2], [1.0, 1e-4]], [[3.0, 3.0], [3.0, 3.0]]], np.float32)
    decibels = 10 * np.log10(np.array([2e-10, 1e-2, 1.0, 1e-4]))
    expected = (decibels - decibels[0]) / (decibels[2] - decibels[0])
    output = np.asarray(NormalizedLog()(power))
    np.testing.assert_allclose(output[0].ravel(), expected, atol=1e-6)
    assert not output[1].any()  # where nothing stands out


def test_harmonics_of_a_pitch_lie_above_one_another():
    network = MODELS.get("basic_pitch")(window_frames=40).build()
    stacked = next(layer for layer in network.layers if layer.name.startswith("harmonic_shift")).output
    tone = np.sin(2 * np.pi * 440 * np.arange(40 * 256) / 22050).astype(np.float32)[None]
    heard = np.asarray(keras.Model(network.input, stacked)(tone))[0, 20, :264]
    # 440 Hz is harmonic 1/2 of 880, 1 of 440, 2 of 220, 3 of 146.7, … 7 of 62.9 Hz; three bins a semitone from 27.5.
    assert heard.argmax(axis=0).tolist() == [180, 144, 108, 87, 72, 60, 51, 43]


@pytest.mark.parametrize(("family", "bent", "unbent"), [("onsets_and_frames", "frame", "onset offset")])
def test_frames_hear_of_other_heads_but_do_not_bend_them(family, bent, unbent):
    network = MODELS.get(family)(window_frames=4, filters=(2, 2, 3), dense=6, recurrent=4).build()
    variables = [network.get_layer(name).kernel.value for name in unbent.split()]
    audio = np.random.default_rng(0).normal(0, 0.1, (1, 4 * 512)).astype(np.float32)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(network(audio)[bent])
    assert tape.gradient(loss, variables) == [None] * len(variables)
    before = np.asarray(network(audio)[bent])
    for name in unbent.split():
        network.get_layer(name).bias.assign_add(np.full(88, 3.0))
    assert np.abs(network(audio)[bent] - before).max() > 1e-4


def test_what_sounds_a_semitone_higher_is_told_a_semitone_higher():
    keras.utils.set_random_seed(1)
    model = MODELS.get("harmonic_shift")(window_frames=40, front_channels=4, channels=8, blocks=2)
    run = tf.function(model.build())
    seconds = np.arange(40 * 512) / 16000

    def chord(transposed):
        pitches = np.array([50, 57, 62, 66])[:, None] + transposed
        partials = np.arange(1, 6)[:, None, None]
        waves = np.sin(2 * np.pi * partials * 440 * 2 ** ((pitches - 69) / 12) * seconds) / partials
        return 0.1 * waves.sum(axis=(0, 1)).astype(np.float32)

    middle = np.arange(36, 52)  # of the keyboard: its ends are felt as far as harmonics reach
    for head, logits in run(np.stack([chord(0), chord(1)])).items():
        here, higher = np.asarray(logits)
        moved = np.abs(higher[:, middle + 1] - here[:, middle]).mean()
        assert moved < 0.3 * np.abs(higher[:, middle + 1] - here[:, middle + 1]).mean(), head


STITCHED = {
    "onsets_and_frames": {"filters": (4, 4, 6), "dense": 16, "recurrent": 8},
    "high_resolution": {"filters": (4, 6), "dense": 16, "recurrent": 8, "hop_length": 320},
    "basic_pitch": {"window_frames": 172},
    "harmonic_shift": {"front_channels": 2, "channels": 8, "blocks": 1},
}


@pytest.mark.slow
@pytest.mark.parametrize("family", STITCHED)
def test_beyond_the_margin_little_of_what_lies_outside_counts(family):
    """A window gives nearly what it gives as part of a longer one, though not exactly, as every frame hears all."""
    model = MODELS.get(family)(**STITCHED[family])
    margin, later, kept = model.spec().margin, 100, 60
    cut = model.model_copy(update={"window_frames": 2 * margin + kept})
    whole = model.model_copy(update={"window_frames": 2 * margin + kept + 2 * later})
    spec, rate = whole.spec(), whole.spec().clock.sample_rate
    keras.utils.set_random_seed(1)
    long, short = whole.build(), cut.build()
    short.set_weights(long.get_weights())
    seconds = spec.window_length / rate
    notes = synthetic.random_notes(np.random.default_rng(0), seconds, round(6 * seconds))
    audio = synthetic.synthesise(notes, rate, seconds)[None, : spec.window_length]
    start = later * spec.clock.hop_length
    alone = tf.function(short)(audio[:, start : start + cut.spec().window_length])
    for head, values in tf.function(long)(audio).items():
        expected = np.asarray(values)[0, later:-later]
        difference = np.abs(np.asarray(alone[head])[0] - expected).mean(axis=1) / expected.std()
        inner, edge = difference[margin:-margin].mean(), max(difference[0], difference[-1])
        # Instance normalisation has other means in other windows.
        assert inner < (0.35 if family == "harmonic_shift" else 0.05)
        assert edge > 3 * inner


# Windows that are longer than their margins.
EXPORTED = {
    "onsets_and_frames": ["model.window_frames=20", "model.warm_up=2"],
    "high_resolution": ["model.window_frames=30", "model.warm_up=2"],
    "basic_pitch": [],
    "harmonic_shift_26k": ["model.window_frames=104", "model.warm_up=2"],
}


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPORTED)
def test_an_export_gives_what_the_network_gives(name, make_run, tmp_path):
    run = make_run(tmp_path / "run", f"notes_{name}", *OVERFIT[name], *EXPORTED[name])
    served = inference.load(export.export(run, tmp_path / "exported"))
    trained = inference.load(run)
    spec = trained.manifest.geometry
    assert set(spec.heads) <= {"onset", "offset", "frame", "velocity"}
    windows = np.random.default_rng(0).normal(0, 0.1, (3, spec.window_length)).astype(np.float32)
    expected = trained(windows)
    for head, values in served(windows).items():
        assert values.shape == (3, spec.num_frames, 88)
        assert values.std() > 1e-4
        np.testing.assert_allclose(values, expected[head], atol=1e-5)
