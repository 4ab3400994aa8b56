"""Kubernetes manifests: what schemas see, and what only several of them together tell."""

from __future__ import annotations

import shutil
import subprocess

import pytest
import yaml

pytest.importorskip("tensorflow_serving", reason="needs the extra 'serving'")

from deployment_files import (
    MANIFESTS,
    SERVING,
    command,
    config_files,
    container,
    instruction,
    instructions,
    manifest,
    mapping,
    pod,
    text,
)

from serving.options import Options


@pytest.mark.parametrize("version", ["1.27.0", "1.36.0"])
def test_manifests_fit_the_schemas_of_kubernetes(version):
    kubernetes_validate = pytest.importorskip("kubernetes_validate", reason="needs the extra 'test'")
    for path in MANIFESTS:
        kubernetes_validate.validate(yaml.safe_load(path.read_text(encoding="utf-8")), version, strict=True)
    misspelt = manifest("Deployment")
    misspelt["spec"]["template"]["spec"]["containers"][0]["readynessProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError, match="readynessProbe"):
        kubernetes_validate.validate(misspelt, version, strict=True)


def test_pods_can_do_little():
    spec, box = pod(), container()
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert f"{spec['securityContext']['runAsUser']}:{spec['securityContext']['runAsGroup']}" == instruction("USER")
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert box["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert all(mount["readOnly"] for mount in box["volumeMounts"])
    assert not set(spec) & {"hostNetwork", "hostPID", "hostIPC"}


def test_pods_have_limits():
    resources = container()["resources"]
    assert set(resources["limits"]) == set(resources["requests"]) == {"cpu", "memory", "ephemeral-storage"}


def test_probes_ask_what_the_image_holds():
    box = container()
    (installed,) = (line.split()[-1] for line in instructions("COPY") if "healthcheck.sh" in line)
    assert installed == "/usr/local/bin/healthcheck"
    assert instruction("HEALTHCHECK").endswith('CMD ["healthcheck"]')
    assert box["startupProbe"]["exec"] == box["readinessProbe"]["exec"] == {"command": ["healthcheck"]}
    patience = box["livenessProbe"]["periodSeconds"] * box["livenessProbe"]["failureThreshold"]
    assert patience > int(command()["rest_api_timeout_in_ms"]) / 1000


def test_requests_end_before_a_pod_does():
    _, pause = container()["lifecycle"]["preStop"]["exec"]["command"]
    assert pod()["terminationGracePeriodSeconds"] > int(pause) > Options().timeout
    assert f"{pause} seconds to end" in text("README.md")


def test_manifests_mean_the_same_pods():
    labels = manifest("Deployment")["spec"]["template"]["metadata"]["labels"]
    selectors = [
        manifest("Deployment")["spec"]["selector"]["matchLabels"],
        manifest("Service")["spec"]["selector"],
        manifest("PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        manifest("NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
        pod()["topologySpreadConstraints"][0]["labelSelector"]["matchLabels"],
    ]
    assert labels
    assert selectors == [labels] * len(selectors)


def test_the_autoscaler_alone_says_how_many_pods():
    deployment, scaler = manifest("Deployment"), manifest("HorizontalPodAutoscaler")
    assert scaler["spec"]["scaleTargetRef"] == {
        "apiVersion": deployment["apiVersion"],
        "kind": deployment["kind"],
        "name": deployment["metadata"]["name"],
    }
    assert "replicas" not in deployment["spec"]
    assert {metric["resource"]["name"] for metric in scaler["spec"]["metrics"]} <= set(
        container()["resources"]["requests"]
    )
    assert manifest("PodDisruptionBudget")["spec"]["maxUnavailable"] < scaler["spec"]["minReplicas"]
    assert scaler["spec"]["minReplicas"] < scaler["spec"]["maxReplicas"]


def test_no_pod_goes_before_another_has_come():
    assert manifest("Deployment")["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    startup = container()["startupProbe"]
    assert (
        startup["periodSeconds"] * startup["failureThreshold"]
        < manifest("Deployment")["spec"]["progressDeadlineSeconds"]
    )


def test_the_network_lets_in_clients_and_counters_alone():
    policy = manifest("NetworkPolicy")["spec"]
    assert set(policy["policyTypes"]) == {"Ingress", "Egress"}
    assert policy["egress"] == []
    clients, counters = policy["ingress"]
    assert {port["port"] for port in clients["ports"]} == {port["name"] for port in container()["ports"]}
    assert [port["port"] for port in counters["ports"]] == ["rest"]
    ((label, value),) = clients["from"][0]["podSelector"]["matchLabels"].items()
    assert f'`{label}: "{value}"`' in text("README.md")
    (namespace,) = counters["from"][0]["namespaceSelector"]["matchLabels"].values()
    assert f"namespace `{namespace}`" in text("README.md")


def test_kustomization_takes_every_manifest_and_the_images_configuration():
    kustomization = mapping("kustomization.yaml")
    assert sorted(SERVING / path for path in kustomization["resources"]) == MANIFESTS
    (generated,) = kustomization["configMapGenerator"]
    assert {f"/config/{name}" for name in generated["files"]} == config_files()
    (volume,) = pod()["volumes"]
    assert volume["configMap"]["name"] == generated["name"]
    assert container()["volumeMounts"] == [{"name": volume["name"], "mountPath": "/config", "readOnly": True}]
    assert [image["name"] for image in kustomization["images"]] == [container()["image"]]


def test_kubectl_builds_the_kustomization():
    kubectl = shutil.which("kubectl")
    if not kubectl:
        pytest.skip("no kubectl on the PATH")
    outcome = subprocess.run([kubectl, "kustomize", SERVING], capture_output=True, text=True)
    assert outcome.returncode == 0, outcome.stderr
    built = {each["kind"]: each for each in yaml.safe_load_all(outcome.stdout)}
    assert set(built) == {yaml.safe_load(path.read_text(encoding="utf-8"))["kind"] for path in MANIFESTS} | {
        "ConfigMap"
    }
    spec = built["Deployment"]["spec"]["template"]["spec"]
    assert spec["volumes"][0]["configMap"]["name"] == built["ConfigMap"]["metadata"]["name"] != "musicnet-serving"
    assert {f"/config/{name}" for name in built["ConfigMap"]["data"]} == config_files()
    assert all(content == text(name) for name, content in built["ConfigMap"]["data"].items())
    (image,) = mapping("kustomization.yaml")["images"]
    assert spec["containers"][0]["image"] == f"{image['newName']}:{image['newTag']}"
