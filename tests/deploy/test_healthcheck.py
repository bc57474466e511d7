"""The images' health check, against a server that loads, serves and is gone."""

import os
import subprocess
import sys
from pathlib import Path

from tests.authority import Authority
from tests.deploy.dockerfile import REPOSITORY
from tests.processes import Server, servers, wait_until
from tests.tiny_bundle import write_tiny_bundle


def check(port: int, **environment: Path) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, REPOSITORY / "deploy" / "healthcheck.py"],
        capture_output=True,
        text=True,
        env={
            **os.environ,
            "TANDEM_PORT": str(port),
            "GRPC_VERBOSITY": "NONE",
            **{name: str(path) for name, path in environment.items()},
        },
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


def test_it_asks_a_server_with_mtls(tmp_path: Path) -> None:
    files = Authority().files(tmp_path, "candidate")
    flags = {
        "tls-certificate": files.certificate,
        "tls-key": files.key,
        "tls-client-authority": files.authority,
    }
    server = Server(
        "candidate",
        ["tests.gateway.fake_process", "candidate"],
        tmp_path,
        {"bundle": write_tiny_bundle(tmp_path), "load-gate": tmp_path, **flags},
    )
    assert files.certificate is not None
    assert files.key is not None
    own = {"TANDEM_TLS_CERTIFICATE": files.certificate, "TANDEM_TLS_KEY": files.key}
    with servers(server):
        server.start()
        wait_until(lambda: check(server.port, **own) == (0, ""), "it to serve")
        assert check(server.port) == (1, "no answer: UNAVAILABLE")
    code, text = check(server.port, **own)
    assert code == 1
    assert text.startswith("no answer: ")
