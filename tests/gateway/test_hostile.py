"""Clients that mean no good, and a neighbor who must not notice: against a real gateway process."""

import asyncio
import os
import socket
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tandem
from bench.lib.resets import METHOD, connected, open_call, resetting
from tandem import Client
from tandem.v1 import recommendation_service_pb2 as pb
from tandem.v1 import recommendation_service_pb2_grpc as pb_grpc
from tandem.v1.common_pb2 import ItemConstraints
from tests.processes import PATIENCE, Server, servers
from tests.tiny_bundle import write_tiny_bundle

MAX_MESSAGE_BYTES = 100_000
CALLERS_MISTAKES = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
}


@dataclass
class Target:
    gateway: Server
    client: Client

    @property
    def address(self) -> str:
        return self.gateway.address

    def neighbor_is_served(self, calls: int = 1) -> None:
        for _ in range(calls):
            response = self.client.recommend("ann", strategy="embedding")
            assert len(response.recommendations) == 9
            assert not response.degraded


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    directory = tmp_path_factory.mktemp("hostile")
    bundle = write_tiny_bundle(directory)
    flags: dict[str, object] = {"bundle": bundle}
    candidate = Server("candidate", ["tests.gateway.fake_process", "candidate"], directory, flags)
    generator = Server(
        "generator", ["tests.gateway.fake_process", "generator"], directory, dict(flags)
    )
    gateway = Server("gateway", ["cli.main", "serve", "gateway"], directory, dict(flags))
    with servers(candidate, generator, gateway):
        gateway.flags["candidate-target"] = candidate.start().address
        gateway.flags["generator-target"] = generator.start().address
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("TANDEM_MAX_MESSAGE_BYTES", str(MAX_MESSAGE_BYTES))
            gateway.start().wait_serving()
        with Client(gateway.address, timeout=PATIENCE) as client:
            yield Target(gateway, client)


@pytest.fixture(autouse=True)
def lives(target: Target) -> Iterator[None]:
    """Every test leaves a gateway that serves, the same process as before."""
    process = target.gateway.process
    yield
    target.neighbor_is_served()
    assert target.gateway.alive
    assert target.gateway.process is process


def test_calls_that_are_reset_at_once(target: Target) -> None:
    with resetting(target.address) as resets:
        target.neighbor_is_served(calls=50)
    assert resets.per_second > 0


async def test_a_crowd_on_one_connection_is_not_hostile(target: Target) -> None:
    """gRPC refuses streams above a connection's limit, and not all libraries try these again."""
    options = [("grpc.enable_retries", 0)]
    request = pb.RecommendRequest(user_id="ann", strategy=pb.STRATEGY_EMBEDDING)
    codes: Counter[str] = Counter()
    async with grpc.aio.insecure_channel(target.address, options) as channel:
        recommend: Any = channel.unary_unary(METHOD)

        async def call_on() -> None:
            for _ in range(20):
                try:
                    await recommend(request.SerializeToString(), timeout=PATIENCE)
                    codes["OK"] += 1
                except grpc.aio.AioRpcError as error:
                    codes[error.code().name] += 1

        await asyncio.gather(*(call_on() for _ in range(50)))
    assert codes["OK"] > 50
    assert not codes.keys() - {"OK", "RESOURCE_EXHAUSTED"}, codes


def test_a_connection_that_says_nothing_or_nonsense(target: Target) -> None:
    host, _, port = target.address.rpartition(":")
    with (
        socket.create_connection((host, int(port))),
        socket.create_connection((host, int(port))) as nonsense,
    ):
        nonsense.sendall(b"GET / HTTP/1.1\r\n\r\n" + os.urandom(10_000))
        target.neighbor_is_served(calls=3)


def test_a_call_that_never_sends_its_message(target: Target) -> None:
    message = pb.RecommendRequest(user_id="ann").SerializeToString()
    with connected(target.address) as (wire, connection):
        stream = open_call(connection, timeout_seconds=600)
        prefix = b"\0" + len(message).to_bytes(4, "big")
        connection.send_data(stream, prefix + message, end_stream=True)
        wire.sendall(connection.data_to_send()[:-3])
        target.neighbor_is_served(calls=3)


def failure_of(target: Target, raw: bytes, **arguments: Any) -> grpc.StatusCode | None:
    """The code of a call with these bytes; None when it is answered."""
    with grpc.insecure_channel(target.address) as channel:
        recommend: Any = channel.unary_unary(METHOD)
        try:
            recommend(raw, timeout=PATIENCE, **arguments)
        except grpc.RpcError as error:
            return tandem.errors.from_rpc(error).code
    return None


def test_an_oversized_message(target: Target) -> None:
    assert failure_of(target, bytes(MAX_MESSAGE_BYTES + 1)) == grpc.StatusCode.RESOURCE_EXHAUSTED


def test_oversized_headers(target: Target) -> None:
    metadata = (("x-request-id", "x" * 100_000),)
    code = failure_of(target, b"", metadata=metadata)
    assert code == grpc.StatusCode.RESOURCE_EXHAUSTED


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=200))
def test_bytes_that_may_be_no_message(target: Target, raw: bytes) -> None:
    assert failure_of(target, raw) in {*CALLERS_MISTAKES, None}


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_messages_that_were_damaged(target: Target, data: st.DataObject) -> None:
    request = pb.RecommendRequest(
        user_id="ann", constraints=ItemConstraints(excluded_item_ids=["i1", "i2"]), max_results=3
    )
    request.constraints.filter.range.attribute = "year"
    raw = bytearray(request.SerializeToString())
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    assert failure_of(target, bytes(raw)) in {*CALLERS_MISTAKES, None}


async def test_a_reader_that_does_not_read(target: Target) -> None:
    """It is not read from for ever, holds nobody up, and has all its answers when it wants them."""
    count = 20_000
    async with grpc.aio.insecure_channel(target.address) as channel:
        stream: Any = pb_grpc.RecommendationServiceStub(channel).BatchRecommend(timeout=600)
        request = pb.RecommendRequest(
            user_id="ann",
            strategy=pb.STRATEGY_EMBEDDING,
            constraints=ItemConstraints(excluded_item_ids=["nothing" * 50] * 20),
        )

        async def write() -> int:
            for number in range(count):
                await stream.write(pb.BatchRecommendRequest(id=str(number), request=request))
            return count

        writing = asyncio.create_task(write())
        await asyncio.to_thread(target.neighbor_is_served, 20)
        assert not writing.done()  # 140 MB would fit into no buffer
        for _ in range(500):
            answer = await stream.read()
            assert len(answer.response.recommendations) == 9
        writing.cancel()
        stream.cancel()
