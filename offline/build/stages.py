"""Stages that are built once: a directory is named after everything that goes into it.

A stage's directory carries a digest of its configuration, of its code's version, and of the stages
it starts from. While it is made it is called `….partial`, which a killed run continues; the rename
at the end is what makes it exist. Equal inputs therefore mean that there is nothing to do.
"""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console


@dataclass(frozen=True)
class Built:
    """A stage that exists."""

    name: str
    digest: str
    path: Path


class Workshop:
    """Where stages are made and kept."""

    def __init__(self, root: Path, console: Console, *, force: bool = False) -> None:
        self.root = root
        self.console = console
        self.force = force

    def stage(
        self,
        name: str,
        make: Callable[[Path], None],
        *,
        version: int,
        config: Mapping[str, Any],
        after: tuple[Built, ...] = (),
    ) -> Built:
        """Makes a stage unless it exists.

        Args:
            name: of the stage; its directories start with it.
            make: writes the stage's files into a directory, which may hold those of a killed run.
            version: of the code of the stage; raised when its output changes.
            config: what it depends on, as JSON.
            after: the stages that it reads.
        """
        digest = fingerprint(name, version, config, [built.digest for built in after])
        path = self.root / f"{name}-{digest[:12]}"
        built = Built(name, digest, path)
        if path.is_dir() and not self.force:
            self.console.print(f"[dim]{name}: already built from the same inputs[/dim]")
            return built
        partial = path.with_name(f"{path.name}.partial")
        if self.force:
            shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True, exist_ok=True)
        started = time.monotonic()
        self.console.print(f"[bold]{name}[/bold]")
        make(partial)
        if int(os.environ.get("RANK", "0")) == 0:  # under torchrun one process does the renaming
            shutil.rmtree(path, ignore_errors=True)
            partial.rename(path)
        self.console.print(f"[dim]{name}: {time.monotonic() - started:.1f} s[/dim]")
        return built


def fingerprint(name: str, version: int, config: Mapping[str, Any], after: list[str]) -> str:
    """The digest of a stage's inputs."""
    facts = json.dumps([name, version, config, after], sort_keys=True, default=str)
    return hashlib.sha256(facts.encode()).hexdigest()
