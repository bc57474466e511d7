"""The images' health check, against a server that loads, serves and is gone."""

import os
import subprocess
import sys
from pathlib import Path

from tests.deploy.dockerfile import REPOSITORY
from tests.processes import Server, servers
from tests.tiny_bundle import write_tiny_bundle


def check(port: int) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, REPOSITORY / "deploy" / "healthcheck.py"],
        capture_output=True,
        text=True,
        env={**os.environ, "TANDEM_PORT": str(port), "GRPC_VERBOSITY": "NONE"},
        check=False,
    )
    return done.returncode, done.stderr.strip()


def test_it_is_healthy_once_it_serves_and_until_it_ends(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    server = Server(
        "candidate",
        ["tests.gateway.fake_process", "candidate"],
        tmp_path,
        {"bundle": write_tiny_bundle(tmp_path), "load-gate": gate},
    )
    with servers(server):
        server.start()
        assert check(server.port) == (1, "NOT_SERVING")
        gate.touch()
        server.wait_serving()
        assert check(server.port) == (0, "")
    assert check(server.port) == (1, "no answer: UNAVAILABLE")
