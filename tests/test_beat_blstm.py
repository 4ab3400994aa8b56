"""The recurrent beat tracker: its inputs against librosa and SciPy, what it learns, and how far it hears."""

from __future__ import annotations

import keras
import librosa
import mir_eval
import numpy as np
import pytest
import tensorflow as tf
from conftest import ROOT
from scipy import ndimage

from musicnet_tf import config, export, inference, trainer, windowing
from musicnet_tf.decode.beats import BeatDecoding, decode
from musicnet_tf.models import HeadSpec
from musicnet_tf.models.beat_blstm import BeatBlstm
from musicnet_tf.timebase import FrameClock

pytest_plugins = ["tiny_models"]

SMALL = [
    "model.hop_length=320",
    "model.median_frames=[5,10,20]",
    "model.recurrent=[20,20]",
    "train.schedule=constant",
    "train.warmup_steps=0",
]


def load(*overrides):
    return config.load(ROOT / "configs/beats_blstm.yaml", [*SMALL, *overrides])


def loop(rng, seconds, rate):
    """Drums at some tempo from 60 to 200 BPM in noise: strokes on the beats, softer and higher ones between them."""
    beat = 60 / np.exp(rng.uniform(np.log(60), np.log(200)))
    times = np.arange(rng.uniform(0, beat), seconds - 0.05, beat)
    parts = rng.choice([1, 2, 3])
    between = np.setdiff1d(np.arange(times[0], seconds - 0.05, beat / parts).round(6), times.round(6))
    length = int(seconds * rate)
    audio = rng.normal(0, 10 ** rng.uniform(-3.5, -2), length)
    low = librosa.clicks(times=times[::2], sr=rate, click_freq=rng.uniform(60, 150), click_duration=0.1, length=length)
    mid = librosa.clicks(
        times=times[1::2], sr=rate, click_freq=rng.uniform(200, 900), click_duration=0.1, length=length
    )
    high = librosa.clicks(
        times=between, sr=rate, click_freq=rng.uniform(3000, 6000), click_duration=0.03, length=length
    )
    audio += 10 ** rng.uniform(-1, 0) * (low + mid + rng.uniform(0.1, 0.4) * high) / 2
    return audio.astype(np.float32), times


def windows(experiment, rng, count):
    """Loops as long as a window, and the task's targets of them."""
    spec = experiment.model.spec()
    rate, audio, targets = spec.clock.sample_rate, [], []
    for _ in range(count):
        wave, times = loop(rng, spec.window_length / rate, rate)
        record = {"beats/time": np.round(times * rate), "beats/position": np.ones(len(times)), "beats/known": 1}
        record = {name: tf.constant(value, tf.int64) for name, value in record.items()}
        audio.append(wave)
        targets.append(experiment.task.targets(record, tf.constant(0, tf.int64), spec))
    return np.stack(audio), {head: tf.stack([target[head] for target in targets]) for head in targets[0]}


def inputs_of(network):
    """What the first recurrent layer hears, a Keras tensor `(batch, frames, features)`."""
    return next(layer for layer in network.layers if isinstance(layer, keras.layers.Bidirectional)).input


@pytest.fixture(scope="module")
def trained():
    """An experiment of five-second windows, and its network after 400 steps on 96 loops.

    The spectra, which learn nothing, are computed once, and the rest is compiled, for speed alone.
    """
    experiment = load("model.window_frames=250", "train.learning_rate=0.01")
    audio, targets = windows(experiment, np.random.default_rng(0), 96)
    keras.utils.set_random_seed(1)
    network = experiment.model.build()
    inputs = inputs_of(network)
    heard = keras.Model(network.input, inputs).predict(audio, batch_size=16, verbose=0)
    learner = keras.Model(inputs, network.output)
    losses = experiment.task.losses(experiment.model.spec())
    learner.compile(optimizer=trainer.optimizer(experiment), loss=losses, jit_compile=True)
    learner.fit(heard, targets, batch_size=8, epochs=34, verbose=0)
    return experiment, network


def longer(experiment, network, window_frames):
    """The same weights in longer windows, and the geometry of these."""
    model = experiment.model.model_copy(update={"window_frames": window_frames})
    rebuilt = model.build()
    rebuilt.set_weights(network.get_weights())
    return tf.function(rebuilt), model.spec()


def activations(run, audio):
    return np.asarray(tf.sigmoid(run(audio)["beat"]))


def test_inputs_are_librosas_mel_bands_and_scipys_rises():
    model = BeatBlstm(window_frames=60)
    network = model.build()
    rng = np.random.default_rng(0)
    audio, _ = loop(rng, 0.6, 44100)
    found = np.asarray(keras.Model(network.input, inputs_of(network))(audio[None]))[0]
    expected = []
    for length, past in ((1024, 10), (2048, 20), (4096, 40)):
        power = librosa.feature.melspectrogram(
            y=audio, sr=44100, n_fft=length, hop_length=441, pad_mode="constant", n_mels=20, fmin=30, norm=None
        )[:, :60]
        level = np.log10(1 + power.T / librosa.filters.get_window("hann", length).sum() ** 2 / 1e-8)
        median = ndimage.median_filter(level, size=(past + 1, 1), origin=(past // 2, 0), mode="constant")
        expected += [level, np.maximum(level - median, 0)]
    assert found.shape == (60, 120)
    np.testing.assert_allclose(found, np.concatenate(expected, axis=1), atol=2e-4)
    assert (found[:, 20:40] > 0.5).any(), "nothing rises here, and this test shows nothing"


def test_the_count_is_gates_and_one_unit():
    def lstm(inputs, units):
        return 4 * units * (inputs + units + 1)

    count = 2 * (lstm(120, 25) + lstm(50, 25) + lstm(50, 25)) + 51
    for model, expected in ((BeatBlstm(), count), (BeatBlstm(downbeat=True), count + 51)):
        network = model.model_copy(update={"window_frames": 4}).build()
        assert sum(int(np.prod(v.shape)) for v in network.trainable_variables) == expected


def test_heads_and_margin():
    spec = BeatBlstm(warm_up=100).spec()
    assert spec.heads == {"beat": HeadSpec(1)}
    assert set(BeatBlstm(downbeat=True).spec().heads) == {"beat", "downbeat"}
    assert spec.clock == FrameClock(44100, 441)
    assert spec.margin == 5 + 40 + 100  # half of 4096 samples is 4.6 hops


def test_medians_must_be_as_many_as_spectra():
    with pytest.raises(ValueError, match="one number a spectrum, as many as window_lengths: 3"):
        BeatBlstm(median_frames=(10, 20))
    assert BeatBlstm(window_lengths=(1024,), median_frames=(10,)).spec().margin == 2 + 10 + BeatBlstm().warm_up


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_learns_eight_windows_by_heart():
    # With targets of one frame a beat: of a half beside it, as by default, nobody can be sure.
    experiment = load("model.window_frames=100", "train.learning_rate=0.01", "task.width=0.02")
    batch = tf.data.Dataset.from_tensors(windows(experiment, np.random.default_rng(0), 8))
    keras.utils.set_random_seed(1)
    model = trainer.compiled(experiment.model.build(), experiment)
    before = model.evaluate(batch, verbose=0, return_dict=True)
    model.fit(batch.repeat(150), verbose=0)
    after = model.evaluate(batch, verbose=0, return_dict=True)
    assert before["f1"] < 0.3
    assert after["f1"] > 0.9
    assert after["loss"] < 0.3 * before["loss"]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_finds_the_beats_of_drums_at_tempi_that_it_never_heard(trained):
    run, spec = longer(*trained, 1000)
    rng = np.random.default_rng(1000)
    loops = [loop(rng, spec.window_length / spec.clock.sample_rate, spec.clock.sample_rate) for _ in range(20)]
    heard = activations(run, np.stack([audio for audio, _ in loops]))
    scores = []
    for i, (_, times) in enumerate(loops):
        found = decode({"beat": heard[i]}, windowing.recording_clock(spec), BeatDecoding())
        scores.append(mir_eval.beat.f_measure(times, found.time))  # within 70 ms, and without the trim of 5 s
    assert np.mean(scores) >= 0.95, np.round(scores, 2)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_beyond_the_margin_little_of_what_lies_outside_counts(trained):
    """A window gives nearly what it gives as part of a longer one, though not exactly, as every frame hears all."""
    margin, later, kept = trained[0].model.spec().margin, 200, 60
    run_long, spec = longer(*trained, 2 * margin + kept + 2 * later)
    run_short, cut = longer(*trained, 2 * margin + kept)
    rng = np.random.default_rng(2)
    rate, start = spec.clock.sample_rate, later * spec.clock.hop_length
    audio = np.stack([loop(rng, spec.window_length / rate, rate)[0] for _ in range(8)])
    expected = activations(run_long, audio)[:, later:-later, 0]
    difference = np.abs(activations(run_short, audio[:, start : start + cut.window_length])[..., 0] - expected)
    inner, edge = difference[:, margin:-margin].max(), max(difference[:, 0].max(), difference[:, -1].max())
    assert inner < 1e-3
    assert edge > 1e-2, "a margin of 0 would do, and this test shows nothing"


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_an_export_gives_what_the_network_gives(make_run, tmp_path):
    run = make_run(tmp_path / "run", "beats_blstm", *SMALL, "model.window_frames=60", "model.warm_up=4")
    served = inference.load(export.export(run, tmp_path / "exported"))
    own = inference.load(run)
    spec = own.manifest.geometry
    waves = np.random.default_rng(0).normal(0, 0.1, (3, spec.window_length)).astype(np.float32)
    values, expected = served(waves)["beat"], own(waves)["beat"]
    assert values.shape == (3, 60, 1)
    assert values.std() > 1e-4
    np.testing.assert_allclose(values, expected, atol=1e-5)
