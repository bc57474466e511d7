"""Explain and Summarize over a real server."""

import asyncio
import threading
import weakref
from collections.abc import AsyncIterable, AsyncIterator, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest

from services.generator.catalog.follower import Follower
from services.generator.decoding.engine import UserContext
from services.generator.metrics import GeneratorMetrics
from services.generator.servicer import GeneratorServicer
from services.generator.text.engine import TextEngine, TextJob
from services.generator.text.prompts import TextPrompts
from services.generator.text.queue import TextLimits
from serving.testing import serving
from tandem import errors
from tandem.v1 import generator_service_pb2 as pb
from tandem.v1 import generator_service_pb2_grpc as rpc
from tests.generator.calls import ids, make_servicer
from tests.generator.made_up import EOS, MadeUp, Served
from tests.generator.made_up_items import MadeUpItems
from tests.generator.text.made_up_text import MAX_TOKENS, write_all

if TYPE_CHECKING:
    from tandem.v1.generator_service_pb2_grpc import GeneratorServiceAsyncStub as Stub

LIMITS = TextLimits(rows=3, queue=4)


@pytest.fixture(params=["tokens", "items"])
def served(request: pytest.FixtureRequest, writer: MadeUp, item_writer: MadeUpItems) -> Served:
    return writer if request.param == "tokens" else item_writer


@pytest.fixture
async def servicer(served: Served) -> AsyncIterator[GeneratorServicer]:
    users = served.bundle.histories.user_index
    servicer = GeneratorServicer(
        Follower(served.engine), users, served.bundle.version, text_limits=LIMITS
    )
    await servicer.warm_up()
    yield servicer
    await servicer.close()


@pytest.fixture
async def stub(servicer: GeneratorServicer) -> AsyncIterator["Stub"]:
    async with serving(servicer, rpc.add_GeneratorServiceServicer_to_server) as channel:
        yield rpc.GeneratorServiceStub(channel)


async def test_a_version_without_texts_holds_none_of_another(writer: MadeUp) -> None:
    metrics = GeneratorMetrics()

    def version() -> GeneratorServicer:
        users = writer.bundle.histories.user_index
        return GeneratorServicer(Follower(writer.engine), users, "shop/1", metrics=metrics)

    first, second = version(), version()
    second.texts = None
    await first.activate(None)
    await second.activate(first)
    assert first.texts is not None
    gone = weakref.ref(first.texts)
    await first.close()
    del first
    assert gone() is None
    await second.close()


def explain(item: int = 5, **fields: Any) -> pb.ExplainRequest:
    context = pb.UserContext(user_id="ann", history_item_ids=ids(1, 2, 3))
    return pb.ExplainRequest(context=context, item_id=f"i{item}", **fields)


async def read(stream: AsyncIterable[Any]) -> tuple[str, pb.TextEnd]:
    """The text of a stream, and its end."""
    parts = [part async for part in stream]
    assert all(part.bundle_version == "tiny/1" for part in parts)
    *deltas, end = parts
    assert all(part.WhichOneof("part") == "delta" and part.delta for part in deltas)
    return "".join(part.delta for part in deltas), end.end


async def test_explains_what_the_engine_writes(served: Served, stub: "Stub") -> None:
    engine = served.engine
    for feature in ("", "item"):
        text, end = await read(stub.Explain(explain(feature=feature)))
        context = UserContext(0, np.array([1, 2, 3], np.int32))
        prompt = TextPrompts(engine).explain(context, 5, feature)
        (tokens,) = write_all(
            TextEngine(engine.parts), [TextJob(engine.snapshot, prompt, MAX_TOKENS)]
        )
        ended = tokens[-1] == EOS
        assert text == engine.parts.tokenizer.decode(tokens)
        assert end.reason == (pb.STOP_REASON_END if ended else pb.STOP_REASON_MAX_TOKENS)
        assert end.tokens == len(tokens) - ended
        assert [t.stage for t in end.timings] == ["prepare", "queue", "first", "rest"]


async def test_summarizes_as_much_as_it_reads(served: Served, stub: "Stub") -> None:
    some = [await read(stub.Summarize(pb.SummarizeRequest(text=t))) for t in ("item ", "like it")]
    assert all(end.tokens for _, end in some)
    assert len({text for text, _ in some}) == 2
    long = await read(stub.Summarize(pb.SummarizeRequest(text="like item " * 1_600)))
    prompt = TextPrompts(served.engine).summarize("like item " * 1_600)
    most = served.engine.parts.section.max_input_tokens
    assert most - 2 <= len(prompt) <= most
    assert long[1].tokens


async def test_equal_seeds_draw_equal_texts(stub: "Stub") -> None:
    async def drawn(**fields: Any) -> str:
        options = pb.TextOptions(top_p=0.95, **fields)
        return (await read(stub.Explain(explain(options=options))))[0]

    assert len({await drawn(seed=7) for _ in range(3)}) == 1
    assert len({await drawn(seed=seed) for seed in range(5)}) > 1
    assert len({await drawn() for _ in range(5)}) > 1
    almost_greedy = pb.TextOptions(top_p=1e-9)
    assert await read(stub.Explain(explain(options=almost_greedy))) is not None


@pytest.mark.parametrize(
    ("request_", "code", "reason"),
    [
        (explain(999), grpc.StatusCode.NOT_FOUND, "UNKNOWN_ITEMS"),
        (pb.ExplainRequest(), grpc.StatusCode.INVALID_ARGUMENT, "EMPTY_ID"),
        (explain(feature="x" * 65), grpc.StatusCode.INVALID_ARGUMENT, "TEXT_TOO_LONG"),
        (explain(feature="1" * 63), grpc.StatusCode.INVALID_ARGUMENT, "TEXT_TOO_LONG"),
        (
            explain(options=pb.TextOptions(max_tokens=-1)),
            grpc.StatusCode.INVALID_ARGUMENT,
            "NEGATIVE_MAX_TOKENS",
        ),
        (
            explain(options=pb.TextOptions(top_p=0)),
            grpc.StatusCode.INVALID_ARGUMENT,
            "TOP_P_OUT_OF_RANGE",
        ),
        (
            explain(options=pb.TextOptions(top_p=float("nan"))),
            grpc.StatusCode.INVALID_ARGUMENT,
            "TOP_P_OUT_OF_RANGE",
        ),
        (
            explain(options=pb.TextOptions(seed=-1)),
            grpc.StatusCode.INVALID_ARGUMENT,
            "NEGATIVE_SEED",
        ),
        (pb.SummarizeRequest(text=" "), grpc.StatusCode.INVALID_ARGUMENT, "EMPTY_TEXT"),
        (
            pb.SummarizeRequest(text="a" * 16_385),
            grpc.StatusCode.INVALID_ARGUMENT,
            "TEXT_TOO_LONG",
        ),
    ],
)
async def test_refuses_what_breaks_the_contract(
    stub: "Stub", request_: Any, code: grpc.StatusCode, reason: str
) -> None:
    method = stub.Explain if isinstance(request_, pb.ExplainRequest) else stub.Summarize
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await read(method(request_))
    failure = errors.from_rpc(caught.value)
    assert (failure.code, failure.reason) == (code, reason)


async def test_model_that_writes_no_text_says_so(made_up: MadeUp) -> None:
    servicer = make_servicer(made_up.bundle, made_up.engine)
    await servicer.warm_up()
    async with serving(servicer, rpc.add_GeneratorServiceServicer_to_server) as channel:
        stub = rpc.GeneratorServiceStub(channel)
        for stream in (
            stub.Explain(explain()),
            stub.Summarize(pb.SummarizeRequest(text="a")),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await read(stream)
            assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
            assert errors.from_rpc(caught.value).reason == "NO_TEXT"
    await servicer.close()


@contextmanager
def stalled(servicer: GeneratorServicer) -> Iterator[threading.Semaphore]:
    """Texts that are written a token for each release of the semaphore, and do not end before."""
    assert servicer.texts is not None
    engine, allowed = servicer.texts.engine, threading.Semaphore(0)
    step = engine.step

    def slow() -> list[int]:
        allowed.acquire()
        return [token if token != EOS else EOS + 2 for token in step()]

    engine.step = slow  # type: ignore[method-assign]
    try:
        yield allowed
    finally:
        del engine.step
        allowed.release(10_000)


async def until(condition: Any) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - the other side is a thread
            await asyncio.sleep(0.005)


async def begun(
    servicer: GeneratorServicer, stub: "Stub", allowed: threading.Semaphore
) -> list[Any]:
    """As many streams as are written at a time, each at a step that waits."""
    texts = servicer.texts
    assert texts is not None
    streams = [stub.Explain(explain(i)) for i in range(LIMITS.rows)]
    await until(lambda: texts.running + texts.waiting == LIMITS.rows)
    await until(lambda: all(place.is_ready for place in list(texts._waiting)))
    allowed.release()  # the first may have begun before the others came
    await until(lambda: texts.running == LIMITS.rows)
    return streams


async def test_leaving_frees_the_place(servicer: GeneratorServicer, stub: "Stub") -> None:
    texts = servicer.texts
    assert texts is not None
    with stalled(servicer) as allowed:
        leaving, *others = await begun(servicer, stub, allowed)
        waiting = asyncio.ensure_future(read(stub.Explain(explain(9))))
        await until(lambda: any(place.is_ready for place in list(texts._waiting)))
        leaving.cancel()
        await until(lambda: texts.running == LIMITS.rows - 1)
        allowed.release()
        await until(lambda: (texts.waiting, texts.running) == (0, LIMITS.rows))
        allowed.release(10_000)
        assert (await waiting)[1].tokens
        await asyncio.gather(*map(read, others))
    await until(lambda: texts.running == 0)


async def test_a_full_queue_refuses(servicer: GeneratorServicer, stub: "Stub") -> None:
    texts = servicer.texts
    assert texts is not None
    with stalled(servicer) as allowed:
        streams = await begun(servicer, stub, allowed)
        streams += [stub.Explain(explain(i)) for i in range(LIMITS.queue)]
        await until(lambda: texts.waiting == LIMITS.queue)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await read(stub.Explain(explain()))
        failure = errors.from_rpc(caught.value)
        assert failure.code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert failure.reason == "QUEUE_FULL"
        assert failure.retry_after
        allowed.release(10_000)
        assert all(end.tokens for _, end in await asyncio.gather(*map(read, streams)))


async def test_a_deadline_ends_a_text_with_its_reason(
    servicer: GeneratorServicer, stub: "Stub"
) -> None:
    with stalled(servicer) as allowed:
        reading = asyncio.ensure_future(read(stub.Explain(explain(), timeout=4.0)))
        # One step takes over half of the time, so that there is none for another.
        asyncio.get_running_loop().call_later(2.1, allowed.release)
        _, end = await reading
    assert (end.reason, end.tokens) == (pb.STOP_REASON_DEADLINE, 1)
