"""What commands have in common: how they end, where they ran, and where their figures go."""

import importlib.metadata
import json
import os
import platform
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import typer
from rich.console import Console
from rich.table import Table

from bench.lib.ghz import GhzError
from core.errors import BundleError
from offline.build.publish import git_revision

REPORTS: Final = Path("build/bench")
_LIBRARIES: Final = ("grpcio", "onnxruntime-gpu", "onnxruntime", "faiss-cpu", "numpy")

Figures = Mapping[str, float | int]


def run(main: Callable[..., None]) -> None:
    """Runs a command; what its user can mend is told in one line, with exit code 1."""
    try:
        typer.run(main)
    except (GhzError, BundleError, ChildProcessError) as error:
        Console(stderr=True).print(f"[red]{error}", highlight=False, soft_wrap=True)
        sys.exit(1)


def publish(name: str, figures: Figures, **facts: str | int) -> None:
    """Prints the figures as a table, and writes `build/bench/<name>.json`.

    Args:
        name: of the measurement.
        figures: by name.
        facts: what they depend on, beside the environment.
    """
    rounded = {key: round(value, 4) for key, value in figures.items()}
    table = Table("figure", box=None, header_style="bold")
    table.add_column("", justify="right")
    for key, value in rounded.items():
        table.add_row(key, f"{value:,g}" if abs(value) < 1e6 else f"{value:,.0f}")
    Console().print(table)
    Console().print(f"written to {write_report(name, rounded, environment() | facts)}")


def environment() -> dict[str, str | int]:
    """Where and on what it was measured: figures of different machines are not comparable."""
    facts: dict[str, str | int] = {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)),
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        "git_revision": git_revision(),
    }
    for library in _LIBRARIES:
        try:
            facts[library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            continue
    return facts


def write_report(
    name: str,
    figures: Figures,
    environment: Mapping[str, str | int],
    directory: Path = REPORTS,
) -> Path:
    """Writes `<name>.json`: the figures by name, and the environment beside them."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{name}.json"
    temporary = directory / f".{name}.json.tmp"
    document = {**figures, "environment": environment}
    temporary.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    temporary.replace(path)
    return path


def _cpu() -> str:
    """The processor's name as Linux tells it; the architecture elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return value.strip()
    return platform.machine()
