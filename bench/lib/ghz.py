"""Load by ghz (https://ghz.sh), and reading what it reports.

ghz is a program of its own, in Go: it costs a fraction of what callers in Python would, on the
machine that is measured.
"""

import json
import operator
import os
import re
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

INSTALL: Final = "go install github.com/bojand/ghz/cmd/ghz@v0.120.0"
"""A release, not @latest: where that gives v0.93.0, ghz cannot read proto3's `optional`."""
RECOMMEND: Final = "tandem.v1.RecommendationService.Recommend"
TIMEOUT_SECONDS: Final = 2
"""A call's deadline: an answer after it is none."""

RATE: Final = operator.attrgetter("answers_per_second")
"""Of a `Run`."""
LONGEST_SECONDS: Final = 60.0
"""Up to so long a closed loop is run where shorter ones made no call."""

_OK: Final = "OK"
_STOPPED_BEFORE_IT_BEGAN: Final = "panic: send on closed channel"
"""What ghz ends with where its duration is over before it has connected."""


class GhzError(Exception):
    """ghz is missing, or did not run."""


class NoCallError(GhzError):
    """ghz ran, and made no call."""


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
    seconds: float = 0.0
    """That calls were made for; an open loop's last answers may come later."""
    ms: Mapping[str, Sequence[float]] = field(default_factory=dict)
    """The latency of each call, by canonical code."""

    @classmethod
    def of_report(cls, report: Mapping[str, Any]) -> "Run":
        """Reads a report that `ghz --format json` wrote.

        Raises:
            NoCallError: it has no calls in it.
        """
        if not report["count"]:
            raise NoCallError(f"{report['name']}: no call was made")
        latency = {row["percentage"]: row["latency"] / 1e6 for row in report["latencyDistribution"]}
        codes = report["statusCodeDistribution"]
        options = report["options"]
        ms: dict[str, list[float]] = {}
        for call in report["details"]:
            ms.setdefault(call["status"], []).append(call["latency"] / 1e6)
        return cls(
            name=report["name"],
            callers=options["concurrency"],
            calls=report["count"],
            calls_per_second=report["rps"],
            p50=latency[50],
            p95=latency[95],
            p99=latency[99],
            failed={code: count for code, count in sorted(codes.items()) if code != _OK},
            seconds=_seconds(options, report["total"] / 1e9),
            ms=ms,
        )

    @property
    def answers_per_second(self) -> float:
        """Calls that were answered, a second."""
        return len(self.ms.get(_OK, ())) / self.seconds

    def percentile(self, percent: float, code: str = _OK) -> float:
        """Of the latencies of calls that ended with a code; NaN for none."""
        values = self.ms.get(code)
        return float(np.percentile(values, percent)) if values else float("nan")

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


@dataclass(frozen=True)
class Load:
    """Calls of one method, whose requests are those of a file in turn."""

    method: str
    """With its package and service, as in `RECOMMEND`."""
    requests: Path
    """JSON, as `bench.lib.requests` writes it."""
    seconds: float
    callers: int = 32
    """Each sends its next call when it has the answer to its last: a closed loop."""
    connections: int = 8
    """That these share."""
    rate: int = 0
    """Calls a second whatever becomes of them: an open loop, whose `callers` mean nothing."""

    def run(self, address: str) -> Run:
        """Calls a server.

        Raises:
            GhzError: ghz is missing or could not run. Failed calls are no error: see `Run.failed`.
        """
        with tempfile.TemporaryDirectory() as directory:
            config = Path(directory) / "load.json"
            config.write_text(json.dumps(self._config()), encoding="utf-8")
            return run_ghz(find_ghz(), config, address, 0 if self.rate else self.seconds)

    def _config(self) -> dict[str, object]:
        service = self.method.split(".")[-2]
        file = re.sub(r"(?<!^)(?=[A-Z])", "_", service).lower()
        connections = min(self.connections, self.callers)
        return {
            "name": self.method,
            "call": self.method,
            "proto": f"protos/tandem/v1/{file}.proto",
            "import-paths": ["protos", "protos/third_party"],
            "data-file": str(self.requests),
            "insecure": True,
            "concurrency": connections if self.rate else self.callers,
            "connections": connections,
            "duration-stop": "wait",
            "timeout": f"{TIMEOUT_SECONDS}s",
            "count-errors": True,
            **(self._open_loop() if self.rate else {}),
        }

    def _open_loop(self) -> dict[str, object]:
        """By a count of calls: a duration would begin before ghz has connected."""
        calls = max(1, round(self.rate * self.seconds))
        return {"async": True, "rps": self.rate, "total": calls}


def together(runs: Sequence[Run]) -> Run:
    """Several turns of a load as one, as far as `percentile` and `answers_per_second` go."""
    codes = {code for run in runs for code in run.ms}
    ms = {code: [ms for run in runs for ms in run.ms.get(code, ())] for code in codes}
    return replace(runs[0], seconds=sum(run.seconds for run in runs), ms=ms)


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


def run_ghz(ghz: Path, config: Path, address: str, seconds: float = 0.0) -> Run:
    """Runs one configuration against a server.

    ghz counts the time in which it connects as part of its duration. On a busy machine that can be
    all of it, so a run without a call is made again with twice the time.

    Args:
        ghz: the program.
        config: its JSON.
        address: of the server.
        seconds: how long; 0 for as many calls as the configuration says.

    Raises:
        GhzError: ghz could not run it. Calls that fail are no error here: see `Run.failed`.
        NoCallError: nor did it make a call in `LONGEST_SECONDS`.
    """
    while True:
        try:
            return _run_once(ghz, config, address, seconds)
        except NoCallError:
            if not 0 < seconds < LONGEST_SECONDS:
                raise
            seconds *= 2


def _seconds(options: Mapping[str, Any], taken: float) -> float:
    """For how long calls were made: an open loop's last answers come later."""
    if not options.get("async"):
        return taken
    return max(float(options["total"]) / float(options["rps"]), taken - TIMEOUT_SECONDS)


def _run_once(ghz: Path, config: Path, address: str, seconds: float) -> Run:
    with tempfile.TemporaryDirectory() as directory:
        output = Path(directory) / "report.json"
        command = [str(ghz), "--config", str(config)]
        command += ["--duration", f"{seconds}s"] if seconds else []
        command += ["--format", "json", "--output", str(output), address]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if _STOPPED_BEFORE_IT_BEGAN in done.stderr:
            raise NoCallError(f"ghz had no time to connect in {seconds} s")
        if done.returncode:
            raise GhzError(f"ghz cannot run {config}: {done.stderr.strip() or done.stdout.strip()}")
        return Run.of_report(json.loads(output.read_text(encoding="utf-8")))


def _go_bin() -> str:
    """The folders that `go install` may put programs in."""
    paths = os.environ.get("GOPATH", str(Path.home() / "go")).split(os.pathsep)
    return os.pathsep.join([os.environ.get("GOBIN", ""), *(f"{path}/bin" for path in paths)])
