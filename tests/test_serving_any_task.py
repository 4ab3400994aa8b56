"""A task that nobody has heard of, registered here alone: exported, served, asked, listened to and run in bulk."""

from __future__ import annotations

import asyncio
import functools
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

pytest.importorskip("tensorflow_serving", reason="needs the extra 'serving'")

from musicnet_tf import config, export, files, inference, runs, windowing
from musicnet_tf.decode import Decoding
from musicnet_tf.manifest import Manifest
from musicnet_tf.models import HeadSpec, Model, ModelSpec
from musicnet_tf.registry import DECODERS, MODELS, TASKS
from musicnet_tf.tasks import Task
from musicnet_tf.timebase import FrameClock
from musicnet_tf.writers import Format
from serving import aio, client
from serving.server import ModelConfig, Server, Settings

RATE, HOP, FRAMES = 8000, 100, 80
CLICKS = [3, 40, 77, 81, 150, 219]
"""Frames of the recording in which there is a click; windows of 80 frames end between some of them."""
TIMES = [frame * HOP / RATE for frame in CLICKS]


class Loudness(Model):
    """Whether anything in the hundred samples around a frame is loud."""

    source = "musicnet_tf"

    def spec(self) -> ModelSpec:
        return ModelSpec(FrameClock(RATE, HOP, HOP // 2), FRAMES * HOP, FRAMES, 0, {"click": HeadSpec(1)})

    def build(self):
        import keras

        samples = keras.Input((FRAMES * HOP,))
        loudest = keras.ops.max(keras.ops.abs(keras.ops.reshape(samples, (-1, FRAMES, HOP))), axis=-1, keepdims=True)
        constant = keras.initializers.Constant
        logits = keras.layers.Dense(1, kernel_initializer=constant(40), bias_initializer=constant(-20))(loudest)
        return keras.Model(samples, {"click": logits})


class Clicks(Task):
    """Training is none of this file's business."""

    source = "musicnet_tf"
    required_heads = ("click",)

    def targets(self, record, start, spec):
        raise NotImplementedError

    losses = loss_weights = metrics = targets

    def activations(self, logits):
        import keras

        return {name: keras.ops.sigmoid(values) for name, values in logits.items()}

    def decoder_params(self):
        return {"threshold": 0.5}


class ClickDecoder:
    """Times of the frames above a threshold, in seconds."""

    look_ahead = 0.0

    def __init__(self, clock: FrameClock, threshold: float) -> None:
        self._clock, self._threshold = clock, threshold
        self._frames, self._told, self._times = 0, 0, []

    def push(self, heads):
        loud = np.flatnonzero(heads["click"][:, 0] > self._threshold)
        self._times += self._clock.frame_to_time(loud + self._frames).tolist()
        self._frames += len(heads["click"])

    def live(self):
        new, self._told = self._times[self._told :], len(self._times)
        return [{"event": "click", "time": time} for time in new]

    def finish(self):
        return self._times


class ClickDecoding(Decoding):
    """What the manifest holds of the decoder."""

    noun = "clicks"
    heads = ("click",)
    default_formats = ("times",)
    threshold: float

    def start(self, spec):
        return ClickDecoder(windowing.recording_clock(spec), self.threshold)

    @classmethod
    def formats(cls):
        return {"times": Format(".txt", lambda path, found: files.write_text(path, json.dumps(found.events)))}


@pytest.fixture(scope="module")
def task():
    """The task as a name that registries know, for as long as this module's tests run."""
    with pytest.MonkeyPatch.context() as patched:
        for registry, kind, name in [(MODELS, Loudness, "loudness"), (TASKS, Clicks, "clicks")]:
            registry.names()  # finds those of the program first
            patched.setitem(registry._classes, name, kind)
            patched.setattr(kind, "name", name)
        DECODERS.names()
        patched.setitem(DECODERS._classes, "clicks", ClickDecoding)
        patched.setattr(ClickDecoding, "name", "clicks")
        yield "clicks"


@pytest.fixture(scope="module")
def exported(task, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("clicks")
    described = {"name": "clicks_loudness", "task": {"name": task}, "model": {"name": "loudness"}}
    data = {"folder": "records", "train": [{"records": "none"}]}
    files.write_text(folder / "clicks.yaml", json.dumps({**described, "data": data}))
    experiment = config.load(folder / "clicks.yaml")
    files.make_folder(folder / "run")
    experiment.model.build().save_weights(folder / "run" / runs.WEIGHTS)
    experiment.write(folder / "run")
    Manifest(
        name=experiment.name,
        task=task,
        spec=experiment.task.served(experiment.model.spec()).to_dict(),
        decoder=experiment.task.decoder_params(),
        experiment=experiment.model_dump(mode="json"),
    ).write(folder / "run")
    return export.export(folder / "run", folder / "exported").parent


@pytest.fixture(scope="module")
def server(exported):
    with Server(Settings((ModelConfig("clicks", exported),), port=0, rest_api_port=0, poll_seconds=0.0)) as server:
        yield server


@pytest.fixture(scope="module")
def address(server):
    return f"grpc://localhost:{server.grpc_port}/clicks"


@pytest.fixture(scope="module")
def recording(tmp_path_factory) -> Path:
    samples = np.zeros(230 * HOP, np.float32)
    samples[np.array(CLICKS) * HOP] = 0.9
    path = tmp_path_factory.mktemp("recordings") / "door.wav"
    soundfile.write(path, samples, RATE, "PCM_16")
    return path


@pytest.fixture
def samples(recording) -> np.ndarray:
    return soundfile.read(recording, dtype="float32")[0]


@pytest.mark.parametrize("scheme", ["grpc", "http"])
def test_clients_of_both_kinds_get_its_activations(server, scheme, samples):
    port = server.grpc_port if scheme == "grpc" else server.rest_port
    where = f"{scheme}://localhost:{port}/clicks"
    with client.connect(where) as predictor:
        assert (predictor.manifest.task, predictor.manifest.decoder) == ("clicks", {"threshold": 0.5})
        heard = windowing.posteriorgram(samples, predictor.manifest.geometry, predictor)
    assert np.flatnonzero(heard["click"][:, 0] > 0.5).tolist() == CLICKS

    async def one() -> dict:
        async with await aio.connect(where) as predictor:
            return await predictor(samples[np.newaxis, : FRAMES * HOP])

    assert asyncio.run(one())["click"].shape == (1, FRAMES, 1)


def test_its_whole_recordings_are_taken_too(exported, recording):
    import tensorflow as tf

    loaded = tf.saved_model.load(str(exported / "1"))
    found = loaded.signatures[inference.WAV_SIGNATURE](wav=tf.constant([recording.read_bytes()]))
    assert found[inference.NUM_FRAMES].numpy().tolist() == [230]
    assert np.flatnonzero(found["click"].numpy()[0, :, 0] > 0.5).tolist() == CLICKS


@pytest.mark.parametrize("remote", [True, False], ids=["server", "export"])
def test_listen_tells_its_events(musicnet, address, exported, recording, tmp_path, remote):
    model = f"--server={address}" if remote else f"--model={exported}"
    outcome = musicnet("listen", recording, model, f"--output_dir={tmp_path}")
    assert outcome.status == 0, outcome.stderr
    rows = [json.loads(line) for line in outcome.stdout.splitlines()]
    assert [(row["event"], row["time"]) for row in rows] == [("click", round(time, 4)) for time in TIMES]
    assert f"{len(CLICKS)} clicks in 2.9 s of audio" in outcome.stderr
    assert json.loads((tmp_path / "door.txt").read_text()) == TIMES


@pytest.mark.parametrize("form", ["jsonl", "text"])
def test_listen_prints_rows_of_any_kind(musicnet, address, recording, monkeypatch, form):
    row = {"event": "click", "where": ["left", "right"], "sure": None}
    monkeypatch.setattr(ClickDecoder, "live", lambda self: [row])
    outcome = musicnet("listen", recording, f"--server={address}", f"--format={form}")
    assert outcome.status == 0, outcome.stderr
    assert "left" in outcome.stdout


@pytest.mark.parametrize("remote", [True, False], ids=["server", "export"])
def test_bulk_jobs_write_its_files(address, exported, recording, tmp_path, remote):
    pytest.importorskip("apache_beam", reason="needs the extra 'beam'")
    from pipelines import _recordings, transcribe

    model = transcribe.remote_model(functools.partial(client.connect, address)) if remote else None
    (result,) = transcribe.transcribe(
        _recordings.find([recording]),
        tmp_path,
        model or transcribe.local_model(str(exported)),
        options=transcribe.beam_options("FnApiRunner"),
        overrides={"threshold": 0.6},
    )
    assert (result.error, result.events) == ("", len(CLICKS))
    assert json.loads((tmp_path / "door.txt").read_text()) == TIMES


def test_what_is_for_notes_alone_says_so(musicnet, address, recording, tmp_path):
    outcome = musicnet("transcribe", recording, f"--server={address}", f"--output_dir={tmp_path}")
    assert outcome.status == 1
    assert "does task 'clicks' with heads click, which gives no notes; choose another" in outcome.stderr
