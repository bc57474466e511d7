"""Writes a version where it stands, dates its section of the changelog, commits and tags.

`make release VERSION=1.2.3` runs this, after the linters and all tests.
"""

import argparse
import datetime as dt
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

REPOSITORY: Final = Path(__file__).parents[1]
UNRELEASED: Final = "## Unreleased\n"
VERSIONED: Final = {
    "pyproject.toml": (r'^version = "(.+)"$', r'"tandem-recsys-client==(.+)"'),
    "protos/pyproject.toml": (r'^version = "(.+)"$',),
    "deploy/candidate.Dockerfile": (r'image\.version="(.+)"',),
    "deploy/generator.Dockerfile": (r'image\.version="(.+)"',),
    "deploy/gateway.Dockerfile": (r'image\.version="(.+)"',),
}
"""Where the version stands: per file, patterns whose group is the version."""


def main() -> None:
    """Releases, or with `--check` only says what is in the way of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("version", help="such as 1.2.3")
    parser.add_argument("--check", action="store_true", help="change nothing")
    options = parser.parse_args()
    try:
        check(REPOSITORY, options.version)
    except ValueError as error:
        sys.exit(f"not released: {error}")
    if not options.check:
        release(REPOSITORY, options.version, dt.datetime.now(tz=dt.UTC).date())


def check(repository: Path, version: str) -> None:
    """Says what is in the way of a release.

    Raises:
        ValueError: `version` has another form or a tag already, something is not committed, or
            the changelog has nothing unreleased.
    """
    if not re.fullmatch(r"\d+\.\d+\.\d+", version):
        raise ValueError(f"{version!r} is not a version such as 1.2.3")
    if _git(repository, "status", "--porcelain"):
        raise ValueError("something is not committed: see git status")
    if _git(repository, "tag", "--list", f"v{version}"):
        raise ValueError(f"v{version} is already a tag")
    dated((repository / "CHANGELOG.md").read_text(encoding="utf-8"), version, dt.date.min)


def release(repository: Path, version: str, date: dt.date) -> None:
    """Writes, commits and tags; pushing is left to whoever released."""
    changelog = repository / "CHANGELOG.md"
    text = dated(changelog.read_text(encoding="utf-8"), version, date)
    changelog.write_text(text, encoding="utf-8")
    for name, patterns in VERSIONED.items():
        file = repository / name
        text = versioned(file.read_text(encoding="utf-8"), patterns, version)
        file.write_text(text, encoding="utf-8")
    _git(repository, "commit", "--quiet", "--all", "--message", f"Release {version}")
    _git(repository, "tag", "--annotate", "--message", f"Tandem {version}", f"v{version}")


def dated(changelog: str, version: str, date: dt.date) -> str:
    """The changelog with what was unreleased under `version`, and nothing unreleased.

    Raises:
        ValueError: nothing is unreleased.
    """
    before, heading, after = changelog.partition(UNRELEASED)
    if not heading or not after.partition("\n## ")[0].strip():
        raise ValueError("CHANGELOG.md has nothing under Unreleased")
    return f"{before}{heading}\n## {version} – {date.isoformat()}\n{after}"


def versioned(text: str, patterns: tuple[str, ...], version: str) -> str:
    """The text with `version` in place of each pattern's group.

    Raises:
        ValueError: a pattern is not found exactly once.
    """
    for pattern in patterns:
        found = list(re.finditer(pattern, text, re.MULTILINE))
        if len(found) != 1:
            raise ValueError(f"{pattern} is found {len(found)} times")
        text = text[: found[0].start(1)] + version + text[found[0].end(1) :]
    return text


def _git(repository: Path, *arguments: str) -> str:
    command = ["git", "-C", str(repository), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout  # noqa: S603


if __name__ == "__main__":
    main()
