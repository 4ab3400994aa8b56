"""`musicnet serve`: what it serves, how it says so, and how it ends."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest
from conftest import ROOT

pytest.importorskip("tensorflow_serving", reason="needs the extra 'serving'")

import grpc
from server_stubs import SECONDS, Stubs

from musicnet_tf import export, inference
from musicnet_tf.errors import OutputError
from musicnet_tf.manifest import Manifest
from serving.server import Server, shipped

pytest_plugins = ["tiny_models", "toy_servables"]
GREETING = re.compile(
    r"^musicnet serve: for development, production is TensorFlow Serving;"
    r" gRPC on 127.0.0.1:(\d+), REST on 127.0.0.1:(\d+); models: (.+)$",
    re.MULTILINE,
)


def predict(port, model, signature, **inputs):
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        return Stubs(channel).predict(model, signature, **inputs)


@pytest.fixture
def while_it_serves(monkeypatch):
    """Has a function of the server called while the verb waits, then tells the process to stop; gives its result."""
    results = []

    def run(action):
        start, before = Server.start, signal.getsignal(signal.SIGTERM)

        def act(server):
            while signal.getsignal(signal.SIGTERM) is before:
                pass
            try:
                results.append(action(server))
            finally:
                os.kill(os.getpid(), signal.SIGTERM)

        def started(server):
            start(server)
            threading.Thread(target=act, args=[server], daemon=True).start()

        monkeypatch.setattr(Server, "start", started)
        return results

    return run


def test_one_model_is_served_until_the_process_is_told_to_stop(musicnet, toy, while_it_serves):
    before = signal.getsignal(signal.SIGTERM)
    results = while_it_serves(lambda server: predict(server.grpc_port, "toy", "picky", x=np.float32([4])))
    outcome = musicnet(
        *("serve", "--model_name=toy", f"--model_base_path={toy.parent}", "--port=0", "--rest_api_port=0"),
        f"--batching_parameters_file={ROOT / 'serving/batching.config'}",
        f"--monitoring_config_file={ROOT / 'serving/monitoring.config'}",
    )
    assert (outcome.status, outcome.stderr) == (0, "")
    assert results == [{"half": 2.0}]
    (greeting,) = outcome.stdout.splitlines()
    grpc_port, rest_port, models = GREETING.match(greeting).groups()
    assert int(grpc_port) > 0 < int(rest_port)
    assert models == "toy@1"
    assert signal.getsignal(signal.SIGTERM) is before


def test_models_of_a_file_with_labels(musicnet, toy, tmp_path, while_it_serves):
    config = tmp_path / "models.config"
    model = f'name: "a" base_path: "{toy.parent}" version_labels {{ key: "s" value: 1 }}'
    config.write_text(f"model_config_list {{ config {{ {model} }} }}")
    results = while_it_serves(lambda server: (server.rest_port, server.models.status("a", label="s").keys()))
    outcome = musicnet("serve", f"--model_config_file={config}", "--port=0", "--rest_api_port=-1")
    assert outcome.status == 0
    assert results == [(None, {1: None}.keys())]
    assert "REST" not in outcome.stdout


@pytest.mark.parametrize(
    ("args", "status", "reason"),
    [
        (["notes"], 2, "unexpected argument 'notes'"),
        (["--model_base_path=a", "--model_config_file=b"], 2, "not both"),
        (["--model_name=notes"], 2, "--model_base_path, which is not given"),
        (["--port=70000"], 2, "port"),
        (["--model_base_path=nowhere"], 1, "nowhere: no such folder"),
        (["--model_config_file=nowhere"], 1, "nowhere: not found"),
        (["--model_base_path=.", "--batching_parameters_file=nowhere"], 1, "nowhere: not found"),
    ],
)
def test_what_is_wrong_is_told_before_anything_is_served(musicnet, args, status, reason):
    outcome = musicnet("serve", *args)
    assert outcome.status == status
    assert reason in outcome.stderr
    assert len(outcome.stderr.splitlines()) == 1


@pytest.fixture
def two_shipped(tiny_run, toy, tmp_path, monkeypatch):
    """A library that ships one model under two names, and exports quickly."""
    for name in ("second", "first"):
        shutil.copytree(tiny_run, tmp_path / "pretrained" / name)
    monkeypatch.setattr(export, "export", lambda name, folder, version: shutil.copytree(toy, folder / str(version)))
    monkeypatch.setattr(inference, "PRETRAINED", tmp_path / "pretrained")
    monkeypatch.setitem(inference.DEFAULT_MODELS, "notes", "second")
    return tmp_path / "pretrained"


def test_shipped_models_are_exported_once_and_one_has_the_name_of_its_task(two_shipped, tmp_path):
    said: list[str] = []
    models = shipped.shipped_models(tmp_path / "cache", said.append)
    assert [model.names for model in models] == [("second", "notes"), ("first",)]
    assert [(model.base_path / "1" / inference.SAVED_MODEL).exists() for model in models] == [True, True]
    assert [text.split()[1] for text in said] == ["second", "first"]
    assert shipped.shipped_models(tmp_path / "cache", said.append) == models
    assert len(said) == 2
    (two_shipped / "first" / "README.md").write_text("changed")
    _, changed = shipped.shipped_models(tmp_path / "cache", said.append)
    assert changed.base_path != models[1].base_path


def test_a_cache_that_cannot_be_written_is_told(two_shipped, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot write there"):
        shipped.shipped_models(tmp_path / "file", print)


@pytest.mark.slow
def test_the_command_alone_serves_what_ships(tmp_path):
    command = [sys.executable, "-m", "musicnet_tf", "serve", "--port=0", "--rest_api_port=0"]
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            lines = iter(process.stdout.readline, "")
            greeting = next(match for line in lines if (match := GREETING.match(line)))
            assert {f"{inference.DEFAULT_MODEL}@1", "notes@1"} <= set(greeting[3].split(", "))
            (told,) = predict(greeting[1], "notes", inference.DESCRIBE, each=np.zeros(1, np.int32)).values()
            shipped_manifest = Manifest.read(inference.shipped()[inference.DEFAULT_MODEL])
            assert Manifest.model_validate_json(told[0]) == shipped_manifest
            process.terminate()
            assert process.wait(SECONDS) == 0
        finally:
            process.kill()
