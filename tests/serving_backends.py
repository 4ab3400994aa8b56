"""Servers that the client's tests run against: a pytest plugin with the fixture `backend`.

The development server always; TensorFlow Serving too, where `tensorflow_model_server` is on the PATH, or one
that is running is named by the environment variable MUSICNET_TENSORFLOW_SERVING as `host:grpc_port:rest_port`.
It must serve what this writes, `models.config` included:

    python tests/serving_backends.py FOLDER
    tensorflow_model_server --port=8500 --rest_api_port=8501 --model_config_file=FOLDER/models.config
    MUSICNET_TENSORFLOW_SERVING=localhost:8500:8501 pytest tests/test_serving_client.py
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

VARIABLE, PROGRAM, MODEL = "MUSICNET_TENSORFLOW_SERVING", "tensorflow_model_server", "tiny"
VERSIONS, LABEL = (1, 3), ("stable", 1)
_CONFIG = """model_config_list {{
  config {{
    name: "{model}"
    base_path: "{folder}"
    model_platform: "tensorflow"
    model_version_policy {{ all {{}} }}
    version_labels {{ key: "{label}" value: {labelled} }}
  }}
}}
"""


class Backend(NamedTuple):
    """Where a server listens."""

    name: str
    grpc: str
    rest: str

    def address(self, scheme: str, model: str = MODEL) -> str:
        """Of a model on it."""
        return f"{scheme}://{self.grpc if scheme == 'grpc' else self.rest}/{model}"


@pytest.fixture(scope="session")
def served_folder(tiny_export: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model in two versions, and the configuration that serves them."""
    return write_models(tiny_export, tmp_path_factory.mktemp("served"))


@pytest.fixture(scope="session", params=["development", "tensorflow"])
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    """A server of the model `tiny` in versions 1, labelled `stable`, and 3."""
    named, program = os.environ.get(VARIABLE), shutil.which(PROGRAM)
    if request.param == "tensorflow" and not (named or program):
        pytest.skip(f"no TensorFlow Serving: no {PROGRAM} on the PATH, and {VARIABLE} is not set")
    with contextlib.ExitStack() as stack:
        if request.param == "development":
            yield stack.enter_context(_development(request.getfixturevalue("served_folder")))
        elif named:
            host, grpc_port, rest_port = named.rsplit(":", 2)
            yield Backend("tensorflow", f"{host}:{grpc_port}", f"{host}:{rest_port}")
        else:
            yield stack.enter_context(_program(str(program), request.getfixturevalue("served_folder")))


def write_models(export: Path, folder: Path) -> Path:
    """Lays an export out as versions of a model, with a configuration."""
    for version in VERSIONS:
        shutil.copytree(export, folder / MODEL / str(version))
    label, labelled = LABEL
    config = _CONFIG.format(model=MODEL, folder=(folder / MODEL).resolve(), label=label, labelled=labelled)
    (folder / "models.config").write_text(config)
    return folder


@contextlib.contextmanager
def _development(folder: Path) -> Iterator[Backend]:
    from serving.server import ModelConfig, Server, Settings, VersionPolicy

    model = ModelConfig(MODEL, folder / MODEL, VersionPolicy(all=True), dict([LABEL]))
    with Server(Settings((model,), port=0, rest_api_port=0)) as server:
        yield Backend("development", f"localhost:{server.grpc_port}", f"localhost:{server.rest_port}")


@contextlib.contextmanager
def _program(program: str, folder: Path) -> Iterator[Backend]:
    grpc_port, rest_port = _free_port(), _free_port()
    ports = [f"--port={grpc_port}", f"--rest_api_port={rest_port}"]
    with subprocess.Popen([program, *ports, f"--model_config_file={folder / 'models.config'}"]) as process:
        try:
            _wait_for(process, rest_port)
            yield Backend("tensorflow", f"localhost:{grpc_port}", f"localhost:{rest_port}")
        finally:
            process.terminate()


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("localhost", 0))
        return taken.getsockname()[1]


def _wait_for(process: subprocess.Popen, port: int) -> None:
    """Until the server listens, which it does once its models are loaded."""
    while process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("localhost", port), timeout=1):
            return
        time.sleep(0.05)
    raise RuntimeError(f"{PROGRAM} ended with status {process.returncode} before it listened")


if __name__ == "__main__":
    import tiny_models

    from musicnet_tf import export

    target = Path(sys.argv[1])
    run = tiny_models._make_run(target / "run")
    print(write_models(export.export(run, target / "exported"), target) / "models.config")
