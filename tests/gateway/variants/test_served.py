"""A gateway answers by what its serving file says, as it is now."""

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

import tandem
from core.errors import Internal
from gateway.metrics import GatewayMetrics
from tandem import filters
from tandem.v1 import recommendation_service_pb2 as pb
from tests.gateway.stack import Stack, ids, running
from tests.tiny_bundle import write_tiny_bundle

TEXT = """
[configs.home]
strategy = "STRATEGY_GENERATE"
max_results = 3
[configs.home.constraints.filter.equals]
attribute = "genre"
value = {text = "Drama"}

[configs.odd]
attribute_caps = [{attribute = "colour", max_items = 1}]

[variants.control]
percent = 50
[variants.plain]
percent = 50
strategy = "embedding"
"""
USERS = [f"u{n}" for n in range(30)]
DRAMAS = {"i1", "i4", "i7", "i10", "i0", "i6"}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "serving.toml"
    path.write_text(TEXT, encoding="utf-8")
    return path


@pytest.fixture
async def stack(tmp_path: Path, file: Path) -> AsyncIterator[Stack]:
    async with running(write_tiny_bundle(tmp_path), serving_file=file) as stack:
        yield stack


async def ask(stack: Stack, user: str = "u0", **more: Any) -> pb.RecommendResponse:
    return await stack.client.recommend(user, history=["i11"], **more)


async def variants_of(stack: Stack) -> dict[str, str]:
    return {user: (await ask(stack, user)).variant for user in USERS}


async def test_a_configuration_holds_where_a_call_is_silent(stack: Stack) -> None:
    answer = await ask(stack, serving_config="home", variant="control")
    assert answer.strategy == pb.STRATEGY_GENERATE
    assert len(ids(answer)) == 3
    assert set(ids(answer)) <= DRAMAS
    asked: dict[str, Any] = {
        "strategy": "embedding",
        "max_results": 9,
        "filter": filters.between("year", 1994, None),
    }
    other = await ask(stack, serving_config="home", variant="control", **asked)
    assert other.strategy == pb.STRATEGY_EMBEDDING
    assert set(ids(other)) == {"i4", "i6", "i7", "i10"}


async def test_variants_answer_their_own_way(stack: Stack) -> None:
    answers = {user: await ask(stack, user) for user in USERS}
    strategies = {
        name: {answer.strategy for answer in answers.values() if answer.variant == name}
        for name in ("control", "plain")
    }
    assert strategies == {"control": {pb.STRATEGY_RERANK}, "plain": {pb.STRATEGY_EMBEDDING}}


async def test_two_gateways_give_a_user_the_same_variant(tmp_path: Path, file: Path) -> None:
    async with AsyncExitStack() as opened:
        one, other = [
            await opened.enter_async_context(
                running(write_tiny_bundle(tmp_path / name), serving_file=file)
            )
            for name in ("one", "other")
        ]
        assert await variants_of(one) == await variants_of(other)


async def test_who_has_no_user_is_known_by_the_history(stack: Stack) -> None:
    found: Counter[str] = Counter()
    for n in range(8):
        history = [f"i{n}"]
        first, second = [await stack.client.recommend("", history=history) for _ in range(2)]
        assert first.variant == second.variant
        found[first.variant] += 1
    assert set(found) == {"control", "plain"}


@pytest.mark.parametrize("name", ["control", "plain"])
async def test_a_call_may_name_its_variant(stack: Stack, name: str) -> None:
    assert {(await ask(stack, user, variant=name)).variant for user in USERS[:8]} == {name}


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ({"variant": "nexst"}, "UNKNOWN_VARIANT"),
        ({"serving_config": "hom"}, "UNKNOWN_SERVING_CONFIG"),
        ({"serving_config": "odd"}, "UNKNOWN_ATTRIBUTE"),
    ],
)
async def test_what_there_is_not_is_refused(
    stack: Stack, asked: dict[str, Any], reason: str
) -> None:
    with pytest.raises(tandem.InvalidArgument) as caught:
        await ask(stack, **asked)
    assert caught.value.reason == reason


@pytest.mark.parametrize("field", ["variant", "serving_config"])
async def test_without_a_file_nothing_is_known(tmp_path: Path, field: str) -> None:
    async with running(write_tiny_bundle(tmp_path)) as stack:
        assert (await ask(stack)).variant == ""
        asked: dict[str, Any] = {field: "home"}
        with pytest.raises(tandem.InvalidArgument) as caught:
            await ask(stack, **asked)
        assert caught.value.reason == f"UNKNOWN_{field.upper()}"


async def test_pages_are_of_one_variant(stack: Stack) -> None:
    first = await ask(stack, page_size=2, strategy="rerank", variant="control")
    asked: dict[str, Any] = {
        "page_size": 2,
        "strategy": "rerank",
        "page_token": first.next_page_token,
    }
    second = await ask(stack, variant="control", **asked)
    assert not set(ids(first)) & set(ids(second))
    with pytest.raises(tandem.InvalidArgument) as caught:
        await ask(stack, variant="plain", **asked)
    assert caught.value.reason == "INVALID_PAGE_TOKEN"


async def test_a_variant_that_fits_no_bundle_has_no_users(stack: Stack, file: Path) -> None:
    changed = TEXT.replace('strategy = "embedding"', 'serving_config = "odd"')
    await change(stack, file, changed)
    assert set((await variants_of(stack)).values()) == {"control"}
    with pytest.raises(tandem.FailedPrecondition) as caught:
        await ask(stack, variant="plain")
    assert caught.value.reason == "VARIANT_NOT_READY"


async def change(stack: Stack, file: Path, text: str) -> None:
    """Writes the file, and has the gateway look at it at once."""
    file.write_text(text, encoding="utf-8")  # noqa: ASYNC240 - a few bytes
    watched = stack.servicer._shared.variants._watched
    assert watched is not None
    watched._checked = -1e9


async def test_a_changed_file_holds_without_a_restart(stack: Stack, file: Path) -> None:
    assert set((await variants_of(stack)).values()) == {"control", "plain"}
    await change(stack, file, "")
    assert set((await variants_of(stack)).values()) == {""}


async def test_a_broken_file_leaves_what_was_there(
    stack: Stack, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = await variants_of(stack)
    await change(stack, file, TEXT.replace("50", "51"))
    assert await variants_of(stack) == before
    assert "add up to 102, not to 100" in capsys.readouterr().out


FAILURE = Internal("made up", reason="INTERNAL")
CANARY = TEXT.replace('strategy = "embedding"', 'strategy = "generate"') + (
    "[variants.plain.canary]\nmin_calls = 20\nmax_bad_share = 0.01\n"
)


async def test_a_canary_that_fails_gives_its_users_up(tmp_path: Path, file: Path) -> None:
    file.write_text(CANARY, encoding="utf-8")  # noqa: ASYNC240 - a few bytes
    registry = CollectorRegistry()
    async with running(
        write_tiny_bundle(tmp_path), serving_file=file, metrics=GatewayMetrics(registry)
    ) as stack:
        before = await variants_of(stack)
        own = [user for user, name in before.items() if name == "plain"]
        served: Counter[str] = Counter(before.values())
        for user in USERS * 30:
            # One in twenty of the canary's fails.
            failing = user in own and served["plain"] % 20 == 0
            stack.generator.failure = FAILURE if failing else None
            answer = await ask(stack, user)
            served[answer.variant] += 1
            if user in own and answer.variant != "plain":
                break
        stack.generator.failure = None
        assert set((await variants_of(stack)).values()) == {"control"}
        assert 20 <= served["plain"] < 400
        assert (await ask(stack, own[0], variant="plain")).variant == "plain", "who names it"
        await change(stack, file, CANARY + "# once more\n")
        assert await variants_of(stack) == before


def values(registry: CollectorRegistry, name: str) -> dict[tuple[str, ...], float]:
    return {
        tuple(filter(None, sample.labels.values())): sample.value
        for family in registry.collect()
        for sample in family.samples
        if sample.name == name
    }


async def test_answers_are_counted_by_variant(tmp_path: Path, file: Path) -> None:
    registry = CollectorRegistry()
    async with running(
        write_tiny_bundle(tmp_path), serving_file=file, metrics=GatewayMetrics(registry)
    ) as stack:
        await ask(stack, variant="control")
        stack.generator.failure = FAILURE
        await ask(stack, variant="control")
        with pytest.raises(tandem.Error, match="generator"):
            await ask(stack, variant="control", strategy="generate", forbid_degraded=True)
        with pytest.raises(tandem.NotFound):
            await stack.client.recommend("nobody", variant="control")
        counted = values(registry, "tandem_gateway_variant_answers_total")
        assert counted == {
            ("control", "whole"): 1, ("control", "degraded"): 1, ("control", "failed"): 1,
        }  # fmt: skip
        assert values(registry, "tandem_gateway_variant_seconds_count") == {("control",): 3}
        await change(stack, file, "[variants.other]\npercent = 100")
        await ask(stack)
        assert values(registry, "tandem_gateway_variant_answers_total") == {
            ("other", "degraded"): 1
        }
