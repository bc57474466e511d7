"""A variant of another version of the bundle is answered by that version alone."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

import tandem
from gateway.variants.assignment import assigned, subject
from serving.bundles.held import VERSION_KEY
from tandem.v1 import recommendation_service_pb2 as pb
from tests.gateway.fakes import generator_score, retrieval_score
from tests.gateway.stack import STRATEGIES
from tests.gateway.variants.versions import BESIDE, BESIDE_WEIGHT, SERVING, Versions, versions

HALVES = f"""
experiment = "halves"
[variants.control]
percent = 50
[variants.next]
percent = 50
bundle_version = "{BESIDE}"
"""
USERS = [f"u{n}" for n in range(40)]
SHARES = [("control", 50.0), ("next", 50.0)]
DRAWN = {user: assigned("halves", SHARES, subject(user, ())) for user in USERS}


def made_by(response: pb.RecommendResponse) -> set[str]:
    """Every version that has a part in an answer."""
    found = {timing.bundle_version for timing in response.timings} - {""}
    for item in response.recommendations:
        place = int(item.item_id[1:])
        if item.HasField("retrieval_score") and item.HasField("generator_score"):
            beside = retrieval_score(place) + BESIDE_WEIGHT * generator_score(place)
            found.add(BESIDE if item.score == pytest.approx(beside) else SERVING)
    return found | {response.bundle_version}


async def ask(stack: Versions, user: str, **more: Any) -> pb.RecommendResponse:
    return await stack.client.recommend(user, history=["i0", "i1"], **more)


@pytest.mark.parametrize("strategy", STRATEGIES)
async def test_no_answer_mixes_versions(tmp_path: Path, strategy: Any) -> None:
    async with versions(tmp_path, HALVES) as stack:
        answers = [await ask(stack, user, strategy=strategy, max_results=3) for user in USERS]
        for user, answer in zip(USERS, answers, strict=True):
            assert answer.variant == DRAWN[user]
            assert made_by(answer) == {BESIDE if answer.variant == "next" else SERVING}
            assert not answer.degraded
        assert {answer.variant for answer in answers} == {"control", "next"}


async def test_streams_are_answered_by_variant_too(tmp_path: Path) -> None:
    async with versions(tmp_path, HALVES) as stack:
        requests = [
            pb.BatchRecommendRequest(
                id=user, request=pb.RecommendRequest(user_id=user, history_item_ids=["i0"])
            )
            for user in USERS
        ]
        answers = {item.id: item.response async for item in stack.client.batch_recommend(requests)}
        assert {user: answer.variant for user, answer in answers.items()} == DRAWN
        for answer in answers.values():
            assert made_by(answer) == {BESIDE if answer.variant == "next" else SERVING}


async def test_a_version_that_is_not_held_fails_no_call(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with versions(tmp_path, HALVES) as stack:
        stack.held.beside = None
        answers = [await ask(stack, user) for user in USERS]
        assert {answer.variant for answer in answers} == {"control"}
        assert {version for answer in answers for version in made_by(answer)} == {SERVING}
        with pytest.raises(tandem.FailedPrecondition) as caught:
            await ask(stack, "u0", variant="next")
        assert caught.value.reason == "VARIANT_NOT_READY"
    assert capsys.readouterr().out.count("variant not ready") == 1


async def test_a_version_that_serves_has_its_variant(tmp_path: Path) -> None:
    async with versions(tmp_path, HALVES) as stack:
        stack.held.serving, stack.held.beside = stack.held.beside, stack.held.serving
        answers = [await ask(stack, user) for user in USERS]
        assert {answer.variant for answer in answers} == {"control", "next"}
        assert {version for answer in answers for version in made_by(answer)} == {BESIDE}


async def test_who_names_a_version_gets_it(tmp_path: Path) -> None:
    async with versions(tmp_path, HALVES) as stack:
        call = stack.channel.unary_unary(
            "/tandem.v1.RecommendationService/Recommend",
            request_serializer=pb.RecommendRequest.SerializeToString,
            response_deserializer=pb.RecommendResponse.FromString,
        )
        for user in USERS[:10]:
            request = pb.RecommendRequest(user_id=user, history_item_ids=["i0"])
            answer = await call(request, metadata=((VERSION_KEY, SERVING),))
            assert (answer.variant, made_by(answer)) == ("control", {SERVING})
            answer = await call(request, metadata=((VERSION_KEY, BESIDE),))
            assert (answer.variant, made_by(answer)) == (DRAWN[user], {BESIDE})


async def test_a_version_is_not_released_while_it_answers(tmp_path: Path) -> None:
    async with versions(tmp_path, HALVES) as stack:
        beside = stack.held.beside
        assert beside is not None
        waiting = asyncio.ensure_future(
            stack.client.recommend("u0", history=["wait"], variant="next", strategy="embedding")
        )
        await stack.candidates[1].waiting.wait()
        ended = asyncio.ensure_future(beside.calls.end())
        await asyncio.sleep(0)
        assert not ended.done()
        waiting.cancel()
        await ended
