"""Streams of answers: behind the same boundary as single answers, and no obstacle to a drain."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.wrappers_pb2 import Int32Value
from structlog.testing import capture_logs

from core import errors
from serving.boundary.proxy import Boundary
from serving.bundles.held import HeldBundle, HeldBundles
from serving.security.guard import Guard
from serving.security.keys_file import watch_keys
from serving.security.rights import Right, Rule
from serving.server import Api, ServicerProxy, make_server
from tandem.errors import Error, Internal, InvalidArgument, Unavailable, from_rpc
from tests.serving.security.credentials import KeysFile, bearer

COUNT = "/tandem.v1.Counter/Count"
DOUBLE = "/tandem.v1.Counter/Double"
NEXT = "/tandem.v1.Counter/Next"


class Counter:
    """Counts up to a number; from 100 on, forever; to -1 not at all; to -2 wrongly."""

    def __init__(self) -> None:
        self.closed = asyncio.Event()

    async def Count(  # noqa: N802
        self, request: Int32Value, _context: Any
    ) -> AsyncIterator[Int32Value]:
        if request.value == -1:
            raise errors.InvalidArgument("cannot count to -1", reason="NEGATIVE")
        try:
            for number in range(request.value):
                yield Int32Value(value=number)
            if request.value == -2:
                raise ZeroDivisionError("secret")
            if request.value >= 100:
                await asyncio.Event().wait()
        finally:
            self.closed.set()

    async def Next(self, request: Int32Value, _context: Any) -> Int32Value:  # noqa: N802
        return Int32Value(value=request.value + 1)

    async def Double(  # noqa: N802
        self, requests: AsyncIterator[Int32Value], _context: Any
    ) -> AsyncIterator[Int32Value]:
        """Twice each number; of what was asked, it answers the last after the requests ended."""
        held = None
        async for request in requests:
            if held is not None:
                yield Int32Value(value=2 * held)
            held = request.value
        if held is not None:
            yield Int32Value(value=2 * held)

    async def warm_up(self) -> None: ...

    async def close(self) -> None: ...


def attach(servicer: Any, server: grpc.aio.Server) -> None:
    """What generated code does."""
    handler = grpc.unary_stream_rpc_method_handler(
        servicer.Count, Int32Value.FromString, Int32Value.SerializeToString
    )
    double = grpc.stream_stream_rpc_method_handler(
        servicer.Double, Int32Value.FromString, Int32Value.SerializeToString
    )
    following = grpc.unary_unary_rpc_method_handler(
        servicer.Next, Int32Value.FromString, Int32Value.SerializeToString
    )
    service = grpc.method_handlers_generic_handler(
        "tandem.v1.Counter", {"Count": handler, "Double": double, "Next": following}
    )
    server.add_generic_rpc_handlers((service,))


@pytest.fixture
def held() -> HeldBundles:
    return HeldBundles()


def serve(held: HeldBundles, servicer: Any) -> None:
    held.serving = HeldBundle("made-up/1", servicer)


@pytest.fixture
def boundary() -> Boundary:
    rules = dict.fromkeys((COUNT, DOUBLE, NEXT), Rule(frozenset()))
    return Boundary(max_concurrent=3, guard=Guard(rules=rules))


@pytest.fixture
async def address(held: HeldBundles, boundary: Boundary) -> AsyncIterator[str]:
    async with counting(held, boundary) as address:
        yield address


@pytest.fixture
async def channel(address: str) -> AsyncIterator[grpc.aio.Channel]:
    async with connect(address) as channel:
        yield channel


@pytest.fixture
async def other(address: str) -> AsyncIterator[grpc.aio.Channel]:
    """Another caller's."""
    async with connect(address) as channel:
        yield channel


@asynccontextmanager
async def counting(held: HeldBundles, boundary: Boundary) -> AsyncIterator[str]:
    server = make_server(boundary, 2**20, 100)
    attach(ServicerProxy(Api("tandem.v1.Counter", attach), {"": held}), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield f"127.0.0.1:{port}"
    await server.stop(None)


def connect(address: str) -> grpc.aio.Channel:
    """By a connection of its own."""
    return grpc.aio.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)])


def count(
    channel: grpc.aio.Channel, to: int | bytes, metadata: tuple[tuple[str, str], ...] = ()
) -> Any:
    call: Any = channel.unary_stream(COUNT, response_deserializer=Int32Value.FromString)
    raw = to if isinstance(to, bytes) else Int32Value(value=to).SerializeToString()
    return call(raw, timeout=30, metadata=metadata)


async def failure_of(call: Any) -> Error:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call.read()
    return from_rpc(caught.value)


async def end_of(call: Any) -> Error:
    """The error that a stream ends with, whatever comes before it."""
    while True:
        try:
            await call.read()
        except grpc.aio.AioRpcError as error:
            return from_rpc(error)


async def test_a_stream_before_and_after_the_servicer_is_there(
    held: HeldBundles, channel: grpc.aio.Channel
) -> None:
    early = await failure_of(count(channel, 3))
    assert isinstance(early, Unavailable)
    assert early.reason == "WARMING_UP"
    serve(held, Counter())
    with capture_logs() as logs:
        assert [message.value async for message in count(channel, 3)] == [0, 1, 2]
    # The line of the early call may come late: after its caller has had the answer.
    (line,) = [line for line in logs if line["event"] == "call" and line["code"] == "OK"]
    assert line["method"] == COUNT


async def test_what_goes_wrong_in_a_stream_has_a_canonical_code(
    held: HeldBundles, channel: grpc.aio.Channel
) -> None:
    serve(held, Counter())
    mistake = await failure_of(count(channel, -1))
    assert isinstance(mistake, InvalidArgument)
    assert mistake.reason == "NEGATIVE"
    assert (await failure_of(count(channel, b"\xff"))).reason == "MALFORMED_MESSAGE"
    defect = await failure_of(count(channel, -2))
    assert isinstance(defect, Internal)
    assert "secret" not in defect.message


async def test_a_stream_that_is_left_ends(held: HeldBundles, channel: grpc.aio.Channel) -> None:
    counter = Counter()
    serve(held, counter)
    call = count(channel, 100)
    assert (await call.read()).value == 0
    call.cancel()
    await asyncio.wait_for(counter.closed.wait(), 30)


async def test_one_callers_streams_leave_room_for_others(
    held: HeldBundles, channel: grpc.aio.Channel, other: grpc.aio.Channel
) -> None:
    serve(held, Counter())
    endless = [count(channel, 100) for _ in range(2)]
    for call in endless:
        await call.read()
    refused = await failure_of(count(channel, 3))
    assert (refused.code, refused.reason) == (
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        "TOO_MANY_CALLS",
    )
    endless.append(count(other, 100))
    assert (await endless[-1].read()).value == 0
    assert (await failure_of(count(other, 3))).message == "the server is at its limit of 3 streams"
    for call in endless:
        call.cancel()


async def test_keys_share_streams_and_not_their_connections(tmp_path: Path) -> None:
    keys = KeysFile(tmp_path / "keys.toml")
    one, two = keys.add("one", {Right.INTERNAL}), keys.add("two", {Right.INTERNAL})
    rules = {COUNT: Rule(frozenset({Right.INTERNAL}))}
    guard = Guard(watch_keys(keys.path), rules=rules)
    held = HeldBundles()
    serve(held, Counter())
    async with AsyncExitStack() as opened:
        address = await opened.enter_async_context(
            counting(held, Boundary(max_concurrent=3, guard=guard))
        )
        channels = [await opened.enter_async_context(connect(address)) for _ in range(3)]
        for channel in channels[:2]:
            assert (await count(channel, 100, bearer(one)).read()).value == 0
        assert (await failure_of(count(channels[2], 3, bearer(one)))).reason == "TOO_MANY_CALLS"
        assert (await count(channels[2], 100, bearer(two)).read()).value == 0


async def test_a_drain_ends_endless_streams_which_go_on_elsewhere(
    held: HeldBundles, boundary: Boundary, channel: grpc.aio.Channel
) -> None:
    serve(held, Counter())
    endless = [count(channel, 100) for _ in range(2)]
    for call in endless:
        assert (await call.read()).value == 0
    await asyncio.wait_for(boundary.in_flight.drain(), 30)
    late = count(channel, 3)
    for call in (*endless, late):
        ended = await end_of(call)
        assert (ended.code, ended.reason) == (grpc.StatusCode.UNAVAILABLE, "DRAINING")


def double(channel: grpc.aio.Channel) -> Any:
    call: Any = channel.stream_stream(DOUBLE, Int32Value.SerializeToString, Int32Value.FromString)
    return call(timeout=30)


async def test_a_conversation(held: HeldBundles, channel: grpc.aio.Channel) -> None:
    serve(held, Counter())
    call = double(channel)
    with capture_logs() as logs:
        for number in range(3):
            await call.write(Int32Value(value=number))
        await call.done_writing()
        assert [message.value async for message in call] == [0, 2, 4]
    (line,) = [line for line in logs if line["event"] == "call"]
    assert (line["method"], line["code"]) == (DOUBLE, "OK")


async def test_a_message_that_is_none_ends_a_conversation(
    held: HeldBundles, channel: grpc.aio.Channel
) -> None:
    serve(held, Counter())
    call: Any = channel.stream_stream(DOUBLE)
    failure = await failure_of(call(iter([b"\xff"]), timeout=30))
    assert isinstance(failure, InvalidArgument)
    assert failure.reason == "MALFORMED_MESSAGE"


async def test_conversations_are_bounded_and_apart_from_calls(
    held: HeldBundles, channel: grpc.aio.Channel, other: grpc.aio.Channel
) -> None:
    serve(held, Counter())
    conversations = [double(each) for each in (channel, channel, other)]
    for conversation in conversations:
        await conversation.write(Int32Value(value=1))
        await conversation.write(Int32Value(value=2))
        assert (await conversation.read()).value == 2
    for each in (channel, other):
        assert (await failure_of(double(each))).reason == "TOO_MANY_CALLS"
    call: Any = channel.unary_unary(NEXT, response_deserializer=Int32Value.FromString)
    assert (await call(Int32Value(value=1).SerializeToString(), timeout=30)).value == 2
    for conversation in conversations:
        await conversation.done_writing()


async def test_a_drain_answers_what_was_taken_and_leaves_the_rest_to_others(
    held: HeldBundles, boundary: Boundary, channel: grpc.aio.Channel
) -> None:
    serve(held, Counter())
    call = double(channel)
    await call.write(Int32Value(value=1))
    await call.write(Int32Value(value=2))
    assert (await call.read()).value == 2
    draining = asyncio.create_task(boundary.in_flight.drain())
    assert (await call.read()).value == 4
    failure = await failure_of(call)
    assert (failure.code, failure.reason) == (grpc.StatusCode.UNAVAILABLE, "DRAINING")
    await asyncio.wait_for(draining, 30)
