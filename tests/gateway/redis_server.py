"""A real Redis for tests: on a free port, with its files in a directory of the test."""

import shutil
import signal
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from gateway.history import Retention
from gateway.history.redis import RedisHistoryStore
from gateway.history.tombstones import UserHash
from tests.processes import PATIENCE, wait_until

KEY = b"a key of deleted users for tests"


@dataclass
class RedisServer:
    """One server; restarts keep its port and its data."""

    directory: Path
    options: tuple[str, ...] = ()
    port: int = 0
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> "RedisServer":
        self.port = self.port or _free_port()
        command = ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1"]
        command += ["--dir", str(self.directory), "--save", "", "--appendonly", "yes"]
        command += ["--appendfsync", "always", *self.options]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        wait_until(self._answers, "redis to answer")
        return self

    def send(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait(PATIENCE)

    def command(self, *words: str) -> list[str]:
        """What `redis-cli` prints, line by line."""
        command = ["redis-cli", "-p", str(self.port), *words]
        answer = subprocess.run(command, capture_output=True, text=True, check=True)
        return answer.stdout.splitlines()

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(16).startswith(b"+PONG")
        except OSError:
            return False


def open_redis(
    server: RedisServer, retention: Retention, directory: Path | None = None, **options: Any
) -> RedisHistoryStore:
    """Opens a gateway's store, with a file of deleted users in a directory of its own."""
    users, tombstones = UserHash(KEY), (directory or server.directory) / "deleted.sqlite"
    return RedisHistoryStore(server.url, retention, users, tombstones, **options)


@asynccontextmanager
async def opened_redis(
    server: RedisServer,
    retention: Retention | None = None,
    directory: Path | None = None,
    **options: Any,
) -> AsyncIterator[RedisHistoryStore]:
    """The same, closed at the end."""
    store = open_redis(server, retention or Retention(), directory, **options)
    try:
        yield store
    finally:
        await store.close()


def redis_flags(server: RedisServer, directory: Path | None = None) -> dict[str, Any]:
    """The settings of a gateway with this Redis, and what else it needs in a directory."""
    directory = directory or server.directory
    key = directory / "key"
    key.write_bytes(KEY)
    return {
        "history": server.url,
        "history_key_file": key,
        "history_deleted_users": directory / "deleted.sqlite",
    }


@contextmanager
def redis_server(directory: Path, *options: str) -> Iterator[RedisServer]:
    """Runs a server, or skips the test where none is installed."""
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed: apt-get install redis-server")
    server = RedisServer(directory, options)
    try:
        yield server.start()
    finally:
        server.kill()


def _free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
