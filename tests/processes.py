"""Real server processes for tests: started, watched, killed, stopped and brought back."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

REPOSITORY = Path(__file__).parents[1]
PATIENCE = 30.0
"""Seconds after which a test gives up on a process; nothing is expected to take that long."""

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Polls a condition of another process, of which no event tells."""
    end = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"waited {PATIENCE} s for {what}")
        time.sleep(0.01)


@dataclass
class Server:
    """One server process; restarts keep its port."""

    name: str
    module: list[str]
    directory: Path
    flags: dict[str, object] = field(default_factory=dict)
    port: int = 0
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> "Server":
        """Starts it and waits until its port is bound."""
        port_file = self.directory / f"{self.name}.port"
        port_file.unlink(missing_ok=True)
        flags = {"port": self.port, "port-file": port_file, **self.flags}
        command = [sys.executable, "-m", *self.module]
        for flag, value in flags.items():
            command += [f"--{flag}", str(value)]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command, cwd=REPOSITORY, stderr=log, env={**os.environ, "PYTHONUNBUFFERED": "1"}
            )
        wait_until(lambda: port_file.exists() or not self.alive, f"{self.name} to bind")
        assert self.alive, self.log.read_text()
        self.port = int(port_file.read_text())
        return self

    @property
    def log(self) -> Path:
        return self.directory / f"{self.name}.log"

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def send(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)
        if number == signal.SIGKILL:
            self.process.wait(PATIENCE)

    def exit_code(self) -> int:
        assert self.process is not None
        return self.process.wait(PATIENCE)

    def lines(self) -> list[dict[str, Any]]:
        """What it logged; gRPC's C core writes lines of its own in between."""
        lines = self.log.read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def calls(self) -> list[dict[str, Any]]:
        return [line for line in self.lines() if line["event"] == "call"]

    def health(self, service: str = "") -> int:
        with grpc.insecure_channel(self.address) as channel:
            request = health_pb2.HealthCheckRequest(service=service)
            status = health_pb2_grpc.HealthStub(channel).Check(request, timeout=PATIENCE).status
        return int(status)

    def wait_serving(self) -> "Server":
        with grpc.insecure_channel(self.address) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            for response in stub.Watch(health_pb2.HealthCheckRequest(), timeout=PATIENCE):
                if response.status == SERVING:
                    return self
        raise AssertionError(self.log.read_text())

    def end(self) -> None:
        """Leaves nothing behind, whatever state it is in."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait(PATIENCE)


def start_connected(candidate: Server, generator: Server, *gateways: Server) -> None:
    """Starts servers that find each other, and waits until all serve."""
    generator.flags["catalog"] = candidate.start().address
    generator.start()
    for service in (candidate, generator):
        service.wait_serving()
    for gateway in gateways:
        gateway.flags["candidate-target"] = candidate.address
        gateway.flags["generator-target"] = generator.address
        gateway.start().wait_serving()


@contextmanager
def servers(*all_of_them: Server) -> Iterator[None]:
    """Ends all of them, whatever happens."""
    try:
        yield
    finally:
        for server in all_of_them:
            server.end()
