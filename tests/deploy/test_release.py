"""A release, in a repository of its own."""

import datetime as dt
import shutil
import subprocess
from pathlib import Path

import pytest

from deploy.release import VERSIONED, check, dated, release, versioned
from tests.deploy.dockerfile import REPOSITORY

DATE = dt.date(2030, 1, 2)
CHANGELOG = "# Changelog\n\n## Unreleased\n\n- New.\n\n## 9.0.0 – 2029-01-01\n\n- Old.\n"


def git(repository: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=Somebody", "-c", "user.email=somebody@example.com")
    command = ["git", "-C", str(repository), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The files that a release writes to, committed."""
    for name in VERSIONED:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(REPOSITORY / name, tmp_path / name)
    (tmp_path / "CHANGELOG.md").write_text(CHANGELOG, encoding="utf-8")
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "Somebody")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "somebody@example.com")
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "--message", "Begin")
    return tmp_path


def test_the_unreleased_section_becomes_the_versions() -> None:
    assert dated(CHANGELOG, "9.1.0", DATE) == (
        "# Changelog\n\n## Unreleased\n\n## 9.1.0 – 2030-01-02\n\n- New.\n\n"
        "## 9.0.0 – 2029-01-01\n\n- Old.\n"
    )
    with pytest.raises(ValueError, match="nothing under Unreleased"):
        dated(dated(CHANGELOG, "9.1.0", DATE), "9.2.0", DATE)


def test_a_version_that_stands_nowhere_or_twice_is_an_error() -> None:
    for text in ("", "v1\nv2\n"):
        with pytest.raises(ValueError, match="times"):
            versioned(text, (r"^v(\d)$",), "3")


def test_a_release_is_one_tagged_commit(repository: Path) -> None:
    check(repository, "9.1.0")
    release(repository, "9.1.0", DATE)
    for name, patterns in VERSIONED.items():
        text = (repository / name).read_text(encoding="utf-8")
        assert versioned(text, patterns, "9.1.0") == text
    assert git(repository, "status", "--porcelain") == ""
    assert git(repository, "describe", "--exact-match") == "v9.1.0\n"
    assert git(repository, "log", "--format=%s") == "Release 9.1.0\nBegin\n"


def test_what_is_in_the_way_is_said_first(repository: Path) -> None:
    with pytest.raises(ValueError, match=r"not a version such as 1\.2\.3"):
        check(repository, "9.1")
    git(repository, "tag", "v9.0.0")
    with pytest.raises(ValueError, match=r"v9\.0\.0 is already a tag"):
        check(repository, "9.0.0")
    (repository / "new.py").touch()
    with pytest.raises(ValueError, match="not committed"):
        check(repository, "9.1.0")
