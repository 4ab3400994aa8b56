"""What runs TensorFlow Serving in production: its configuration files, the image and Compose.

Linters and schemas see each file by itself; what several of them must agree on is told here.
"""

from __future__ import annotations

import fnmatch
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import ClassVar

import pytest
from conftest import ROOT

pytest.importorskip("tensorflow_serving", reason="needs the extra 'serving'")

from deployment_files import (
    SERVING,
    batching,
    command,
    config_files,
    container,
    instruction,
    instructions,
    manifest,
    mapping,
    models,
    monitoring,
    text,
)

from musicnet_tf import inference
from serving.address import PORTS, Address
from serving.options import Options

# What `tensorflow_model_server` takes, from tensorflow_serving/model_servers/main.cc: the flags that an earlier and a
# later release than ours have in common, without the experimental ones. It refuses to start with others.
FLAGS = """
    allow_version_labels_for_unavailable_models batching_parameters_file enable_batching enable_model_warmup
    enable_per_model_batching_parameters enable_profiler enable_signature_method_name_check
    file_system_poll_wait_seconds flush_filesystem_caches grpc_channel_arguments grpc_max_threads grpc_socket_path
    load_retry_interval_micros max_num_load_retries model_base_path model_config_file
    model_config_file_poll_wait_seconds model_name monitoring_config_file num_load_threads
    num_request_iterations_for_warmup num_unload_threads per_process_gpu_memory_fraction platform_config_file port
    remove_unused_fields_from_bundle_metagraph rest_api_enable_cors_support rest_api_num_threads rest_api_port
    rest_api_timeout_in_ms saved_model_tags ssl_config_file tensorflow_inter_op_parallelism
    tensorflow_intra_op_parallelism tensorflow_session_config_file tensorflow_session_parallelism
    thread_pool_factory_config_file version
"""

# Counters by their names in TensorFlow's sources (slashes become colons on the way to Prometheus), with their labels:
# tensorflow_serving/servables/tensorflow/util.cc, tensorflow_serving/batching/batching_session.cc,
# tensorflow/cc/saved_model/loader.cc. Distributions appear as _bucket, _sum and _count.
COUNTERS = {
    ":tensorflow:serving:request_count": {"model_name", "status"},
    ":tensorflow:serving:request_latency": {"model_name", "API", "entrypoint"},
    ":tensorflow:serving:runtime_latency": {"model_name", "API", "runtime"},
    ":tensorflow:serving:batching_session:queuing_latency": {"thread_pool_name"},
    ":tensorflow:cc:saved_model:load_attempt_count": {"model_path", "status"},
}


def flags_told(of: str) -> list[str]:
    """Names of the flags on command lines of the server in the README, `musicnet serve` among them."""
    lines = re.findall(r"^ +(?:tensorflow_model_server|musicnet serve) (.*)$", of, re.MULTILINE)
    lines += re.findall(r"`(--\w+)", of)
    return [word.removeprefix("--").partition("=")[0] for line in lines for word in line.split() if word[:2] == "--"]


def executable(name: str) -> Path:
    """A program that came with a package of this environment."""
    path = Path(sys.executable).with_name(name)
    if not path.exists():
        pytest.skip(f"{name} is not installed beside Python; `make` brings it")
    return path


# Configuration


def test_labels_name_versions_that_are_served():
    assert models()
    for model in models():
        assert model.base_path == f"/models/{model.name}"
        assert model.model_platform == "tensorflow"
        assert set(model.version_labels) == {"stable", "canary"}
        assert set(model.version_labels.values()) == set(model.model_version_policy.specific.versions)


def test_batching_config_takes_what_a_client_sends_at_once():
    assert batching().max_batch_size.value == Options().max_windows
    assert 0 < batching().batch_timeout_micros.value < Options().timeout * 1e6
    assert batching().max_enqueued_batches.value > 0


def test_batches_run_on_as_many_threads_as_there_are_cores():
    threads = batching().num_batch_threads.value
    service = mapping("compose.yaml")["services"]["serving"]
    assert service["command"] == [f"--tensorflow_{way}_op_parallelism={threads}" for way in ("intra", "inter")]
    assert service["deploy"]["resources"]["limits"]["cpus"] == str(threads)
    assert container()["resources"]["limits"]["cpu"] == str(threads)
    (cores,) = (entry for entry in container()["env"] if entry["name"] == "CORES")
    assert cores["valueFrom"]["resourceFieldRef"]["resource"] == "limits.cpu"
    assert container()["args"] == [f"--tensorflow_{way}_op_parallelism=$(CORES)" for way in ("intra", "inter")]


# The image


def test_dockerfile_passes_its_linter(tmp_path):
    hadolint = executable("hadolint")
    outcome = subprocess.run([hadolint, SERVING / "Dockerfile"], capture_output=True, text=True)
    assert outcome.returncode == 0, outcome.stdout
    (tmp_path / "Dockerfile").write_text(text("Dockerfile") + "USER root\n")
    assert "DL3002" in subprocess.run([hadolint, tmp_path / "Dockerfile"], capture_output=True, text=True).stdout


def test_the_image_is_pinned_and_runs_without_root():
    assert re.fullmatch(r"SERVER=tensorflow/serving:2\.17\.\d+", instruction("ARG"))
    assert instruction("FROM") == "${SERVER}"
    assert instruction("USER") == "65534:65534"
    order = re.findall(r"^[A-Z]+", text("Dockerfile"), re.MULTILINE)
    assert order.index("USER") > max(at for at, name in enumerate(order) if name == "COPY")


def test_what_the_image_copies_is_there_and_sent_to_the_builder():
    lines = text("Dockerfile.dockerignore").splitlines()
    sent = [line[1:] for line in lines if line.startswith("!")]
    assert "*" in lines
    copied = [source for line in instructions("COPY") for source in line.split()[:-1] if source[:2] != "--"]
    assert [source for source in copied if not any(fnmatch.fnmatch(source.rstrip("/"), each) for each in sent)] == []
    assert [source for source in copied if not (ROOT / source).is_file()] == ["exported/"]


def test_flags_name_the_files_that_the_image_holds():
    ((mode, *copied, _),) = (line.split() for line in instructions("COPY") if line.endswith(" /config/"))
    assert mode == "--chmod=0555"
    assert config_files() == {f"/config/{Path(source).name}" for source in copied}


def test_every_flag_is_one_of_the_server():
    added = mapping("compose.yaml")["services"]["serving"]["command"] + container()["args"]
    told = flags_told(text("README.md"))
    assert {"model_base_path", "ssl_config_file"} <= set(told)
    given = [*command(), *told, *(word.removeprefix("--").partition("=")[0] for word in added)]
    of_others = {"server", "server_ca", "time"}  # of `musicnet transcribe` and `docker stop`
    assert set(given) - set(FLAGS.split()) - of_others == set()


def test_labels_are_taken_at_start_and_moved_while_running():
    assert command()["allow_version_labels_for_unavailable_models"] == ""
    seconds = command()["model_config_file_poll_wait_seconds"]
    assert f"every {seconds} seconds" in text("README.md")


def test_requests_have_time_to_end():
    channel = dict(entry.split("=") for entry in command()["grpc_channel_arguments"].split(","))
    assert int(command()["rest_api_timeout_in_ms"]) == Options().timeout * 1000
    assert int(channel["grpc.max_connection_age_grace_ms"]) >= Options().timeout * 1000
    assert int(channel["grpc.max_connection_age_ms"]) > int(channel["grpc.max_connection_age_grace_ms"])


# Compose


def check_compose(path: Path) -> subprocess.CompletedProcess[str]:
    schema = ["--builtin-schema", "vendor.compose-spec"]
    return subprocess.run([executable("check-jsonschema"), *schema, path], capture_output=True, text=True)


def test_compose_file_fits_its_schema(tmp_path):
    outcome = check_compose(SERVING / "compose.yaml")
    assert outcome.returncode == 0, outcome.stdout
    (tmp_path / "compose.yaml").write_text(text("compose.yaml").replace("read_only: true\n", "readonly: true\n"))
    assert "readonly" in check_compose(tmp_path / "compose.yaml").stdout


def test_containers_of_compose_can_do_little():
    for name, service in mapping("compose.yaml")["services"].items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory", "pids"}, name
        assert all(volume.get("read_only") or volume["type"] == "volume" for volume in service["volumes"]), name
        assert all(re.match(r"127\.0\.0\.1:|\$\{BIND:-127\.0\.0\.1\}:", port) for port in service["ports"]), name
        assert not service.get("privileged"), name


def test_compose_mounts_what_the_server_reads():
    services = mapping("compose.yaml")["services"]
    targets = {volume["target"]: volume["source"] for volume in services["serving"]["volumes"]}
    assert targets == {"/config": ".", "/models": "${EXPORTS:-../exported}"}
    assert all((SERVING / Path(path).relative_to("/config")).is_file() for path in config_files())
    build = services["serving"]["build"]
    assert (SERVING / build["context"] / build["dockerfile"]).resolve() == (SERVING / "Dockerfile").resolve()
    files = {volume["source"] for volume in services["prometheus"]["volumes"] if volume["type"] == "bind"}
    assert files == {"./prometheus.yaml", "./alerts.yaml"}


def test_docker_itself_reads_the_compose_file():
    docker = shutil.which("docker")
    if not docker or subprocess.run([docker, "compose", "version"], capture_output=True).returncode:
        pytest.skip("no `docker compose` on the PATH")
    arguments = [docker, "compose", "--file", SERVING / "compose.yaml", "--profile", "monitoring", "config", "--quiet"]
    outcome = subprocess.run(arguments, capture_output=True, text=True)
    assert outcome.returncode == 0, outcome.stderr


# One port, one path and one name of a model, wherever they are told


def test_ports_agree():
    grpc, rest = command()["port"], command()["rest_api_port"]
    assert {scheme: PORTS[scheme] for scheme in ("grpc", "http")} == {"grpc": int(grpc), "http": int(rest)}
    assert instruction("EXPOSE").split() == [grpc, rest]
    published = mapping("compose.yaml")["services"]["serving"]["ports"]
    assert [entry.split(":")[-2:] for entry in published] == [[grpc, grpc], [rest, rest]]
    assert {p["name"]: str(p["containerPort"]) for p in container()["ports"]} == {"grpc": grpc, "rest": rest}
    service = {p["name"]: (str(p["port"]), p["targetPort"]) for p in manifest("Service")["spec"]["ports"]}
    assert service == {"grpc": (grpc, "grpc"), "rest": (rest, "rest")}
    assert f"port=${{2:-{rest}}}" in text("healthcheck.sh")
    assert f"--publish {grpc}:{grpc} --publish {rest}:{rest}" in text("README.md")


def test_the_path_of_counters_agrees():
    config = monitoring().prometheus_config
    assert config.enable
    (job,) = mapping("prometheus.yaml")["scrape_configs"]
    assert job["metrics_path"] == config.path
    assert job["static_configs"] == [{"targets": [f"serving:{command()['rest_api_port']}"]}]
    assert container()["livenessProbe"]["httpGet"] == {"path": config.path, "port": "rest"}
    assert f":{command()['rest_api_port']}{config.path}" in text("README.md")


def test_addresses_in_the_readme_are_of_the_model_that_is_served():
    found = re.findall(r"\b(?:grpcs?|https?)://[^\s\"`…\[]+", text("README.md"))
    addresses = [Address.parse(each) for each in found if "/v1/" not in each and "/" in each.partition("://")[2]]
    served, ports = {model.name for model in models()}, {int(command()["port"]), int(command()["rest_api_port"])}
    assert {address.model for address in addresses} == served
    assert {address.label for address in addresses} == {"", "stable", "canary"}
    assert {address.port for address in addresses if address.host == "localhost"} == ports
    rest = re.findall(r"http://localhost:(\d+)/v1/models/(\w+)", text("README.md"))
    assert set(rest) == {(command()["rest_api_port"], name) for name in served}
    exports = re.findall(r"exported/(\w+)", text("README.md") + text("Dockerfile"))
    assert set(exports) == served


def test_commands_in_the_readme_have_the_flags_that_they_give(musicnet):
    joined = re.sub(r"\\\n\s*", " ", text("README.md"))
    given = [line.split() for line in re.findall(r"^    musicnet (.*)$", joined, re.MULTILINE)]
    assert {verb for verb, *_ in given} == {"export", "listen", "serve", "transcribe", "transcribe_batch"}
    for verb in sorted({verb for verb, *_ in given}):
        known = set(re.findall(r"--(?:\[no\])?(\w+)", musicnet(verb, "--help").stdout))
        asked = {
            word[2:].partition("=")[0] for name, *rest in given if name == verb for word in rest if word[:2] == "--"
        }
        assert asked - known == set(), verb


def test_the_readme_tells_how_long_a_recording_may_be():
    assert f"up to {inference.MAX_WAV_SECONDS} seconds each" in text("README.md")
    assert f'"signature_name": "{inference.WAV_SIGNATURE}", "inputs": {{"{inference.WAV}":' in text("README.md")
    assert f'"inputs": {{"{inference.WINDOWS}":' in text("README.md")
    assert text("README.md").count(f'"{inference.NUM_FRAMES}":') == 2


def test_the_readme_tells_of_every_file():
    files = [path.name for path in SERVING.iterdir() if path.suffix in {".config", ".yaml", ".sh"}]
    assert [name for name in [*files, "Dockerfile"] if f"`{name}`" not in text("README.md")] == []


# Health and counters


class Status(BaseHTTPRequestHandler):
    """TensorFlow Serving's answer for a model's status; `states` tells each model's."""

    states: ClassVar[dict[str, str]] = {}

    def do_GET(self) -> None:
        model = self.path.removeprefix("/v1/models/")
        version = {"version": "1", "state": self.states.get(model), "status": {"error_code": "OK"}}
        answer = {"model_version_status": [version]} if model in self.states else {"error": f"no versions of {model}"}
        self.send_response(200 if model in self.states else 404)
        self.end_headers()
        self.wfile.write(json.dumps(answer, indent=1).encode())

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@pytest.fixture
def rest_port() -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Status)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


def healthcheck(config: Path, port: int) -> subprocess.CompletedProcess[str]:
    arguments = ["bash", str(SERVING / "healthcheck.sh"), str(config), str(port)]
    return subprocess.run(arguments, capture_output=True, text=True, timeout=30)


@pytest.mark.parametrize(
    ("states", "unhealthy"),
    [
        ({"notes": "AVAILABLE", "beats": "AVAILABLE"}, ""),
        ({"notes": "AVAILABLE", "beats": "LOADING"}, "beats"),
        ({"notes": "UNLOADING", "beats": "AVAILABLE"}, "notes"),
        ({"notes": "AVAILABLE"}, "beats"),
    ],
)
def test_health_is_that_every_model_answers(rest_port, tmp_path, monkeypatch, states, unhealthy):
    monkeypatch.setattr(Status, "states", states)
    config = tmp_path / "models.config"
    config.write_text(text("models.config") + text("models.config").replace("notes", "beats"))
    outcome = healthcheck(config, rest_port)
    assert outcome.returncode == bool(unhealthy), outcome.stderr
    assert outcome.stderr.partition(":")[0] == unhealthy


def test_the_health_check_passes_its_linter():
    shellcheck = shutil.which("shellcheck")
    if not shellcheck:
        pytest.skip("no shellcheck on the PATH")
    outcome = subprocess.run([shellcheck, SERVING / "healthcheck.sh"], capture_output=True, text=True)
    assert outcome.returncode == 0, outcome.stdout


def test_no_server_or_no_model_is_not_healthy(tmp_path):
    assert healthcheck(SERVING / "models.config", 1).returncode == 1
    (tmp_path / "empty.config").write_text("model_config_list {}\n")
    assert "names no model" in healthcheck(tmp_path / "empty.config", 1).stderr


def test_alerts_ask_for_counters_that_there_are():
    known = {"up": {"job", "instance"}, **COUNTERS}
    known |= {f"{name}_bucket": {"le", *labels} for name, labels in COUNTERS.items() if name.endswith("_latency")}
    (group,) = mapping("alerts.yaml")["groups"]
    for rule in group["rules"]:
        name, query = rule["alert"], rule["expr"]
        counters = set(re.findall(r"(?<![\w:])(?::[\w:]+|up)(?![\w:])", query))
        assert counters, name
        assert counters <= set(known), name
        labels = set(re.findall(r"(\w+)(?:=~|!~|!=|=)\"", query))
        labels |= {label for found in re.findall(r"by \(([^)]*)\)", query) for label in re.split(r",\s*", found)}
        labels |= set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]))
        assert labels <= set().union(*(known[counter] for counter in counters)), name
        assert f"`{name}`" in text("README.md")


def test_the_readme_tells_of_the_counters():
    told = re.findall(r"^\| `(:[\w:]+)\{([^}]*)\}`", text("README.md"), re.MULTILINE)
    assert {name: set(labels.split(", ")) for name, labels in told} == COUNTERS
