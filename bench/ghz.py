"""Running ghz (https://ghz.sh), and reading what it reports."""

import json
import os
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

INSTALL: Final = "go install github.com/bojand/ghz/cmd/ghz@v0.120.0"
"""A release, not @latest: where that gives v0.93.0, ghz cannot read proto3's `optional`."""

_OK: Final = "OK"


class GhzError(Exception):
    """ghz is missing, or did not run."""


@dataclass(frozen=True)
class Run:
    """What one run of ghz found. Latencies are in milliseconds, failed calls included."""

    name: str
    callers: int
    calls: int
    calls_per_second: float
    p50: float
    p95: float
    p99: float
    failed: Mapping[str, int]
    """How many calls failed, by canonical code."""

    @classmethod
    def of_report(cls, report: Mapping[str, Any]) -> "Run":
        """Reads a report that `ghz --format json` wrote.

        Raises:
            GhzError: it has no calls in it.
        """
        if not report["count"]:
            raise GhzError(f"{report['name']}: no call was made")
        latency = {row["percentage"]: row["latency"] / 1e6 for row in report["latencyDistribution"]}
        codes = report["statusCodeDistribution"]
        return cls(
            name=report["name"],
            callers=report["options"]["concurrency"],
            calls=report["count"],
            calls_per_second=report["rps"],
            p50=latency[50],
            p95=latency[95],
            p99=latency[99],
            failed={code: count for code, count in sorted(codes.items()) if code != _OK},
        )

    def with_failures_of(self, other: "Run") -> "Run":
        """This run, with the failures of another one added."""
        return replace(self, failed=dict(Counter(self.failed) + Counter(other.failed)))

    def figures(self) -> dict[str, float | int]:
        """As flat, named figures."""
        return {
            f"{self.name}/callers": self.callers,
            f"{self.name}/calls": self.calls,
            f"{self.name}/calls_per_second": round(self.calls_per_second, 1),
            f"{self.name}/p50_ms": round(self.p50, 2),
            f"{self.name}/p95_ms": round(self.p95, 2),
            f"{self.name}/p99_ms": round(self.p99, 2),
            f"{self.name}/errors": sum(self.failed.values()),
        }


def find_ghz() -> Path:
    """Finds ghz on the PATH, or where `go install` puts it.

    Raises:
        GhzError: it is in neither place; says how to install it.
    """
    found = shutil.which("ghz") or shutil.which("ghz", path=_go_bin())
    if found is None:
        how = (
            f"install it with\n  {INSTALL}" if shutil.which("go") else "get it from https://ghz.sh"
        )
        raise GhzError(f"ghz, the load generator, is not here: {how}")
    return Path(found)


def run_ghz(ghz: Path, config: Path, address: str, seconds: float) -> Run:
    """Runs one configuration against a gateway for some seconds.

    Raises:
        GhzError: ghz could not run it. Calls that fail are no error here: see `Run.failed`.
    """
    with tempfile.TemporaryDirectory() as directory:
        output = Path(directory) / "report.json"
        command = [str(ghz), "--config", str(config), "--duration", f"{seconds}s"]
        command += ["--format", "json", "--output", str(output), address]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise GhzError(f"ghz cannot run {config}: {done.stderr.strip() or done.stdout.strip()}")
        return Run.of_report(json.loads(output.read_text(encoding="utf-8")))


def _go_bin() -> str:
    """The folders that `go install` may put programs in."""
    folders = [os.environ.get("GOBIN", ""), str(Path.home() / "go" / "bin")]
    if go := shutil.which("go"):
        asked = subprocess.run(
            [go, "env", "GOBIN", "GOPATH"], capture_output=True, text=True, check=False
        )
        bin_folder, _, paths = asked.stdout.partition("\n")
        folders += [bin_folder, *(f"{path}/bin" for path in paths.strip().split(os.pathsep))]
    return os.pathsep.join(filter(None, folders))
