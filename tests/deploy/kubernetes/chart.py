"""Renders the chart as Helm does."""

import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.dockerfile import REPOSITORY

CHART = REPOSITORY / "deploy" / "helm" / "tandem"
EXAMPLES = tuple(sorted(path.stem for path in (CHART / "examples").glob("*.yaml")))
Manifest = dict[str, Any]


@cache
def helm() -> str:
    """The program; where there is none, the test that asks is skipped."""
    beside = Path(sys.executable).with_name("helm")
    found = str(beside) if beside.is_file() else shutil.which("helm")
    if found is None:
        pytest.skip("helm is not installed: its package for Python is for Linux on x86-64")
    return found


def run_helm(command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [helm(), command, *arguments], capture_output=True, text=True, check=False, timeout=60
    )


def values_of(example: str | None) -> list[str]:
    return [] if example is None else ["--values", str(CHART / "examples" / f"{example}.yaml")]


@cache
def _rendered(example: str | None, *settings: str) -> str:
    chosen = [argument for setting in settings for argument in ("--set", setting)]
    done = run_helm("template", "tandem", str(CHART), *values_of(example), *chosen)
    assert done.returncode == 0, done.stderr
    return done.stdout


def render(example: str | None = None, *settings: str) -> list[Manifest]:
    """What a release named tandem consists of."""
    return [each for each in yaml.safe_load_all(_rendered(example, *settings)) if each]


def of_kind(manifests: list[Manifest], kind: str) -> dict[str, Manifest]:
    return {each["metadata"]["name"]: each for each in manifests if each["kind"] == kind}


def workloads(manifests: list[Manifest]) -> dict[str, Manifest]:
    """By process."""
    found = of_kind(manifests, "StatefulSet") | of_kind(manifests, "Deployment")
    return {name.removeprefix("tandem-"): each for name, each in found.items()}


def pod(workload: Manifest) -> Manifest:
    template: Manifest = workload["spec"]["template"]
    return template


def container(workload: Manifest) -> Manifest:
    (only,) = pod(workload)["spec"]["containers"]
    found: Manifest = only
    return found


def environment(workload: Manifest) -> dict[str, Any]:
    pairs = container(workload)["env"]
    names = [pair["name"] for pair in pairs]
    assert len(set(names)) == len(names)
    return {pair["name"]: pair.get("value", pair.get("valueFrom")) for pair in pairs}
