"""A service as a process of this machine; `offline.evaluate.served` starts all three."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

START_SECONDS: Final = 60.0


@dataclass
class Process:
    """One service."""

    name: str
    bundle: Path
    directory: Path
    """For its log and its port."""
    flags: Sequence[str] = ()
    """More of `tandem serve NAME`."""
    environment: Mapping[str, str] = field(default_factory=dict)
    port: int = 0
    module: str = "cli.main"
    """What is run; takes the arguments of `tandem`."""

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"127.0.0.1:{self.port}"

    @property
    def log(self) -> Path:
        """What it wrote, one JSON object a line."""
        return self.directory / f"{self.name}.log"

    def start(self) -> "Process":
        """Starts it and waits until it serves.

        Raises:
            ChildProcessError: it ended instead.
            TimeoutError: it did neither in `START_SECONDS`.
        """
        port_file = self.directory / f"{self.name}.port"
        flags = ("--bundle", self.bundle, "--port", self.port, "--port-file", port_file)
        command = [sys.executable, "-m", self.module, "serve", self.name, *map(str, flags)]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*command, *self.flags], stderr=log, env={**os.environ, **self.environment}
            )
        end = time.monotonic() + START_SECONDS
        while not (port_file.exists() and self._serves(port_file)):
            if self.process.poll() is not None:
                code = self.process.returncode
                raise ChildProcessError(f"the {self.name} process ended with exit code {code}")
            if time.monotonic() > end:
                raise TimeoutError(f"the {self.name} process does not serve")
            time.sleep(0.02)
        return self

    def _serves(self, port_file: Path) -> bool:
        self.port = int(port_file.read_text(encoding="ascii"))
        with grpc.insecure_channel(self.address) as channel:
            check = health_pb2_grpc.HealthStub(channel).Check
            try:
                answer = check(health_pb2.HealthCheckRequest(), timeout=1.0)
            except grpc.RpcError:
                return False
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

    def end(self) -> None:
        """Leaves nothing behind, whatever state it is in."""
        self.process.kill()
        self.process.wait()


@contextmanager
def serving(
    name: str,
    bundle: Path,
    *flags: str,
    environment: Mapping[str, str] | None = None,
    module: str = "cli.main",
) -> Iterator[Process]:
    """Runs a service for as long as the block takes.

    Raises:
        ChildProcessError: it did not start.
    """
    with tempfile.TemporaryDirectory() as directory:
        process = Process(name, bundle, Path(directory), flags, environment or {}, module=module)
        try:
            yield process.start()
        finally:
            process.end()
