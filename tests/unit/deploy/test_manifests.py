"""Manifests, compose file and Dockerfile, checked without a cluster, against the code that they run."""

import importlib
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from handrail_runtime.settings import Settings
from kubernetes_validate.utils import validate

ROOT = Path(__file__).parents[3]
K8S = ROOT / "deploy" / "k8s"
SERVICES = ("gateway", "scheduler", "agent-runner", "approvals", "projector")
KNOWN_ENV = {f"HANDRAIL_{name.upper()}" for name in Settings.model_fields}
DOCUMENTS: list[dict[str, Any]] = [
    document
    for path in sorted(K8S.glob("*.yaml"))
    if path.name != "kustomization.yaml"
    for document in yaml.safe_load_all(path.read_text())
]
WORKLOADS = [d for d in DOCUMENTS if d["kind"] in ("Deployment", "StatefulSet", "Job")]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "deploy" / "compose" / "compose.yaml").read_text())
TARGETS = set(
    re.findall(r"^FROM base AS (\S+)$", (ROOT / "deploy" / "docker" / "Dockerfile").read_text(), re.MULTILINE)
)


def named(document: dict[str, Any]) -> str:
    return f"{document['kind']}/{document['metadata']['name']}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=named)
def test_manifest_is_valid_kubernetes(document: dict[str, Any]) -> None:
    validate(document, "1.31", strict=True)


def test_kustomization_lists_every_file() -> None:
    listed = yaml.safe_load((K8S / "kustomization.yaml").read_text())["resources"]
    assert sorted(listed) == sorted(p.name for p in K8S.glob("*.yaml") if p.name != "kustomization.yaml")


@pytest.mark.parametrize("document", WORKLOADS, ids=named)
def test_containers_are_restricted(document: dict[str, Any]) -> None:
    pod = document["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] and pod["automountServiceAccountToken"] is False
    for container in pod["containers"]:
        context = container["securityContext"]
        assert context["readOnlyRootFilesystem"] and not context["allowPrivilegeEscalation"]
        assert context["capabilities"]["drop"] == ["ALL"]
        assert container["image"].removeprefix("handrail/") in TARGETS
        assert {"requests", "limits"} <= set(container["resources"])


@pytest.mark.parametrize("service", SERVICES)
def test_service_has_probes_port_and_time_to_drain(service: str) -> None:
    [document] = [d for d in WORKLOADS if d["metadata"]["name"] == service]
    pod = document["spec"]["template"]["spec"]
    [container] = pod["containers"]
    assert {"startupProbe", "readinessProbe", "livenessProbe"} <= set(container)
    assert pod["terminationGracePeriodSeconds"] > Settings().drain_seconds
    module = importlib.import_module(
        f"handrail_{service.replace('-', '_')}.{'app' if service == 'gateway' else 'main'}"
    )
    port = getattr(module, "PORT", 8000)
    assert container["ports"][0]["containerPort"] == port


def test_environment_names_exist_in_the_settings() -> None:
    for document in WORKLOADS:
        for container in document["spec"]["template"]["spec"]["containers"]:
            assert {entry["name"] for entry in container.get("env", [])} <= KNOWN_ENV
    [config] = [d for d in DOCUMENTS if d["kind"] == "ConfigMap"]
    assert set(config["data"]) <= KNOWN_ENV
    for service in COMPOSE["services"].values():
        names = {name for name in service.get("environment", {}) if name.startswith("HANDRAIL_")}
        assert names <= KNOWN_ENV


def test_compose_builds_targets_that_exist_and_listens_on_loopback() -> None:
    for service in COMPOSE["services"].values():
        if "build" in service:
            assert service["build"]["target"] in TARGETS
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
    assert set(SERVICES) <= set(COMPOSE["services"])
