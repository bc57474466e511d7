"""A real Prometheus, from Debian's package."""

import asyncio
import json
import re
import shutil
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from tests.deploy.dockerfile import REPOSITORY

RULES: Final = REPOSITORY / "deploy" / "prometheus-rules.yaml"


def program(name: str) -> str:
    """`prometheus` or `promtool`; where it is missing, the test that asks is skipped."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed: it comes with Debian's package prometheus")
    return found


@dataclass(frozen=True)
class Prometheus:
    """One that runs."""

    address: str

    async def query(self, expression: str) -> list[dict[str, Any]]:
        """The series that an expression is now."""
        return await asyncio.to_thread(self._query, expression)

    def _query(self, expression: str) -> list[dict[str, Any]]:
        where = f"http://{self.address}/api/v1/query"
        data = urllib.parse.urlencode({"query": expression}).encode()
        with urllib.request.urlopen(where, data=data, timeout=10) as answer:
            result: list[dict[str, Any]] = json.load(answer)["data"]["result"]
        return result


@contextmanager
def watching(ports: Sequence[int], directory: Path) -> Iterator[Prometheus]:
    """Runs one that reads, each second, what is shown at these ports, and Tandem's rules."""
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(RULES)],
        "scrape_configs": [
            {
                "job_name": "tandem",
                "static_configs": [{"targets": [f"127.0.0.1:{port}" for port in ports]}],
            }
        ],
    }
    file = directory / "prometheus.yml"
    file.write_text(json.dumps(config), encoding="utf-8")  # which is YAML
    command = [program("prometheus"), f"--config.file={file}", "--web.listen-address=127.0.0.1:0"]
    command += [f"--storage.tsdb.path={directory / 'series'}"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            yield Prometheus(_address(process.stderr))
        finally:
            process.terminate()
            log = process.stderr.read()
    assert process.returncode == 0, log


def _address(log: Iterator[str]) -> str:
    """Where it listens, once it is ready, as its log says."""
    lines, address = [], ""
    for line in log:
        lines.append(line)
        if found := re.search(r'msg="Listening on" address=(\S+)', line):
            address = found[1]
        if address and "Server is ready to receive web requests" in line:
            return address
    raise AssertionError("".join(lines))
