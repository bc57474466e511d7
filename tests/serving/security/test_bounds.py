"""What strangers can make a server hold: connections that say nothing, and huge metadata."""

import resource
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import grpc
import pytest

from serving.security.rights import Right
from tandem.errors import from_rpc
from tandem.v1 import candidate_service_pb2 as pb
from tandem.v1 import candidate_service_pb2_grpc as pb_grpc
from tests.processes import PATIENCE, Server, servers, wait_until
from tests.serving.security.credentials import KeysFile, bearer
from tests.tiny_bundle import write_tiny_bundle

CONNECTIONS = 1_000
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"
"""How a connection of HTTP/2 begins, with an empty frame of settings."""
MEGABYTE = 2**20


@pytest.fixture
def keys(tmp_path: Path) -> KeysFile:
    keys = KeysFile(tmp_path / "keys.toml")
    keys.add("gateway", {Right.INTERNAL})
    return keys


@pytest.fixture
def server(tmp_path: Path, keys: KeysFile) -> Iterator[Server]:
    flags: dict[str, object] = {
        "bundle": write_tiny_bundle(tmp_path),
        "load-gate": tmp_path,
        "keys-file": keys.path,
    }
    server = Server("candidate", ["tests.gateway.fake_process", "candidate"], tmp_path, flags)
    with servers(server):
        yield server.start().wait_serving()


@contextmanager
def more_files() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 3 * CONNECTIONS)), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def open_files(server: Server) -> int:
    assert server.process is not None
    return len(list(Path(f"/proc/{server.process.pid}/fd").iterdir()))


def memory(server: Server) -> int:
    """Bytes that are resident."""
    assert server.process is not None
    pages = int(Path(f"/proc/{server.process.pid}/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def search(
    channel: grpc.Channel, credential: str | None, metadata: tuple[tuple[str, str], ...] = ()
) -> str:
    """The reason that a call fails for, or its code."""
    stub = pb_grpc.CandidateServiceStub(channel)
    try:
        stub.Search(pb.SearchRequest(), timeout=PATIENCE, metadata=(*bearer(credential), *metadata))
    except grpc.RpcError as error:
        failure = from_rpc(error)
        return failure.reason or failure.code.name
    return "OK"


def test_a_thousand_idle_connections_keep_nobody_out(server: Server, keys: KeysFile) -> None:
    before, files = memory(server), open_files(server)
    with more_files(), ExitStack() as opened, grpc.insecure_channel(server.address) as channel:
        for number in range(CONNECTIONS):
            address = ("127.0.0.1", server.port)
            idle = opened.enter_context(socket.create_connection(address, timeout=PATIENCE))
            if number % 2:
                idle.sendall(PREFACE)
        wait_until(lambda: open_files(server) >= files + 0.9 * CONNECTIONS, "connections")
        assert {search(channel, keys.keys["gateway"]) for _ in range(50)} == {"OK"}
        assert {search(channel, "gateway.wrong") for _ in range(50)} == {"INVALID_CREDENTIALS"}
        assert memory(server) - before < 200 * MEGABYTE
    wait_until(lambda: open_files(server) < files + 10, "them to be gone")


def test_huge_metadata_is_refused_and_not_kept(server: Server, keys: KeysFile) -> None:
    key = keys.keys["gateway"]
    huge = (("x-huge", "x" * MEGABYTE),)
    options = [("grpc.enable_retries", 0), ("grpc.use_local_subchannel_pool", 1)]
    before = memory(server)
    with (
        grpc.insecure_channel(server.address, options) as stranger,
        grpc.insecure_channel(server.address, options) as honest,
    ):
        for _ in range(10):
            assert search(stranger, None, huge) in {"RESOURCE_EXHAUSTED", "UNAVAILABLE"}
            assert search(honest, key) == "OK"
    assert memory(server) - before < 8 * MEGABYTE
