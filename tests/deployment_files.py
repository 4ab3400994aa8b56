"""The files that deploy TensorFlow Serving, read for tests."""

from __future__ import annotations

import json
import re
from typing import Any

import yaml
from conftest import ROOT
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format, wrappers_pb2
from tensorflow_serving.config import model_server_config_pb2

SERVING = ROOT / "serving"
MANIFESTS = sorted((SERVING / "kubernetes").glob("*.yaml"))

# tensorflow-serving-api holds no messages for these two files; fields as in its repository's
# servables/tensorflow/session_bundle_config.proto and config/monitoring_config.proto.
_MESSAGES = {
    "Batching": {
        "max_batch_size": (1, ".google.protobuf.Int64Value"),
        "batch_timeout_micros": (2, ".google.protobuf.Int64Value"),
        "max_enqueued_batches": (3, ".google.protobuf.Int64Value"),
        "num_batch_threads": (4, ".google.protobuf.Int64Value"),
    },
    "Monitoring": {"prometheus_config": (1, ".test.Prometheus")},
    "Prometheus": {"enable": (1, "bool"), "path": (2, "string")},
}


def text(name: str) -> str:
    """Of a file in serving/."""
    return (SERVING / name).read_text(encoding="utf-8")


def mapping(name: str) -> dict[str, Any]:
    """Content of a YAML file in serving/."""
    return yaml.safe_load(text(name))


def instructions(name: str) -> list[str]:
    """Arguments of every instruction of the Dockerfile that begins so, each on one line."""
    joined = re.sub(r"\\\n\s*", " ", text("Dockerfile"))
    return re.findall(rf"^{name} (.*)$", joined, re.MULTILINE)


def instruction(name: str) -> str:
    """The same of the only one."""
    (found,) = instructions(name)
    return found


def command() -> dict[str, str]:
    """Flag → value of the image's command line."""
    program, *arguments = json.loads(instruction("ENTRYPOINT"))
    assert program == "tensorflow_model_server"
    return {flag.removeprefix("--"): value for flag, _, value in (argument.partition("=") for argument in arguments)}


def config_files() -> set[str]:
    """Paths in the image that its command line names."""
    return {value for flag, value in command().items() if flag.endswith("_file")}


def models() -> list[Any]:
    """What `models.config` serves."""
    config = text_format.Parse(text("models.config"), model_server_config_pb2.ModelServerConfig())
    return list(config.model_config_list.config)


def batching() -> Any:
    """`batching.config`."""
    return _parsed("batching.config", "Batching")


def monitoring() -> Any:
    """`monitoring.config`."""
    return _parsed("monitoring.config", "Monitoring")


def manifest(kind: str) -> dict[str, Any]:
    """The one Kubernetes manifest of a kind."""
    (found,) = (m for m in (yaml.safe_load(p.read_text(encoding="utf-8")) for p in MANIFESTS) if m["kind"] == kind)
    return found


def pod() -> dict[str, Any]:
    """What the Deployment runs."""
    return manifest("Deployment")["spec"]["template"]["spec"]


def container() -> dict[str, Any]:
    """The one container of the pod."""
    (found,) = pod()["containers"]
    return found


def _parsed(name: str, root: str) -> Any:
    file = descriptor_pb2.FileDescriptorProto(name="test", package="test", syntax="proto3")
    file.dependency.append("google/protobuf/wrappers.proto")
    for kind, fields in _MESSAGES.items():
        message = file.message_type.add(name=kind)
        for field, (number, type_name) in fields.items():
            described = message.field.add(name=field, number=number, label=1)
            if type_name.startswith("."):
                described.type_name = type_name
            else:
                described.type = descriptor_pb2.FieldDescriptorProto.Type.Value(f"TYPE_{type_name.upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(wrappers_pb2.DESCRIPTOR.serialized_pb)
    pool.Add(file)
    message = message_factory.GetMessageClass(pool.FindMessageTypeByName(f"test.{root}"))()
    return text_format.Parse(text(name), message)
