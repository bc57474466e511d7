"""Every bad input of `Recommend` has a canonical code and a reason."""

import contextlib
import math
from typing import Any

import numpy as np
import pytest

import tandem
from tandem import filters
from tandem.v1 import recommendation_service_pb2 as pb
from tandem.v1.common_pb2 import ItemConstraints, ItemFilter
from tests.gateway.stack import UNSEEN, Stack, ids, raw


def recommend(**fields: Any) -> pb.RecommendRequest:
    return pb.RecommendRequest(**{"user_id": "ann", **fields})


BAD_REQUESTS: list[tuple[Any, str]] = [
    (pb.RecommendRequest(), "MISSING_USER"),
    (recommend(user_id="x" * 513), "ID_TOO_LONG"),
    (recommend(history_item_ids=["i1", ""]), "EMPTY_ID"),
    (recommend(history_item_ids=["x" * 513]), "ID_TOO_LONG"),
    (recommend(history_item_ids=["i1"] * 10_001), "TOO_MANY_ITEMS"),
    (recommend(history_item_ids=["i1"] * 1_000_000), "TOO_MANY_ITEMS"),
    (recommend(constraints=ItemConstraints(excluded_item_ids=["i1"] * 10_001)), "TOO_MANY_ITEMS"),
    (recommend(constraints=ItemConstraints(excluded_item_ids=[""])), "EMPTY_ID"),
    (recommend(constraints=ItemConstraints(allowed_item_ids=["i1"] * 10_001)), "TOO_MANY_ITEMS"),
    (recommend(constraints=ItemConstraints(allowed_item_ids=["x" * 513])), "ID_TOO_LONG"),
    (recommend(max_results=-1), "NEGATIVE_MAX_RESULTS"),
    (recommend(max_results=-(2**31)), "NEGATIVE_MAX_RESULTS"),
    (recommend(strategy=99), "UNKNOWN_STRATEGY"),
    (recommend(strategy=-1), "UNKNOWN_STRATEGY"),
    (recommend(strategy=pb.STRATEGY_POPULARITY), "UNKNOWN_STRATEGY"),
    (recommend(constraints=ItemConstraints(filter=ItemFilter())), "EMPTY_FILTER"),
    (
        recommend(constraints=ItemConstraints(filter=filters.equals("genres", "Drama").message)),
        "UNKNOWN_ATTRIBUTE",
    ),
    (
        recommend(constraints=ItemConstraints(filter=filters.equals("year", math.nan).message)),
        "NOT_A_NUMBER",
    ),
    (
        recommend(constraints=ItemConstraints(filter=filters.one_of("year", range(9_999)).message)),
        "FILTER_TOO_LARGE",
    ),
    (b"\x0a\x02\xff\xfe", "MALFORMED_MESSAGE"),  # user_id is not UTF-8
    (b"\x12\x02\xff\xfe", "MALFORMED_MESSAGE"),  # an item of the history is not
    (b"\x0a\x7f", "MALFORMED_MESSAGE"),
]


@pytest.mark.parametrize(("request_", "reason"), BAD_REQUESTS)
async def test_the_callers_mistake_has_a_reason(stack: Stack, request_: Any, reason: str) -> None:
    with pytest.raises(tandem.InvalidArgument) as caught:
        await raw(stack.channel, "Recommend", request_)
    assert caught.value.reason == reason
    assert len(ids(await stack.client.recommend("ann"))) == len(UNSEEN)


async def test_more_than_a_message_may_hold(stack: Stack) -> None:
    huge = recommend(history_item_ids=[f"item-{n:09}" for n in range(1_000_000)])
    with pytest.raises(tandem.ResourceExhausted):
        await raw(stack.channel, "Recommend", huge)


async def test_sizes_above_the_limit_are_coerced_down(stack: Stack) -> None:
    await raw(stack.channel, "Recommend", recommend(max_results=2**31 - 1, strategy=2))
    assert stack.generator.requests[-1].max_results == 100


async def test_fields_of_the_future_are_ignored(stack: Stack) -> None:
    response = await raw(
        stack.channel, "Recommend", recommend().SerializeToString() + b"\xfa\x3f\x01x"
    )
    assert ids(pb.RecommendResponse.FromString(response))


@pytest.mark.parametrize("seed", range(5))
async def test_mutated_messages_never_find_a_defect(stack: Stack, seed: int) -> None:
    random = np.random.default_rng(seed)
    whole = recommend(
        history_item_ids=["i1", "i2"],
        max_results=5,
        strategy=3,
        constraints=ItemConstraints(
            excluded_item_ids=["i3"],
            filter=(filters.equals("genre", "War") | ~filters.between("year", 1990)).message,
        ),
    ).SerializeToString()
    for _ in range(60):
        message = np.frombuffer(whole, np.uint8).copy()
        places = random.integers(len(message), size=random.integers(1, 5))
        message[places] = random.integers(256, size=len(places))
        # Anything else but these two fails the test.
        with contextlib.suppress(tandem.InvalidArgument, tandem.NotFound):
            await raw(stack.channel, "Recommend", message.tobytes())
