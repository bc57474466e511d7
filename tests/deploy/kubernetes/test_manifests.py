"""What Helm makes of the chart is what Kubernetes takes, in its oldest and its newest version."""

import copy

import kubernetes_validate
import pytest

from tests.deploy.kubernetes.chart import (
    CHART,
    EXAMPLES,
    Manifest,
    render,
    run_helm,
    values_of,
    workloads,
)

KUBERNETES = ("1.30", "1.37")
VALUES = (None, *EXAMPLES)


def check(manifest: Manifest, version: str) -> None:
    """Whoever is not in the schema is an error here, where other checkers skip it."""
    kubernetes_validate.validate(manifest, version, strict=True)


@pytest.mark.parametrize("example", VALUES)
def test_helm_finds_nothing_wrong(example: str | None) -> None:
    done = run_helm("lint", "--strict", str(CHART), *values_of(example))
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("version", KUBERNETES)
@pytest.mark.parametrize("example", VALUES)
def test_kubernetes_takes_every_manifest(example: str | None, version: str) -> None:
    manifests = render(example)
    assert {each["kind"] for each in manifests} >= {"StatefulSet", "Deployment", "Service"}
    for manifest in manifests:
        check(manifest, version)


@pytest.mark.parametrize("version", KUBERNETES)
def test_a_wrong_manifest_is_found(version: str) -> None:
    right = workloads(render())["generator"]
    misspelled, mistyped = copy.deepcopy(right), copy.deepcopy(right)
    misspelled["spec"]["template"]["spec"]["container"] = []
    mistyped["spec"]["replicas"] = "two"
    unknown = {"apiVersion": "example.com/v1", "kind": "Unknown", "metadata": {"name": "x"}}
    for wrong in (misspelled, mistyped):
        with pytest.raises(kubernetes_validate.ValidationError):
            check(wrong, version)
    with pytest.raises(kubernetes_validate.SchemaNotFoundError):
        check(unknown, version)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["gateway.replicas=2"], "several gateways share their histories in Redis"),
        (["gateway.redis.enabled=true"], "name the Secret with Redis' address"),
        (["candidate.replicas=2"], "one process has a store"),
        (["tls.enabled=true"], "name the Secret with its certificate"),
        (["bundle.source=s3://models"], "name the version to copy"),
        (["gateway.replica=2"], "replica"),
        (["environment.PATH=/"], "PATH"),
    ],
)
def test_values_that_cannot_work_are_refused(settings: list[str], message: str) -> None:
    chosen = [argument for setting in settings for argument in ("--set", setting)]
    done = run_helm("template", "tandem", str(CHART), *chosen)
    assert done.returncode == 1
    assert message in done.stderr
