"""A model of tags wherever models are run: served, exported, as a TFLite file, heard live, and in bulk."""

from __future__ import annotations

import base64
import functools
import importlib.util
import json
import urllib.error
import urllib.request
from pathlib import Path

import loud_stretches
import numpy as np
import pytest
import soundfile
from loud_stretches import AMPLITUDES, BIASES, EMBEDDING, FRAMES, HOP, NAMES, SPEC, WEIGHTS

pytest.importorskip("tensorflow_serving", reason="needs the extra 'serving'")

from musicnet_tf import export, files, inference, transcription, windowing
from musicnet_tf.models import HeadSpec, Model
from serving import client
from serving.server import ModelConfig, Server, Settings

pytest_plugins = ["tiny_models"]
LIGHT = pytest.param(
    "lite",
    marks=pytest.mark.skipif(not importlib.util.find_spec("ai_edge_litert"), reason="needs the extra 'lite'"),
)
KINDS = ["json", "csv", "npz", "embedding"]
BORNE = [("sound", 0.0), ("loud", 0.0), ("loud", 1.0), ("silence", 2.5), ("sound", 2.5), ("silence", 3.5)]
"""Tags and the seconds at which they begin or end."""


class Loudness(Model):
    """That of `loud_stretches`, as a network."""

    source = "musicnet_tf"

    def spec(self):
        return SPEC.from_dict({**SPEC.to_dict(), "heads": {"tag": {"num_classes": 3}, "embedding": {"num_classes": 2}}})

    def build(self):
        import keras

        samples = keras.Input((FRAMES * HOP,))
        level = keras.ops.mean(keras.ops.abs(keras.ops.reshape(samples, (-1, FRAMES, HOP))), axis=-1, keepdims=True)

        def linear(weights, biases):
            constant = keras.initializers.Constant
            begin = {"kernel_initializer": constant([list(weights)]), "bias_initializer": constant(list(biases))}
            return keras.layers.Dense(len(weights), **begin)

        return keras.Model(
            samples, {"tag": linear(WEIGHTS, BIASES)(level), "embedding": linear(EMBEDDING, (0.0, 0.0))(level)}
        )


@pytest.fixture(scope="module")
def run(run_of, tmp_path_factory):
    """A run folder of that model, for as long as this module's tests run."""
    with run_of(
        Loudness, tmp_path_factory.mktemp("tags"), "tags_loudness", {"name": "tags", "tags": list(NAMES)}
    ) as folder:
        yield folder


@pytest.fixture(scope="module")
def exported(run, tmp_path_factory) -> Path:
    return export.export(run, tmp_path_factory.mktemp("exported")).parent


@pytest.fixture(scope="module")
def server(exported):
    with Server(Settings((ModelConfig("ear", exported),), port=0, rest_api_port=0, poll_seconds=0.0)) as server:
        yield server


@pytest.fixture(scope="module")
def recording(tmp_path_factory) -> Path:
    return loud_stretches.write(tmp_path_factory.mktemp("recordings") / "turns.wav")


@pytest.fixture(scope="module")
def expected(exported, recording, tmp_path_factory) -> dict[str, bytes]:
    """Name → what the export gives in this process."""
    folder = tmp_path_factory.mktemp("expected")
    predictor = inference.load(exported)
    assert predictor.manifest.geometry.heads == {"tag": HeadSpec(3, labels=NAMES), "embedding": HeadSpec(2)}
    transcription.transcribe_file(recording, predictor, folder, transcription.chosen_formats("tags", KINDS))
    told = json.loads((folder / "turns.json").read_text())
    assert [(row["tag"], row["score"]) for row in told["tags"]] == [
        ("sound", 0.7333),
        ("loud", 0.3333),
        ("silence", 0.2667),
    ]
    with np.load(folder / "turns.embedding.npz") as arrays:
        levels = np.array([*AMPLITUDES[:-1], AMPLITUDES[-1] / 2])
        np.testing.assert_allclose(arrays["embedding"], np.outer(levels, EMBEDDING), atol=1e-3)
    return written(folder)


def written(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("turns.*") if path.suffix != ".wav"}


def alike(found: dict[str, bytes], expected: dict[str, bytes], folder: Path) -> None:
    """The same bytes; arrays of another runtime the same but for rounding."""
    assert found.keys() == expected.keys()
    for name in found:
        if name.endswith(".npz"):
            (folder / "expected").write_bytes(expected[name])
            with np.load(folder / "expected") as arrays, np.load(folder / name) as others:
                for key in arrays.files:
                    if arrays[key].dtype.kind in "Ub":
                        np.testing.assert_array_equal(others[key], arrays[key])
                    else:
                        np.testing.assert_allclose(others[key], arrays[key], atol=2e-6)
        else:
            assert found[name] == expected[name], name


def at(server, scheme: str) -> str:
    return f"{scheme}://localhost:{server.grpc_port if scheme == 'grpc' else server.rest_port}/ear"


@pytest.mark.parametrize("scheme", ["grpc", "http"])
def test_a_server_gives_the_tags_that_are_found_here(musicnet, server, scheme, recording, expected, tmp_path):
    args = (f"--output_dir={tmp_path}", "--formats=json,csv,npz", "--embedding")
    outcome = musicnet("tag", recording, f"--server={at(server, scheme)}", *args)
    assert outcome.status == 0, outcome.stderr
    assert f"{recording}: 1 tag in 3.8 s of audio; sound .73" in outcome.stdout
    assert written(tmp_path) == expected


def asked(server, signature: str, inputs: dict) -> dict:
    body = json.dumps({"signature_name": signature, "inputs": inputs}).encode()
    where = f"http://localhost:{server.rest_port}/v1/models/ear:predict"
    with urllib.request.urlopen(urllib.request.Request(where, body), timeout=60) as answer:
        return json.load(answer)["outputs"]


def test_it_is_asked_for_tags_by_name_and_refuses_to_be_asked_for_beats(server, recording):
    samples, _ = soundfile.read(recording, dtype="float32")
    windows = {"windows": samples[np.newaxis, : FRAMES * HOP].tolist()}
    found = asked(server, "tags", windows)
    assert found == asked(server, "serving_default", windows)
    assert np.round(np.array(found["tag"])[0]).tolist() == [[0, 1, 1], [0, 1, 1], [0, 1, 0], [0, 1, 0]]
    np.testing.assert_allclose(np.array(found["embedding"])[0, 0], [-2.25, 7.5], rtol=1e-3)
    with pytest.raises(urllib.error.HTTPError) as refusal:
        asked(server, "beats", windows)
    assert refusal.value.code == 400
    assert "beats" in refusal.value.read().decode()


def test_whole_recordings_are_answered_with_the_frames_of_the_verb(server, recording, expected, tmp_path):
    wav = [{"b64": base64.b64encode(recording.read_bytes()).decode()}]
    found = asked(server, "wav", {"wav": wav})
    assert found["num_frames"] == [len(AMPLITUDES)]
    (tmp_path / "turns.npz").write_bytes(expected["turns.npz"])
    with np.load(tmp_path / "turns.npz") as arrays:
        np.testing.assert_allclose(np.array(found["tag"])[0], arrays["timeline"], atol=1e-6)
        np.testing.assert_allclose(np.array(found["embedding"])[0], arrays["embedding"], atol=1e-5)


@pytest.mark.parametrize("remote", [True, False], ids=["server", "export"])
def test_listen_gives_the_tags_of_the_whole(musicnet, server, exported, recording, expected, tmp_path, remote):
    model = f"--server={at(server, 'grpc')}" if remote else f"--model={exported}"
    outcome = musicnet("listen", recording, model, f"--output_dir={tmp_path}", f"--formats={','.join(KINDS)}")
    assert outcome.status == 0, outcome.stderr
    rows = [json.loads(line) for line in outcome.stdout.splitlines()]
    assert [(row["tag"], row["time"]) for row in rows[:-2]] == BORNE
    assert [(row["event"], row["tag"], row["time"]) for row in rows[-2:]] == [
        ("begin", "sound", 3.5),
        ("begin", "loud", 3.5),
    ]
    latency = float(outcome.stderr.partition("by at most ")[2].partition(" s")[0])
    assert 0.5 <= latency < 0.7, "a stretch of half a second, and a tenth of a second of sound"
    assert all(row["heard"] - row["time"] <= latency + 1e-3 for row in rows)
    assert "1 tag in 3.8 s of audio; sound .73" in outcome.stderr
    alike(written(tmp_path), expected, tmp_path)  # heard one by one, which rounds otherwise


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
        formats=KINDS,
    )
    assert (result.error, result.events) == ("", 1)
    assert written(tmp_path) == expected


@pytest.mark.parametrize("runtime", ["tensorflow", LIGHT])
def test_a_tflite_file_gives_the_same(musicnet, run, recording, expected, tmp_path, runtime):
    light = export.export(run, tmp_path / "light", form="tflite")
    out = tmp_path / "out"
    args = (f"--model={light}", f"--runtime={runtime}", f"--output_dir={out}", f"--formats={','.join(KINDS)}")
    outcome = musicnet("tag", recording, *args)
    assert outcome.status == 0, outcome.stderr
    alike(written(out), expected, out)


@pytest.mark.slow
def test_the_family_of_instruments_is_the_same_in_every_form(make_run, tmp_path, rising_tone):
    model = {"name": "instrument_cnn", "num_mels": 16, "chunk_frames": 100, "frame_spectra": 50, "num_tags": 2}
    model |= {"filters": [4, 4], "pools": [[5, 2], [5, 2]], "temporal_filters": 4, "dilations": [1], "dense": 6}
    described = {"name": "tags_small", "task": {"name": "tags", "tags": ["violin", "piano"]}, "model": model}
    files.write_text(tmp_path / "small.yaml", json.dumps({**described, "data": {"train": [{"records": "none"}]}}))
    run = make_run(tmp_path / "run", tmp_path / "small.yaml")
    trained = inference.load(run)
    heard = windowing.posteriorgram(rising_tone, trained.manifest.geometry, trained)
    assert {name: values.shape for name, values in heard.items()} == {"tag": (4, 2), "embedding": (4, 6)}
    assert np.ptp(heard["tag"], axis=0).min() > 1e-4, "constants would be equal too"
    for form in ("saved_model", "tflite"):
        other = inference.load(export.export(run, tmp_path / form, form=form))
        assert other.manifest.geometry.heads["tag"].labels == ("violin", "piano")
        found = windowing.posteriorgram(rising_tone, other.manifest.geometry, other)
        for head in heard:
            np.testing.assert_allclose(found[head], heard[head], rtol=0, atol=2e-5)
