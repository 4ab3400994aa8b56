"""A model of beats wherever models are run: served, exported, as a TFLite file, heard live, and in bulk."""

from __future__ import annotations

import functools
import importlib.util
import json
import urllib.error
import urllib.request
from pathlib import Path

import click_tracks
import numpy as np
import pytest
from click_tracks import FRAMES, HOP, RATE, SPEC, TRUTH
from scipy.io import wavfile

pytest.importorskip("tensorflow_serving", reason="needs the extra 'serving'")

from musicnet_tf import export, inference, windowing
from musicnet_tf.models import Model
from musicnet_tf.scores.beats import read_beats
from serving import client
from serving.server import ModelConfig, Server, Settings

pytest_plugins = ["tiny_models"]
LIGHT = pytest.param(
    "lite",
    marks=pytest.mark.skipif(not importlib.util.find_spec("ai_edge_litert"), reason="needs the extra 'lite'"),
)


class Loudness(Model):
    """How loud the loudest sample of each frame is, against two levels."""

    source = "musicnet_tf"

    def spec(self):
        return SPEC

    def build(self):
        import keras

        samples = keras.Input((FRAMES * HOP,))
        loudest = keras.ops.max(keras.ops.abs(keras.ops.reshape(samples, (-1, FRAMES, HOP))), axis=-1, keepdims=True)
        constant = keras.initializers.Constant

        def above(level):
            return keras.layers.Dense(1, kernel_initializer=constant(40), bias_initializer=constant(-40 * level))

        return keras.Model(samples, {"beat": above(0.25)(loudest), "downbeat": above(0.7)(loudest)})


@pytest.fixture(scope="module")
def run(run_of, tmp_path_factory):
    """A run folder of that model, for as long as this module's tests run."""
    with run_of(Loudness, tmp_path_factory.mktemp("beats"), "beats_loudness", {"name": "beats"}) as folder:
        yield folder


@pytest.fixture(scope="module")
def exported(run, tmp_path_factory) -> Path:
    return export.export(run, tmp_path_factory.mktemp("exported")).parent


@pytest.fixture(scope="module")
def server(exported):
    with Server(Settings((ModelConfig("pulse", exported),), port=0, rest_api_port=0, poll_seconds=0.0)) as server:
        yield server


@pytest.fixture(scope="module")
def recording(tmp_path_factory) -> Path:
    return click_tracks.write(tmp_path_factory.mktemp("recordings") / "waltz.wav", TRUTH)


@pytest.fixture(scope="module")
def expected(exported, recording, tmp_path_factory) -> dict[str, str]:
    """Suffix → what the export gives in this process."""
    from musicnet_tf import transcription

    folder = tmp_path_factory.mktemp("expected")
    formats = transcription.chosen_formats("beats", ["beats", "csv"])
    transcription.transcribe_file(recording, inference.load(exported), folder, formats)
    beats = read_beats(folder / "waltz.beats")
    np.testing.assert_allclose(beats.time, TRUTH.time, atol=HOP / RATE)
    assert beats.position.tolist() == TRUTH.position.tolist()
    return {path.suffix: path.read_text() for path in folder.iterdir()}


def written(folder: Path) -> dict[str, str]:
    return {path.suffix: path.read_text() for path in folder.glob("waltz.*") if path.suffix != ".wav"}


def at(server, scheme: str) -> str:
    return f"{scheme}://localhost:{server.grpc_port if scheme == 'grpc' else server.rest_port}/pulse"


@pytest.mark.parametrize("scheme", ["grpc", "http"])
def test_a_server_gives_the_beats_that_are_found_here(musicnet, server, scheme, recording, expected, tmp_path):
    args = (f"--output_dir={tmp_path}", "--formats=beats,csv")
    outcome = musicnet("beats", recording, f"--server={at(server, scheme)}", *args)
    assert outcome.status == 0, outcome.stderr
    assert "18 beats in 10.0 s of audio; 120 beats a minute" in outcome.stdout
    assert written(tmp_path) == expected


def asked(server, signature: str, windows: np.ndarray) -> dict:
    body = json.dumps({"signature_name": signature, "inputs": {"windows": windows.tolist()}}).encode()
    where = f"http://localhost:{server.rest_port}/v1/models/pulse:predict"
    with urllib.request.urlopen(urllib.request.Request(where, body), timeout=60) as answer:
        return json.load(answer)["outputs"]


def test_it_is_asked_for_beats_by_name_and_refuses_to_be_asked_for_notes(server):
    windows = click_tracks.samples(TRUTH)[np.newaxis, : FRAMES * HOP]
    found = asked(server, "beats", windows)
    assert found == asked(server, "serving_default", windows)
    loud = np.flatnonzero(np.array(found["beat"])[0, :, 0] > 0.5)
    assert loud.tolist() == [int(time * RATE) // HOP for time in TRUTH.time if time < FRAMES * HOP / RATE]
    with pytest.raises(urllib.error.HTTPError) as refusal:
        asked(server, "notes", windows)
    assert refusal.value.code == 400
    assert "notes" in refusal.value.read().decode()


@pytest.mark.parametrize("remote", [True, False], ids=["server", "export"])
def test_listen_gives_the_beats_of_the_whole(musicnet, server, exported, recording, expected, tmp_path, remote):
    model = f"--server={at(server, 'grpc')}" if remote else f"--model={exported}"
    args = ("--set=method=dbn", f"--output_dir={tmp_path}", "--formats=beats,csv,click")
    outcome = musicnet("listen", recording, model, *args)
    assert outcome.status == 0, outcome.stderr
    rows = [json.loads(line) for line in outcome.stdout.splitlines()]
    assert {row["event"] for row in rows} == {"beat"}
    np.testing.assert_allclose([row["time"] for row in rows], TRUTH.time, atol=HOP / RATE)
    assert [row["position"] for row in rows] == TRUTH.position.tolist()
    assert "18 beats in 10.0 s of audio; 120 beats a minute" in outcome.stderr
    assert written(tmp_path) == expected
    rate, sound = wavfile.read(tmp_path / "waltz.click.wav")
    assert (rate, len(sound)) == (RATE, click_tracks.SECONDS * RATE), "over the recording, as it is one"


def test_listen_tells_beats_as_they_come(musicnet, exported, recording, tmp_path):
    outcome = musicnet("listen", recording, f"--model={exported}", "--set=min_bpm=60")
    assert outcome.status == 0, outcome.stderr
    latency = float(outcome.stderr.partition("by at most ")[2].partition(" s")[0])
    assert "and what the decoder waits for" not in outcome.stderr
    rows = [json.loads(line) for line in outcome.stdout.splitlines()]
    assert len(rows) >= 15
    for row in rows:
        assert row["heard"] - row["time"] <= latency + 1e-3
    args = ("--method=dbn_online", "--min_bpm=60", "--formats=beats", f"--output_dir={tmp_path}")
    assert musicnet("beats", recording, f"--model={exported}", *args).status == 0
    whole = read_beats(tmp_path / "waltz.beats")
    assert [row["time"] for row in rows] == pytest.approx(whole.time.tolist(), abs=5e-4)
    assert [row["position"] for row in rows] == whole.position.tolist()


@pytest.mark.parametrize("remote", [True, False], ids=["server", "export"])
def test_bulk_jobs_write_its_files(server, exported, recording, expected, tmp_path, remote):
    pytest.importorskip("apache_beam", reason="needs the extra 'beam'")
    from pipelines import _recordings, transcribe

    model = transcribe.remote_model(functools.partial(client.connect, at(server, "grpc"))) if remote else None
    (result,) = transcribe.transcribe(
        _recordings.find([recording]),
        tmp_path,
        model or transcribe.local_model(str(exported)),
        options=transcribe.beam_options("FnApiRunner"),
        formats=["beats", "csv"],
    )
    assert (result.error, result.events) == ("", len(TRUTH))
    assert written(tmp_path) == expected


@pytest.mark.parametrize("runtime", ["tensorflow", LIGHT])
def test_a_tflite_file_gives_the_same(musicnet, run, recording, expected, tmp_path, runtime):
    light = export.export(run, tmp_path / "light", form="tflite")
    args = (f"--model={light}", f"--runtime={runtime}", f"--output_dir={tmp_path}", "--formats=beats,csv")
    outcome = musicnet("beats", recording, *args)
    assert outcome.status == 0, outcome.stderr
    assert written(tmp_path) == expected


@pytest.mark.slow
def test_the_shipped_family_is_the_same_in_every_form(make_run, tmp_path, rising_tone):
    changes = ["task.name=beats", "model.name=beat_tcn", "model.filters=[4, 4]", "model.window_frames=100"]
    run = make_run(tmp_path / "run", "tiny", *changes)
    trained = inference.load(run)
    spec = trained.manifest.geometry
    heard = windowing.posteriorgram(rising_tone, spec, trained)
    assert all(np.ptp(values) > 0.005 for values in heard.values()), "two constants would be equal too"
    for form in ("saved_model", "tflite"):
        other = inference.load(export.export(run, tmp_path / form, window_frames=150, form=form))
        assert other.manifest.geometry.num_frames == 150
        found = windowing.posteriorgram(rising_tone, other.manifest.geometry, other)
        assert set(found) == {"beat", "downbeat"}
        for head in found:
            np.testing.assert_allclose(found[head], heard[head], rtol=0, atol=2e-5)
