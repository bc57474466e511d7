"""Explain and Summarize of a gateway in front of a writer whose words are foretold."""

import asyncio
from pathlib import Path
from typing import Any

import grpc
import pytest

import tandem
from core.errors import FailedPrecondition, Internal, ResourceExhausted, Unavailable
from tandem.v1 import generator_service_pb2 as pb
from tandem.v1 import recommendation_service_pb2_grpc as pb_grpc
from tests.gateway.fake_texts import STALLS
from tests.gateway.stack import Stack, running
from tests.tiny_bundle import write_tiny_bundle


async def written(stack: Stack, *arguments: str, **fields: Any) -> str:
    """The text of an explanation that comes to its own end."""
    parts = [part async for part in stack.client.explain(*arguments, **fields)]
    assert parts[-1].end.reason == pb.STOP_REASON_END
    assert {part.bundle_version for part in parts} == {"tiny/1"}
    return "".join(part.delta for part in parts)


async def test_explains_from_the_stored_history(stack: Stack) -> None:
    assert await written(stack, "ann", "i5") == "You would like i5 after i0 i1 i2"
    assert await written(stack, "ann", "i5", history=["i7"]) == "You would like i5 after i7"
    assert await written(stack, "", "i5", history=["i7"]) == "You would like i5 after i7"


async def test_options_reach_the_writer(stack: Stack) -> None:
    await written(stack, "ann", "i5", feature="sound", max_tokens=7, top_p=0.5, seed=3)
    request = stack.generator.requests[-1]
    assert request.feature == "sound"
    assert request.options == pb.TextOptions(max_tokens=7, top_p=0.5, seed=3)


async def test_summarizes(stack: Stack) -> None:
    parts = [part async for part in stack.client.summarize("Nice and so on")]
    assert parts[0].delta == "Nice"
    assert parts[-1].end.tokens == 1


@pytest.mark.parametrize(
    ("user", "code", "reason"),
    [
        ("", grpc.StatusCode.INVALID_ARGUMENT, "MISSING_USER"),
        ("nobody", grpc.StatusCode.NOT_FOUND, "UNKNOWN_USER"),
        ("x" * 600, grpc.StatusCode.INVALID_ARGUMENT, "ID_TOO_LONG"),
    ],
)
async def test_refuses_whom_it_does_not_know(
    stack: Stack, user: str, code: grpc.StatusCode, reason: str
) -> None:
    with pytest.raises(tandem.Error) as caught:
        await written(stack, user, "i5")
    assert (caught.value.code, caught.value.reason) == (code, reason)


async def test_fails_as_the_writer_does(stack: Stack) -> None:
    failures = [
        FailedPrecondition("it writes no text", reason="NO_TEXT"),
        ResourceExhausted("full", reason="QUEUE_FULL", retry_after=0.5),
    ]
    for failure in failures:
        stack.generator.failures = [failure]
        with pytest.raises(tandem.Error) as caught:
            await written(stack, "ann", "i5")
        assert caught.value.reason == failure.reason


async def test_tries_again_before_the_first_word(stack: Stack) -> None:
    stack.servicer._generator._extra.earn()
    for _ in range(10):
        await written(stack, "ann", "i5")
    stack.generator.failures = [Unavailable("not now", reason="DRAINING")]
    assert (await written(stack, "ann", "i5")).startswith("You would like")
    assert len(stack.generator.requests) == 12


async def test_a_text_that_breaks_is_not_begun_again(stack: Stack) -> None:
    for failure, kind, reason in (
        (Unavailable("not now", reason="DRAINING"), tandem.Unavailable, "DRAINING"),
        (Internal("oh", reason="INTERNAL"), tandem.Internal, "SERVICE_FAILED"),
    ):
        stack.generator.breaks = failure
        asked = len(stack.generator.requests)
        stream = stack.client.explain("ann", "i5")
        assert (await anext(stream)).delta == "You would"
        with pytest.raises(kind) as caught:
            await anext(stream)
        assert caught.value.reason == reason
        assert len(stack.generator.requests) == asked + 1


async def test_never_asks_two_writers_at_once(tmp_path: Path) -> None:
    async with running(write_tiny_bundle(tmp_path), hedge_ratio=1.0) as stack:
        for _ in range(150):
            await written(stack, "ann", "i5")
        assert len(stack.generator.requests) == 150


async def test_leaving_ends_the_writing(stack: Stack) -> None:
    stream = pb_grpc.RecommendationServiceStub(stack.channel).Explain(
        pb.ExplainRequest(context=pb.UserContext(user_id="ann"), item_id="i5", feature=STALLS)
    )
    first: Any = await stream.read()
    assert first.delta == "You would"
    assert stack.servicer._turns.requests.running == 1  # one stream, one turn
    stream.cancel()
    async with asyncio.timeout(10):
        await stack.generator.left.wait()
        while stack.servicer._turns.requests.running:  # noqa: ASYNC110 - no event tells
            await asyncio.sleep(0.005)
