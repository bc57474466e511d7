"""What servers count, as Prometheus reads it; and that nobody can make series at will."""

import asyncio
import socket
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.parser import text_string_to_metric_families

from core.bundle import Bundle
from core.errors import NotFound, SettingsError
from serving.telemetry.calls import ServedCalls
from serving.telemetry.exposition import MAX_READERS, MetricsServer
from serving.telemetry.labels import OTHER, Labeled
from serving.testing import serving
from tandem.v1 import candidate_service_pb2 as pb
from tandem.v1 import candidate_service_pb2_grpc as pb_grpc
from tests.gateway.fakes import WAIT, FakeCandidate
from tests.tiny_bundle import write_tiny_bundle

SEARCH = "/tandem.v1.CandidateService/Search"
attach = pb_grpc.add_CandidateServiceServicer_to_server


def series(registry: CollectorRegistry) -> set[tuple[str, tuple[tuple[str, str], ...]]]:
    """The names and labels of all that a registry shows."""
    return {
        (sample.name, tuple(sorted(sample.labels.items())))
        for family in registry.collect()
        for sample in family.samples
    }


class Server:
    """A fake service, and what was counted of it."""

    def __init__(self, fake: FakeCandidate, channel: grpc.aio.Channel, calls: Any) -> None:
        self.fake = fake
        self.channel = channel
        self.registry: CollectorRegistry = calls

    def count(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(name, labels) or 0.0

    def ended(self, code: str, reason: str = "", method: str = SEARCH) -> float:
        return self.count("tandem_server_calls_total", method=method, code=code, reason=reason)

    async def call(self, raw: bytes = b"", method: str = SEARCH) -> str:
        """The code that bytes are answered with, once the call is counted: the caller of one that
        fails may hear of it before."""
        before = self.in_flight(method)
        call: Any = self.channel.unary_unary(method)
        try:
            await call(raw, timeout=10)
        except grpc.aio.AioRpcError as error:
            while self.in_flight(method) > before:  # noqa: ASYNC110 - no event tells
                await asyncio.sleep(0)
            return error.code().name
        return "OK"

    def in_flight(self, method: str) -> float:
        return self.count("tandem_server_calls_in_flight", method=method)


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    fake = FakeCandidate(Bundle.open(write_tiny_bundle(tmp_path)))
    registry = CollectorRegistry()
    async with serving(fake, attach, max_concurrent_rpcs=2, calls=ServedCalls(registry)) as channel:
        yield Server(fake, channel, registry)


async def test_calls_are_counted_by_code_and_reason(server: Server) -> None:
    assert await server.call() == "OK"
    assert await server.call(b"\xff") == "INVALID_ARGUMENT"
    server.fake.failure = NotFound("none", reason="UNKNOWN_ITEMS")
    assert await server.call() == "NOT_FOUND"
    assert server.ended("OK") == 1
    assert server.ended("INVALID_ARGUMENT", "MALFORMED_MESSAGE") == 1
    assert server.ended("NOT_FOUND", "UNKNOWN_ITEMS") == 1
    assert server.count("tandem_server_call_seconds_count", method=SEARCH) == 3


async def test_a_call_in_flight_is_seen_until_it_ends(server: Server) -> None:
    request = pb.SearchRequest(history_item_ids=[WAIT])
    waiting = pb_grpc.CandidateServiceStub(server.channel).Search(request)
    await server.fake.waiting.wait()
    assert server.count("tandem_server_calls_in_flight", method=SEARCH) == 1
    waiting.cancel()
    await server.fake.cancelled.wait()
    assert await server.call() == "OK"
    assert server.count("tandem_server_calls_in_flight", method=SEARCH) == 0
    assert server.ended("CANCELLED") == 1


async def test_a_call_that_is_shed_on_arrival_is_counted(tmp_path: Path) -> None:
    class Busy(FakeCandidate):
        def retry_after(self, _method: str) -> float | None:
            return 1.0

    busy = Busy(Bundle.open(write_tiny_bundle(tmp_path)))
    registry = CollectorRegistry()
    async with serving(busy, attach, calls=ServedCalls(registry)) as channel:
        server = Server(busy, channel, registry)
        assert await server.call() == "RESOURCE_EXHAUSTED"
        assert server.ended("RESOURCE_EXHAUSTED", "OVERLOADED") == 1
        # It was not served, so its time says nothing of those that are.
        assert server.count("tandem_server_call_seconds_count", method=SEARCH) == 0


async def test_methods_that_there_are_not_make_one_series(server: Server) -> None:
    await server.call()
    for number in range(100):
        method = f"/tandem.v1.CandidateService/Nope{number}"
        assert await server.call(method=method) == "UNIMPLEMENTED"
    assert server.ended("UNIMPLEMENTED", method="/unknown") == 100
    assert not [labels for _, labels in series(server.registry) if "Nope" in str(labels)]


async def test_strange_reasons_make_one_series(server: Server) -> None:
    for number in range(100):
        server.fake.failure = NotFound("none", reason=f"STRANGE_{number}")
        await server.call()
    assert server.ended("NOT_FOUND", OTHER) == 100
    assert "STRANGE" not in str(series(server.registry))


@given(st.lists(st.tuples(st.text(), st.text())))
def test_no_value_outside_of_the_sets_becomes_a_series(values: Sequence[tuple[str, str]]) -> None:
    registry = CollectorRegistry()
    metric = Counter("tandem_things_total", "Things.", ["one", "two"], registry=registry)
    labeled = Labeled(metric, ("a", "b"), ("c",))
    for pair in (*values, ("a", "c"), ("b", "c")):
        labeled.of(*pair).inc()
    allowed = {(one, two) for one in ("a", "b", OTHER) for two in ("c", OTHER)}
    found = {(s["one"], s["two"]) for s in (dict(labels) for _, labels in series(registry))}
    assert found <= allowed
    total = sum(sample.value for family in registry.collect() for sample in family.samples)
    assert total == len(values) + 2


async def test_servers_of_one_process_count_apart(server: Server, tmp_path: Path) -> None:
    fake = FakeCandidate(Bundle.open(write_tiny_bundle(tmp_path / "other")))
    async with serving(fake, attach) as channel:
        await Server(fake, channel, CollectorRegistry()).call()
    assert server.ended("OK") == 0


@pytest.fixture
def shown() -> Iterator[MetricsServer]:
    registry = CollectorRegistry()
    Counter("tandem_things_total", "Things.", registry=registry).inc(3)
    server = MetricsServer(registry, "127.0.0.1", 0)
    yield server
    server.close()


def read(server: MetricsServer) -> dict[str, float]:
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    return {
        sample.name: sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_prometheus_reads_them_by_http(shown: MetricsServer) -> None:
    assert read(shown) == {"tandem_things_total": 3}


def test_readers_that_say_nothing_leave_room_or_are_closed(shown: MetricsServer) -> None:
    with ExitStack() as opened:
        silent = [
            opened.enter_context(socket.create_connection(("127.0.0.1", shown.port)))
            for _ in range(MAX_READERS + 3)
        ]
        # Those that there is no room for hear of it at once; the others may still speak.
        assert all(each.recv(1) == b"" for each in silent[MAX_READERS:])
        silent[0].sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        assert silent[0].recv(8) == b"HTTP/1.0"


def test_a_port_that_is_taken_is_named(shown: MetricsServer) -> None:
    with pytest.raises(SettingsError, match=f"127.0.0.1:{shown.port}.*--metrics-port"):
        MetricsServer(CollectorRegistry(), "127.0.0.1", shown.port)


def test_after_the_end_nobody_listens(shown: MetricsServer) -> None:
    shown.close()
    with pytest.raises(urllib.error.URLError):
        read(shown)
