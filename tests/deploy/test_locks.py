"""The locks hold what pyproject.toml asks for, by hash, and name no index."""

import re
import tomllib

import pytest
from packaging.requirements import Requirement

from tests.deploy.dockerfile import PROCESSES, REPOSITORY

LOCKS = REPOSITORY / "deploy" / "requirements"
OURS = {"tandem-recsys", "tandem-recsys-client"}


def locked(name: str) -> dict[str, set[str]]:
    """The versions of each package: more than one where markers choose."""
    text = (LOCKS / f"{name}.txt").read_text(encoding="utf-8")
    versions: dict[str, set[str]] = {}
    for package, version in re.findall(r"^([a-z0-9.-]+)==([^ ]+)", text, re.MULTILINE):
        versions.setdefault(package, set()).add(version)
    return versions


def wanted(*extras: str) -> list[Requirement]:
    """What the two distributions ask for, themselves left out."""
    root, client = (
        tomllib.loads((REPOSITORY / folder / "pyproject.toml").read_text(encoding="utf-8"))
        for folder in (".", "protos")
    )
    lines = [*root["project"]["dependencies"], *client["project"]["dependencies"]]
    for extra in extras:
        lines += root["project"]["optional-dependencies"][extra]
    return [each for each in map(Requirement, lines) if each.name not in OURS]


@pytest.mark.parametrize("name", ["uv", "development", *PROCESSES])
def test_every_package_is_pinned_by_hash_and_none_by_address(name: str) -> None:
    text = (LOCKS / f"{name}.txt").read_text(encoding="utf-8")
    joined = text.replace("\\\n", "")
    packages = [line for line in joined.splitlines() if re.match(r"[^\s#]", line)]
    assert packages
    for line in packages:
        assert re.match(r"[a-z0-9.-]+==\S+ .*--hash=sha256:[0-9a-f]{64}", line), line
    assert "://" not in text
    assert not re.search(r"^(torch|nvidia|triton|cuda)\b", text, re.MULTILINE)


@pytest.mark.parametrize("name", ["development", *PROCESSES])
def test_a_lock_holds_what_is_asked_for(name: str) -> None:
    extras = ["candidate", "generator", "gateway", "offline", "dev"]
    versions = locked(name)
    for requirement in wanted(*(extras if name == "development" else [name])):
        if requirement.name == "torch":
            continue
        assert requirement.name in versions, f"{requirement}: run make lock"
        for version in versions[requirement.name]:
            assert requirement.specifier.contains(version), f"{requirement}: run make lock"


@pytest.mark.parametrize("process", PROCESSES)
def test_images_hold_what_the_tests_ran_on(process: str) -> None:
    development = locked("development")
    for package, versions in locked(process).items():
        assert versions <= development[package]
