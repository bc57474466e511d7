"""The real OpenTelemetry Collector, which passes on what it is sent: `make otelcol` builds it."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

PROGRAM: Final = Path(__file__).parents[2] / "build" / "otelcol"


@contextmanager
def passing_on(address: str) -> Iterator[str]:
    """Runs a collector that takes OTLP on a free port of the loopback.

    Args:
        address: of another collector, where each span goes that it takes.

    Yields:
        Its own address. It has passed everything on when it has stopped.
    """
    if not PROGRAM.exists():
        pytest.skip("the OpenTelemetry Collector is not built: make otelcol, which needs Go")
    command = [str(PROGRAM), f"--config=yaml:{json.dumps(_config(address))}"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            yield f"http://{_endpoint(process.stderr)}"
        finally:
            process.terminate()
            log = process.stderr.read()
    assert process.returncode == 0, log


def _config(address: str) -> dict[str, object]:
    return {
        "receivers": {"otlp": {"protocols": {"grpc": {"endpoint": "127.0.0.1:0"}}}},
        "exporters": {"otlp": {"endpoint": address, "tls": {"insecure": True}}},
        "service": {
            "pipelines": {"traces": {"receivers": ["otlp"], "exporters": ["otlp"]}},
            "telemetry": {"metrics": {"level": "none"}, "logs": {"encoding": "json"}},
        },
    }


def _endpoint(log: Iterator[str]) -> str:
    """Where it listens, as its log says."""
    lines = []
    for line in log:
        lines.append(line)
        entry = json.loads(line) if line.startswith("{") else {}
        if entry.get("msg") == "Starting GRPC server":
            return str(entry["endpoint"])
    raise AssertionError("".join(lines))
