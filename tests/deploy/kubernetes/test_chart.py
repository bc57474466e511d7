"""The chart's pods are the images, told what the settings know, and reach whom they must."""

import base64
import tomllib
from pathlib import Path
from typing import Any

import pytest

from cli.serve.all import KINDS as SETTINGS
from gateway.variants.file import read_plan
from serving.security.keys_file import read_keys
from tests.deploy.dockerfile import PROCESSES, read_stages
from tests.deploy.kubernetes.chart import (
    EXAMPLES,
    Manifest,
    container,
    environment,
    of_kind,
    pod,
    render,
    workloads,
)
from tests.deploy.metrics_table import metrics_of

VALUES = (None, *EXAMPLES)
CALLS = {"candidate": {"gateway", "generator"}, "generator": {"gateway"}}
"""Who of one release calls whom."""


@pytest.mark.parametrize("example", VALUES)
def test_pods_are_told_what_settings_know(example: str | None) -> None:
    for process, workload in workloads(render(example)).items():
        known = {f"TANDEM_{name.upper()}" for name in SETTINGS[process].model_fields}
        assert set(environment(workload)) <= known


@pytest.mark.parametrize("example", VALUES)
def test_pods_listen_and_keep_where_their_images_do(example: str | None) -> None:
    for process, workload in workloads(render(example)).items():
        image = read_stages(process)[1]
        ports = {each["name"]: each["containerPort"] for each in container(workload)["ports"]}
        assert str(ports["grpc"]) == image.environment()["TANDEM_PORT"]
        mounts = {each["mountPath"]: each for each in container(workload)["volumeMounts"]}
        writable = {path for path, each in mounts.items() if not each.get("readOnly")}
        kept = {each for each in image.all("VOLUME") if each in mounts}
        assert writable == {"/tmp", *kept}  # noqa: S108 - the pod's own


@pytest.mark.parametrize("example", VALUES)
def test_containers_may_do_little(example: str | None) -> None:
    for workload in workloads(render(example)).values():
        spec = pod(workload)["spec"]
        assert spec["automountServiceAccountToken"] is False
        assert spec["securityContext"]["runAsNonRoot"] is True
        for each in (*spec["containers"], *spec.get("initContainers", ())):
            assert each["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }


@pytest.mark.parametrize("example", VALUES)
def test_mounts_are_of_volumes_that_there_are(example: str | None) -> None:
    for workload in workloads(render(example)).values():
        spec = pod(workload)["spec"]
        claims = workload["spec"].get("volumeClaimTemplates", ())
        volumes = {each["name"] for each in (*spec["volumes"], *(c["metadata"] for c in claims))}
        for each in (*spec["containers"], *spec.get("initContainers", ())):
            assert {mount["name"] for mount in each["volumeMounts"]} <= volumes


@pytest.mark.parametrize("example", VALUES)
def test_selectors_find_their_pods(example: str | None) -> None:
    manifests = render(example)
    labels = {process: pod(w)["metadata"]["labels"] for process, w in workloads(manifests).items()}
    selectors = [
        *(each["spec"]["selector"] for each in of_kind(manifests, "Service").values()),
        *(
            each["spec"]["selector"]["matchLabels"]
            for each in of_kind(manifests, "PodDisruptionBudget").values()
        ),
        *(w["spec"]["selector"]["matchLabels"] for w in workloads(manifests).values()),
    ]
    for selector in selectors:
        found = [process for process, its in labels.items() if selector.items() <= its.items()]
        assert found == [selector["app.kubernetes.io/component"]]


def test_targets_are_headless_services() -> None:
    manifests = render()
    services = of_kind(manifests, "Service")
    for process in CALLS:
        target = environment(workloads(manifests)["gateway"])[f"TANDEM_{process.upper()}_TARGET"]
        name, _, port = target.removeprefix("dns:///").partition(":")
        assert services[name]["spec"]["clusterIP"] == "None"
        assert str(services[name]["spec"]["ports"][0]["port"]) == port
    catalog = environment(workloads(manifests)["generator"])["TANDEM_CATALOG"]
    assert catalog == "tandem-candidate:50051"


@pytest.mark.parametrize("process", PROCESSES)
def test_policies_let_in_who_calls(process: str) -> None:
    policy = of_kind(render(), "NetworkPolicy")[f"tandem-{process}"]["spec"]
    calls, metrics = policy["ingress"]
    assert metrics["ports"] == [{"port": 9464}]
    if process == "gateway":
        assert "from" not in calls
    else:
        components = {
            each["podSelector"]["matchLabels"]["app.kubernetes.io/component"]
            for each in calls["from"]
        }
        assert components == CALLS[process]
    reached = {
        peer["podSelector"]["matchLabels"]["app.kubernetes.io/component"]
        for rule in policy["egress"]
        for peer in rule.get("to", ())
    }
    assert reached == {called for called, callers in CALLS.items() if process in callers}


def test_certificates_are_shown_and_asked_for_on_every_link() -> None:
    for process, workload in workloads(render("mtls")).items():
        told = environment(workload)
        assert told["TANDEM_TLS_CERTIFICATE"] == "/tls/tls.crt"
        assert told["TANDEM_TLS_CLIENT_AUTHORITY"] == "/tls/ca.crt"
        if process != "candidate":
            assert told["TANDEM_SERVICE_AUTHORITY"] == "/tls/ca.crt"
            assert told["TANDEM_SERVICE_CERTIFICATE"] == "/tls/tls.crt"
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            check = container(workload)[probe]["exec"]["command"]
            assert check == ["python", "/opt/tandem/healthcheck.py"]


def test_bundles_are_copied_with_their_signature_checked() -> None:
    for workload in workloads(render("redis")).values():
        (fetch,) = pod(workload)["spec"]["initContainers"]
        place, *rest = fetch["command"][3:]
        told = environment(workload)
        assert place == "s3://models/bundles/shop/0a1b2c3d4e5f"
        assert told["TANDEM_BUNDLE"] == "/bundles/shop/0a1b2c3d4e5f"
        assert rest == ["--root", "/bundles", "--key", told["TANDEM_BUNDLE_KEY"]]


def test_scaling_goes_by_metrics_that_there_are() -> None:
    manifests = render("redis")
    scaled = of_kind(manifests, "HorizontalPodAutoscaler")
    assert set(scaled) == {"tandem-gateway", "tandem-generator"}
    for name, each in scaled.items():
        target = each["spec"]["scaleTargetRef"]
        workload = of_kind(manifests, target["kind"])[target["name"]]
        assert target["name"] == name
        assert "replicas" not in workload["spec"]
        (metric,) = each["spec"]["metrics"]
        process = name.removeprefix("tandem-")
        assert metric["pods"]["metric"]["name"] in {each.name for each in metrics_of(process)}


def test_the_gpu_is_asked_for_and_used() -> None:
    generator = workloads(render("gpu"))["generator"]
    assert environment(generator)["TANDEM_DEVICE"] == "cuda"
    assert container(generator)["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert container(generator)["image"] == "tandem-generator-cuda:0.2.0"


def data(secret: Manifest) -> dict[str, bytes]:
    return {name: base64.b64decode(value) for name, value in secret["data"].items()}


def test_its_keys_open_what_they_should(tmp_path: Path) -> None:
    secrets = of_kind(render(), "Secret")
    keys, operator = data(secrets["tandem-keys"]), data(secrets["tandem-operator"])
    keyring = read_keys(keys["keys.toml"], tmp_path)
    service = keyring.authenticate(keys["service.key"].decode())
    assert service.rights == {"internal"}
    assert {"admin", "catalog", "delete-user"} <= keyring.authenticate(
        operator["operator.key"].decode()
    ).rights
    assert len(keys["history.key"]) >= 32
    mounted = str([pod(each) for each in workloads(render()).values()])
    assert "tandem-operator" not in mounted


def test_the_canary_is_one_that_a_gateway_takes() -> None:
    manifests = render("canary")
    files: dict[str, Any] = of_kind(manifests, "Secret")["tandem-gateway"]["stringData"]
    variants = read_plan(files["serving.toml"].encode()).variants.values()
    (name,) = tomllib.loads(files["tandem.toml"])["gateway"]["bundles"]
    assert [each.bundle for each in variants if each.limits] == [name]
    services = of_kind(render("canary-services"), "Service")
    assert set(services) == {"tandem-candidate", "tandem-generator"}
