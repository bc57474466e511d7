"""Rows of a page: several lists for one user that share no item."""

from typing import Any

import pytest

import tandem
from core.errors import Unavailable
from serving.rows import MAX_ROWS
from tandem import filters
from tandem.requests import StrategyName
from tandem.v1 import common_pb2
from tandem.v1 import generator_service_pb2 as generator_pb
from tandem.v1 import recommendation_service_pb2 as pb
from tests.gateway.stack import STRATEGIES, Stack, ids, raw

ROWS: dict[str, Any] = {
    "Drama": {"filter": filters.equals("genre", "Drama"), "max_results": 3},
    "All": {"max_results": 4},
    "New": {"filter": filters.between("year", low=1996), "max_results": 3},
}


def by_name(response: pb.RecommendRowsResponse) -> dict[str, list[str]]:
    return {row.name: ids(row.response) for row in response.rows}


async def one_after_the_other(stack: Stack, strategy: StrategyName) -> dict[str, list[str]]:
    """The definition: each row excludes what the rows before it show."""
    shown: list[str] = []
    rows = {}
    for name, row in ROWS.items():
        answer = await stack.client.recommend("ann", strategy=strategy, exclude=shown, **row)
        rows[name] = ids(answer)
        shown += rows[name]
    return rows


@pytest.mark.parametrize("strategy", STRATEGIES)
async def test_rows_are_those_of_calls_that_exclude(stack: Stack, strategy: StrategyName) -> None:
    expected = await one_after_the_other(stack, strategy)
    answer = await stack.client.recommend_rows("ann", ROWS, strategy=strategy)
    assert by_name(answer) == expected
    assert len({item for row in expected.values() for item in row}) == 3 + 4 + 2
    for row in answer.rows:
        assert row.response.strategy == pb.Strategy.Value(f"STRATEGY_{strategy.upper()}")
        assert row.response.bundle_version == "tiny/1"
        assert not row.response.degraded
    assert len({row.response.recommendation_id for row in answer.rows}) == 3


@pytest.mark.parametrize("strategy", STRATEGIES)
async def test_rows_may_repeat_where_that_is_allowed(stack: Stack, strategy: StrategyName) -> None:
    answer = await stack.client.recommend_rows("ann", ROWS, strategy=strategy, allow_repeats=True)
    for name, found in by_name(answer).items():
        alone = await stack.client.recommend("ann", strategy=strategy, **ROWS[name])
        assert found == ids(alone)


async def test_generated_rows_are_one_call(stack: Stack) -> None:
    await stack.client.recommend_rows("ann", ROWS, strategy="generate")
    (asked,) = stack.generator.requests
    assert isinstance(asked, generator_pb.GenerateRequest)
    assert len(asked.rows) == 3
    assert not stack.candidate.requests


async def test_rows_without_a_generator_are_those_of_retrieval(stack: Stack) -> None:
    expected = await one_after_the_other(stack, "embedding")
    stack.generator.failure = Unavailable("it is down", reason="DOWN")
    answer = await stack.client.recommend_rows("ann", ROWS, strategy="generate")
    assert by_name(answer) == expected
    for row in answer.rows:
        assert row.response.strategy == pb.STRATEGY_EMBEDDING
        assert [(d.stage, d.fallback) for d in row.response.degradations] == [
            ("generate", pb.FALLBACK_RETRIEVAL)
        ]
    with pytest.raises(tandem.Error):
        await stack.client.recommend_rows("ann", ROWS, strategy="generate", forbid_degraded=True)


async def test_rows_of_somebody_without_services_are_popular(stack: Stack) -> None:
    stack.generator.failure = stack.candidate.failure = Unavailable("it is down", reason="DOWN")
    answer = await stack.client.recommend_rows("ann", ROWS, strategy="generate")
    assert by_name(answer) == {
        "Drama": ["i4", "i6", "i7"], "All": ["i3", "i5", "i8", "i9"], "New": ["i10", "i11"],
    }  # fmt: skip
    assert all(row.response.strategy == pb.STRATEGY_POPULARITY for row in answer.rows)


async def test_a_generator_without_rows_is_done_without(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stack.generator, "rows", lambda _: [])
    answer = await stack.client.recommend_rows("ann", ROWS, strategy="generate")
    (degradation,) = answer.rows[2].response.degradations
    assert degradation.reason == "ROWS_NOT_SERVED"
    assert by_name(answer) == await one_after_the_other(stack, "embedding")


async def test_an_unknown_user_has_no_rows(stack: Stack) -> None:
    with pytest.raises(tandem.Error) as caught:
        await stack.client.recommend_rows("nobody", ROWS)
    assert caught.value.reason == "UNKNOWN_USER"


def named(*names: str) -> list[common_pb2.RowRequest]:
    return [common_pb2.RowRequest(name=name) for name in names]


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ([], "NO_ROWS"),
        (named(*map(str, range(MAX_ROWS + 1))), "TOO_MANY_ROWS"),
        (named("a", "b", "a"), "ROW_NAME"),
        (named(""), "ROW_NAME"),
        (named("é" * 33), "ROW_NAME"),
        ([common_pb2.RowRequest(name="a", max_results=-1)], "NEGATIVE_MAX_RESULTS"),
        (
            [
                common_pb2.RowRequest(
                    name="a",
                    constraints=common_pb2.ItemConstraints(excluded_item_ids=["i"] * 8_001),
                )
            ],
            "TOO_MANY_ITEMS",
        ),
    ],
)
async def test_bad_rows_are_refused(
    stack: Stack, rows: list[common_pb2.RowRequest], reason: str
) -> None:
    request = pb.RecommendRowsRequest(user_id="ann", rows=rows)
    with pytest.raises(tandem.Error) as caught:
        await raw(stack.channel, "RecommendRows", request)
    assert (caught.value.code.name, caught.value.reason) == ("INVALID_ARGUMENT", reason)
