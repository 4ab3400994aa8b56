"""What runs TensorFlow Serving in production: its configuration files, the image, Compose and Kubernetes."""

from __future__ import annotations

import pytest
from conftest import ROOT
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format, wrappers_pb2

pytest.importorskip("tensorflow_serving", reason="needs the extra 'serving'")

from tensorflow_serving.config import model_server_config_pb2

from serving import client


def config_text(name):
    return (ROOT / "serving" / name).read_text(encoding="utf-8")


def test_models_config_serves_two_versions_of_the_model_in_the_image():
    config = text_format.Parse(config_text("models.config"), model_server_config_pb2.ModelServerConfig())
    (model,) = config.model_config_list.config
    assert (model.name, model.base_path, model.model_platform) == ("notes", "/models/notes", "tensorflow")
    assert model.model_version_policy.latest.num_versions == 2
    assert f"COPY ${{EXPORT}} {model.base_path}" in config_text("Dockerfile")


# tensorflow-serving-api holds no messages for these two files; fields as in its repository's
# servables/tensorflow/session_bundle_config.proto and config/monitoring_config.proto.
BATCHING = {
    "max_batch_size": (1, ".google.protobuf.Int64Value"),
    "batch_timeout_micros": (2, ".google.protobuf.Int64Value"),
    "max_enqueued_batches": (3, ".google.protobuf.Int64Value"),
    "num_batch_threads": (4, ".google.protobuf.Int64Value"),
}
MONITORING = {"prometheus_config": (1, ".test.Prometheus")}
PROMETHEUS = {"enable": (1, "bool"), "path": (2, "string")}


def parsed(name, root):
    kinds = {"Batching": BATCHING, "Monitoring": MONITORING, "Prometheus": PROMETHEUS}
    file = descriptor_pb2.FileDescriptorProto(name="test", package="test", syntax="proto3")
    file.dependency.append("google/protobuf/wrappers.proto")
    for kind, fields in kinds.items():
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
    return text_format.Parse(config_text(name), message)


def test_batching_config_takes_what_a_client_sends_at_once():
    config = parsed("batching.config", "Batching")
    assert config.max_batch_size.value == client.MAX_WINDOWS
    assert 0 < config.batch_timeout_micros.value < client.TIMEOUT * 1e6
    assert config.max_enqueued_batches.value > 0
    assert config.num_batch_threads.value > 0


def test_monitoring_config_shows_counters():
    config = parsed("monitoring.config", "Monitoring").prometheus_config
    assert config.enable
    assert config.path.startswith("/")


def test_the_image_copies_and_names_every_configuration_and_runs_without_root():
    dockerfile = config_text("Dockerfile")
    for name in ("models.config", "batching.config", "monitoring.config"):
        assert f"serving/{name}" in dockerfile
        assert f"=/models/{name}" in dockerfile
    user = dockerfile.index("\nUSER 65534")
    assert user < dockerfile.index("\nENTRYPOINT")
