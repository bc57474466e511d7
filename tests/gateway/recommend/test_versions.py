"""Answers say which bundle and which catalog they were made from."""

from typing import Any

import pytest

import tandem
from tandem.requests import StrategyName
from tandem.v1 import recommendation_service_pb2 as pb
from tests.gateway.stack import STRATEGIES, Stack, ids

STAGES = {"search": "candidate", "items": "candidate", "diagnose_search": "candidate"}


def versions(response: pb.RecommendResponse) -> dict[str, tuple[str, int]]:
    """Of each step that a service answered."""
    return {
        timing.stage: (timing.bundle_version, timing.catalog_sequence)
        for timing in response.timings
        if timing.bundle_version
    }


@pytest.mark.parametrize("strategy", STRATEGIES)
async def test_each_step_says_what_answered_it(stack: Stack, strategy: StrategyName) -> None:
    stack.candidate.sequence, stack.generator.sequence = 7, 5
    response = await stack.client.recommend(
        "ann", strategy=strategy, max_results=3, pin={"i11": 1}, diagnostics=True
    )
    found = versions(response)
    sequences = {stage: 7 if stage in STAGES else 5 for stage in found}
    assert found == {stage: ("tiny/1", sequence) for stage, sequence in sequences.items()}
    own = {timing.stage for timing in response.timings} - found.keys()
    assert own <= {"history", "blend"}
    assert {"items", "diagnose_search", "diagnose_items"} < found.keys()
    assert not response.degraded, "sequences differ while items come and go"


async def test_the_bundles_own_items_are_sequence_zero(stack: Stack) -> None:
    response = await stack.client.recommend("ann", strategy="embedding")
    (search,) = (timing for timing in response.timings if timing.stage == "search")
    assert search.HasField("catalog_sequence")
    assert search.catalog_sequence == 0


@pytest.mark.parametrize(
    ("service", "mixed"), [("candidate", ["search"]), ("generator", ["rerank"])]
)
async def test_mixed_versions_make_an_answer_degraded(
    stack: Stack, service: str, mixed: list[str]
) -> None:
    plain = await stack.client.recommend("ann", strategy="rerank")
    getattr(stack, service).version = "tiny/2"
    response = await stack.client.recommend("ann", strategy="rerank")
    assert ids(response) == ids(plain)
    assert response.degraded
    assert [(d.stage, d.reason, d.fallback) for d in response.degradations] == [
        (stage, "MIXED_VERSIONS", pb.FALLBACK_NONE) for stage in mixed
    ]
    assert response.bundle_version == "tiny/1"
    assert [versions(response)[stage][0] for stage in mixed] == ["tiny/2"]


async def test_mixed_versions_can_be_forbidden(stack: Stack) -> None:
    stack.generator.version = "tiny/2"
    asked: dict[str, Any] = {"strategy": "generate", "forbid_degraded": True}
    with pytest.raises(tandem.Unavailable) as caught:
        await stack.client.recommend("ann", **asked)
    assert caught.value.reason == "MIXED_VERSIONS"
    stack.generator.version = "tiny/1"
    assert not (await stack.client.recommend("ann", **asked)).degraded


async def test_similar_items_say_the_same(stack: Stack) -> None:
    stack.candidate.version, stack.candidate.sequence = "tiny/2", 3
    response = await stack.client.similar_items(["i1"])
    assert (response.bundle_version, response.catalog_sequence) == ("tiny/2", 3)
