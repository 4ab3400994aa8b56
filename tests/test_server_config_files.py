"""TensorFlow Serving's configuration files, those of this repository among them."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import ROOT

pytest.importorskip("tensorflow_serving", reason="needs the extra 'serving'")

from musicnet_tf.errors import ConfigError
from serving.server import Batching, ModelConfig, VersionPolicy, config_files, settings

PEM = "-----BEGIN CERTIFICATE-----\\nMII\\n"


@pytest.fixture
def written(tmp_path):
    def write(text):
        (tmp_path / "file.config").write_text(text)
        return tmp_path / "file.config"

    return write


def test_models(written):
    path = written(
        """
        model_config_list {
          config { name: "notes" base_path: "/m/notes" model_platform: "tensorflow"
                   model_version_policy { specific { versions: 2 versions: 3 } }
                   version_labels { key: "stable" value: 2 } version_labels { key: "canary" value: 3 } }
          config { name: "beats" base_path: "/m/beats" model_version_policy { latest { num_versions: 2 } } }
          config { name: "tags" base_path: "/m/tags" model_version_policy { all {} } }
          config { name: "plain" base_path: "/m/plain" }
        }
        """
    )
    assert config_files.read_models(path) == (
        ModelConfig("notes", Path("/m/notes"), VersionPolicy(specific=frozenset({2, 3})), {"stable": 2, "canary": 3}),
        ModelConfig("beats", Path("/m/beats"), VersionPolicy(latest=2)),
        ModelConfig("tags", Path("/m/tags"), VersionPolicy(all=True)),
        ModelConfig("plain", Path("/m/plain"), VersionPolicy(latest=1)),
    )


def test_the_files_of_this_repository_are_read():
    names = [model.name for model in config_files.read_models(ROOT / "serving/models.config")]
    assert "notes" in names
    assert config_files.read_batching(ROOT / "serving/batching.config").enabled
    assert config_files.read_monitoring(ROOT / "serving/monitoring.config") == "/monitoring/prometheus/metrics"


def test_batching(written):
    path = written("max_batch_size { value: 8 } num_batch_threads { value: 3 } allowed_batch_sizes: 8")
    assert config_files.read_batching(path) == Batching(max_batch_size=8, num_batch_threads=3)
    assert not config_files.read_batching(path, enabled=False).enabled
    with pytest.raises(ConfigError, match=r"file.config: max_batch_size: must be at least 1, got 0"):
        config_files.read_batching(written("max_batch_size { value: 0 }"))
    with pytest.raises(ConfigError, match=r"batch_timeout_micros: must not be negative, got -1"):
        config_files.read_batching(written("batch_timeout_micros { value: -1 }"))


def test_monitoring(written):
    assert config_files.read_monitoring(written("prometheus_config { enable: true path: '/m' }")) == "/m"
    assert config_files.read_monitoring(written("prometheus_config { path: '/m' }")) is None
    default = config_files.read_monitoring(written("prometheus_config { enable: true }"))
    assert default == settings.Settings.metrics_path
    with pytest.raises(ConfigError, match="must begin with /, got 'm'"):
        config_files.read_monitoring(written("prometheus_config { enable: true path: 'm' }"))


def test_certificates(written):
    tls = config_files.read_tls(written(f"server_key: '{PEM}' server_cert: '{PEM}' custom_ca: '{PEM}'"))
    assert (tls.certificate, tls.client_authority) == (b"-----BEGIN CERTIFICATE-----\nMII\n", None)
    assert "MII" not in repr(tls).partition("certificate=")[0]  # the key is not shown
    mutual = f"server_key: '{PEM}' server_cert: '{PEM}' client_verify: true"
    with pytest.raises(ConfigError, match="key 'custom_ca': must hold the PEM text itself"):
        config_files.read_tls(written(mutual))
    assert config_files.read_tls(written(f"{mutual} custom_ca: '{PEM}'")).client_authority
    with pytest.raises(ConfigError, match="key 'server_key': must hold the PEM text itself") as caught:
        config_files.read_tls(written("server_key: '/etc/secret.pem'"))
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("model_config_list { config { nam: 'x' } }", r"not a ModelServerConfig, at line:column 1:30 : .*\"nam\""),
        ("custom_model_config {}", "has no model_config_list"),
        ("", "has no model_config_list"),
        ("model_config_list { config { name: 'x' } }", "model 'x': needs a name and a base_path"),
        (
            "model_config_list { config { name: 'x' base_path: '/x' model_platform: 'torch' } }",
            "model 'x': key 'model_platform': must be \"tensorflow\", got 'torch'",
        ),
        (
            "model_config_list { config { name: 'x' base_path: '/x' model_version_policy { specific {} } } }",
            "model 'x': key 'specific': names no version",
        ),
    ],
)
def test_faults_of_models_are_told_in_one_line(written, text, reason):
    with pytest.raises(ConfigError, match=rf"file.config: {reason}") as caught:
        config_files.read_models(written(text))
    assert "\n" not in str(caught.value)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(ConfigError, match=r"none.config: not found"):
        config_files.read_batching(tmp_path / "none.config")
    with pytest.raises(ConfigError, match="cannot be read"):
        config_files.read_monitoring(tmp_path)
    (tmp_path / "bytes").write_bytes(b"\xff")
    with pytest.raises(ConfigError, match=r"bytes: cannot be read"):
        config_files.read_tls(tmp_path / "bytes")


def test_a_single_model(tmp_path):
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "saved_model.pb").touch()
    assert settings.single_model("notes", tmp_path) == ModelConfig("notes", tmp_path)
    with pytest.raises(ConfigError, match="is a version itself; name the folder above it"):
        settings.single_model("notes", tmp_path / "1")
    with pytest.raises(ConfigError, match="no such folder"):
        settings.single_model("notes", tmp_path / "none")
