"""What the gateway passes on of what is certain of a list."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain import Proof
from tandem import filters
from tandem.v1 import generator_service_pb2 as generator_pb
from tests.gateway.stack import STRATEGIES, Stack

PROOF = generator_pb.ListProof(exact=False, exact_places=2, gap=0.5)


async def test_a_generated_list_says_what_is_certain(stack: Stack) -> None:
    stack.generator.proof = PROOF
    answer = await stack.client.recommend("ann", strategy="generate", max_results=4, exact=True)
    assert answer.proof == PROOF
    (asked,) = stack.generator.requests
    assert asked.exact
    page = await stack.client.recommend("ann", strategy="generate", max_results=4, page_size=2)
    assert page.proof == PROOF  # of the whole list


async def test_rows_say_what_is_certain_of_each(stack: Stack) -> None:
    stack.generator.proof = PROOF
    rows: dict[str, Any] = {"a": {"max_results": 3}, "b": {"max_results": 3}}
    answer = await stack.client.recommend_rows("ann", rows, strategy="generate", exact=True)
    assert [row.response.proof for row in answer.rows] == [PROOF, PROOF]
    (asked,) = stack.generator.requests
    assert asked.exact


@pytest.mark.parametrize(
    "asked",
    [{"strategy": strategy} for strategy in STRATEGIES if strategy != "generate"]
    + [
        {"strategy": "generate", "pin": {"i9": 1}},
        {"strategy": "generate", "boosts": [(filters.equals("genre", "War"), 1.0)]},
    ],
)
async def test_nothing_is_certain_of_other_lists(stack: Stack, asked: dict[str, Any]) -> None:
    stack.generator.proof = PROOF
    answer = await stack.client.recommend("ann", max_results=4, **asked)
    assert len(answer.recommendations) == 4
    assert not answer.HasField("proof")


@given(st.integers(0, 9), st.integers(0, 9), st.integers(0, 9))
def test_of_a_part_no_more_is_certain(certain: int, count: int, more: int) -> None:
    length = count + more
    proof = Proof(certain >= length, min(certain, length), 0.25).of_first(count, length)
    assert proof.exact == (certain >= count)
    assert proof.places == min(certain, count)
