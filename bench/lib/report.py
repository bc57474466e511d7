"""What commands have in common: how they end, where they ran, and where their figures go."""

import importlib.metadata
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import rich.table
import typer
from rich.console import Console

from bench.lib.ghz import GhzError
from bench.results.pages import command_line
from core.bundle import Bundle
from core.errors import BundleError
from core.manifest import Precision
from offline.build.publish import git_revision
from offline.evaluate.served import ServingError
from services.generator.decoding.providers import Compute, choose_precision
from serving.files.replacing import replacing

REPORTS: Final = Path("build/bench")
_LIBRARIES: Final = ("grpcio", "onnxruntime-gpu", "onnxruntime", "faiss-cpu", "numpy")

_STARTED: Final = time.monotonic()

Figures = Mapping[str, float | int]
Table = Sequence[Sequence[str]]


def run(main: Callable[..., None]) -> None:
    """Runs a command; what its user can mend is told in one line, with exit code 1."""
    try:
        typer.run(main)
    except (GhzError, BundleError, ChildProcessError, ServingError) as error:
        Console(stderr=True).print(f"[red]{error}", highlight=False, soft_wrap=True)
        sys.exit(1)


def publish(
    name: str,
    figures: Figures,
    table: Table = (),
    *,
    precision: str,
    caches: str,
    **facts: str | int,
) -> Path:
    """Prints what was measured, and writes `build/bench/<name>.json`.

    Args:
        name: of the measurement.
        figures: by name.
        table: rows of cells, the header first, in which `{name:.1f}` stands for a figure; what
            the documents show (`bench.publish`).
        precision: that figures are of, such as fp32; none where no model computes.
        caches: warm or cold, and of what.
        facts: what they depend on beside, and the environment.
    """
    rounded = {key: round(value, 4) for key, value in figures.items()}
    rows = [[cell.format_map(figures) for cell in row] for row in table]
    every = rows or [["figure", ""], *([key, f"{value:,g}"] for key, value in rounded.items())]
    printed = rich.table.Table(*every[0], box=None, header_style="bold")
    for row in every[1:]:
        printed.add_row(*row)
    seconds = round(time.monotonic() - _STARTED)
    where = {
        **environment(), "command": command_line(f"bench.{name}"), "precision": precision,
        "caches": caches, "seconds": seconds, **facts,
    }  # fmt: skip
    path = write_report(name, {**rounded, "table": rows}, where)
    Console().print(printed)
    Console().print(f"written to {path}")
    return path


def served_precision(bundle: Bundle) -> Precision:
    """The precision of a bundle's generator that a server takes on this CPU."""
    return choose_precision("auto", bundle.manifest.generator.precisions, Compute())


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
    figures: Mapping[str, object],
    environment: Mapping[str, str | int],
    directory: Path = REPORTS,
) -> Path:
    """Writes `<name>.json`: the figures by name, and the environment beside them."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{name}.json"
    document = {**figures, "environment": environment}
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
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
