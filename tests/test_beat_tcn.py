"""The temporal convolutional tracker learns: clicks at tempi of their own, among others that are no beats."""

from __future__ import annotations

import keras
import librosa
import mir_eval
import numpy as np

from musicnet_tf import config, targets, trainer, windowing
from musicnet_tf.decode.beats import BeatDecoding, decode

RATE, SECONDS = 16000, 12
BPM = (64.0, 77.0, 90.0, 104.0, 121.0, 139.0, 160.0, 184.0)

EXPERIMENT = """
name: clicks
task: {name: beats, positive_weights: {beat: 2, downbeat: 4}}
model: {name: beat_tcn, filters: [6, 8], channels: 20, dilations: [1, 2, 4, 8, 16], window_frames: 600}
data: {folder: none, train: [{records: none}]}
train: {steps: 100, steps_per_epoch: 100, batch_size: 8, learning_rate: 0.01}
"""


def clicks(bpm, phase, rng):
    """Sound, beats in seconds, and which begin a bar of three: low thuds on downbeats, high clicks on all other beats
    and, softly, halfway between beats."""
    beats = np.arange(phase, SECONDS, 60 / bpm)
    audio = rng.normal(0, 0.003, SECONDS * RATE)
    for times, hertz, level in ((beats[::3], 110, 0.8), (beats, 1760, 0.4), (beats[:-1] + 30 / bpm, 1760, 0.2)):
        audio += level * librosa.clicks(times=times, sr=RATE, click_freq=hertz, click_duration=0.05, length=len(audio))
    return audio.astype(np.float32), beats


def test_beats_and_bars_of_clicks_at_tempi_that_were_not_trained(tmp_path):
    (tmp_path / "clicks.yaml").write_text(EXPERIMENT)
    experiment = config.load(tmp_path / "clicks.yaml")
    spec, rng = experiment.model.spec(), np.random.default_rng(0)
    audio, labels = [], {"beat": [], "downbeat": []}
    for bpm in BPM:
        sound, beats = clicks(bpm, rng.uniform(0, 0.5), rng)
        grid = (spec.clock, spec.num_frames, 0.04)
        time, position = np.round(beats * RATE).astype(np.int64), np.arange(len(beats)) % 3 + 1
        audio.append(sound)
        labels["beat"].append(targets.beats(time, True, *grid))
        labels["downbeat"].append(targets.downbeats(time, position, True, *grid))
    keras.utils.set_random_seed(1)
    network = experiment.model.build()
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.8  # so that the running statistics keep up with so short a training
    model = trainer.compiled(network, experiment)
    x, y = np.stack(audio), {head: np.stack(rows) for head, rows in labels.items()}
    for _ in range(40):
        model.train_on_batch(x, y)
    for bpm in (70.0, 98.0, 148.0):
        sound, beats = clicks(bpm, 0.3, rng)
        logits = network(sound[None], training=False)
        heads = {head: np.asarray(value)[0] for head, value in experiment.task.activations(logits).items()}
        found = decode(heads, windowing.recording_clock(spec), BeatDecoding())
        assert mir_eval.beat.f_measure(beats, found.time) > 0.95, bpm
        assert mir_eval.beat.f_measure(beats[::3], found.time[found.position == 1]) > 0.9, bpm
