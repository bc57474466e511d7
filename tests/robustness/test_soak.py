"""The soak in small, and its checker, which must find whatever is planted."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from core.errors import ResourceExhausted
from core.filters import AllOf, AnyOf, Filter, Not, OneOf, Range
from serving.testing import serving
from serving.validation import filter_message
from tandem.v1 import common_pb2
from tandem.v1 import generator_service_pb2 as pb
from tandem.v1 import generator_service_pb2_grpc as rpc
from tandem.v1.common_pb2 import ItemConstraints
from tests.robustness.soak.callers import PATIENCE, TOLERANCE, Callers, Timeline
from tests.robustness.soak.catalog import Changer, Item, Version, version
from tests.robustness.soak.check import compare, condition, fault, legal
from tests.robustness.soak.process import started
from tests.robustness.soak.requests import Requests
from tests.robustness.soak.run import Plan, soak

ITEMS = 300


@pytest.mark.slow
async def test_a_short_soak_finds_nothing_wrong(tmp_path: Path) -> None:
    plan = Plan(items=ITEMS, threads=1, changes_per_second=50, sample_every=20)
    shares: list[float] = []
    soaked = await soak(
        tmp_path,
        plan,
        progress=lambda _, tally, versions: min(tally.answers.total() / 300, versions / 10),
        show=lambda share, _: shares.append(share),
    )
    tally, figures = soaked.tally, soaked.figures()
    assert tally.violations == 0, tally.first and tally.first.summary
    assert tally.answers.total() >= 300
    assert set(tally.answers) == {"Generate", "Rerank", "Rank"}
    assert tally.sampled > 0
    assert tally.difference <= TOLERANCE[plan.precision]
    assert soaked.versions >= 10
    assert figures["tombstones"] > 0
    assert figures["rss_mib_at_100pct"] > 0
    assert shares[-1] >= 1
    assert json.loads(json.dumps(figures)) == figures


async def test_a_server_that_cannot_start_is_told(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ChildProcessError, match="exit code 1"):
        async with started(tmp_path, {}):
            pytest.fail("it started")
    assert "is not a bundle" in capfd.readouterr().err


def catalog() -> Version:
    """Five items; x is gone."""
    years = {"a": 1990.0, "b": 1995.0, "c": 2000.0, "d": 2005.0}
    items = {
        key: Item(key, {"year": (year,), "genre": ("drama", key)}, (0, 0, n))
        for n, (key, year) in enumerate(years.items())
    }
    return Version(7, {**items, "e": Item("e", {}, (1, 0, 0))}, named=0)


def listed(*pairs: tuple[str, float]) -> Sequence[common_pb2.ScoredItem]:
    return [common_pb2.ScoredItem(item_id=item_id, score=score) for item_id, score in pairs]


def within(low: float, high: float) -> common_pb2.ItemFilter:
    return filter_message(Range("year", low, high))


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (OneOf("genre", ("drama",)), "abcd"),
        (OneOf("genre", ("a", "d", 1990.0)), "ad"),
        (OneOf("year", (1990.0, 2000.0, "1995")), "ac"),
        (OneOf("award", ("gold",)), ""),
        (Range("year", low=1995.0, high=2000.0), "bc"),
        (Range("year", high=1995.0), "ab"),
        (Range("genre"), ""),
        (Not(Range("year", low=1995.0)), "ae"),
        (AllOf((OneOf("genre", ("drama",)), Not(OneOf("genre", ("b",))))), "acd"),
        (AnyOf((OneOf("genre", ("b",)), Range("year", low=2000.0))), "bcd"),
    ],
)
def test_conditions_hold_for_the_right_items(asked: Filter, expected: str) -> None:
    holds = condition(filter_message(asked))
    found = [key for key, item in catalog().items.items() if holds(item.attributes)]
    assert found == list(expected)


def test_what_is_legal() -> None:
    request = pb.GenerateRequest(
        context=pb.UserContext(history_item_ids=["a", "x"]),
        constraints=ItemConstraints(excluded_item_ids=["b", "y"], filter=within(1990, 2000)),
    )
    assert legal(request, catalog()) == {"c"}
    request.constraints.include_seen = True
    assert legal(request, catalog()) == {"a", "c"}
    request.constraints.ClearField("filter")
    assert legal(request, catalog()) == {"a", "c", "d", "e"}


GENERATE = pb.GenerateRequest(
    context=pb.UserContext(history_item_ids=["x", "d", "x"]),
    max_results=2,
    constraints=ItemConstraints(filter=within(0, 3000)),
)
RERANK = pb.RerankRequest(
    context=pb.UserContext(history_item_ids=["y"]), item_ids=["c", "x", "a", "c", "y"]
)


@pytest.mark.parametrize(
    ("items", "missing", "expected"),
    [
        ([("b", -1), ("a", -2)], ["x"], None),
        ([("b", -1), ("a", -1)], ["x"], None),
        ([("b", -1), ("d", -2)], ["x"], r"illegal items: \['d'\]"),  # seen
        ([("e", -1), ("a", -2)], ["x"], r"illegal items: \['e'\]"),  # filtered out
        ([("x", -1), ("a", -2)], ["x"], r"illegal items: \['x'\]"),  # gone
        ([("b", -1), ("b", -2)], ["x"], "listed twice"),
        ([("b", -1)], ["x"], "1 items where 2 are due"),
        ([("c", 0), ("b", -1), ("a", -2)], ["x"], "3 items where 2 are due"),
        ([("b", -2), ("a", -1)], ["x"], "do not descend"),
        ([("b", float("nan")), ("a", -1)], ["x"], "do not descend"),
        ([("b", -1), ("a", -2)], [], "missing_item_ids"),
        ([("b", -1), ("a", -2)], ["x", "x"], "missing_item_ids"),
    ],
)
def test_faults_of_a_generated_list(
    items: list[tuple[str, float]], missing: list[str], expected: str | None
) -> None:
    response = pb.GenerateResponse(items=listed(*items), missing_item_ids=missing)
    assert_fault(fault(GENERATE, response, catalog(), 1e-3), expected)


@pytest.mark.parametrize(
    ("items", "missing", "expected"),
    [
        ([("c", -1), ("a", -2)], ["y", "x"], None),
        ([("c", -1), ("b", -2)], ["y", "x"], "illegal items"),  # not asked for
        ([("c", -1), ("c", -2)], ["y", "x"], "listed twice"),
        ([("c", -1)], ["y", "x"], r"left out: \['a'\]"),
        ([("c", -2), ("a", -1)], ["y", "x"], "do not descend"),
        ([("c", -1), ("a", -2)], ["x", "y"], "missing_item_ids"),
    ],
)
def test_faults_of_an_ordered_list(
    items: list[tuple[str, float]], missing: list[str], expected: str | None
) -> None:
    response = pb.RerankResponse(items=listed(*items), missing_item_ids=missing)
    assert_fault(fault(RERANK, response, catalog(), 1e-3), expected)


@pytest.mark.parametrize(
    ("generated", "reranked", "expected"),
    [
        ([("a", -1), ("b", -2)], [("b", -2.0001)], None),
        ([("a", -1), ("b", -2)], [("b", -2.1)], "b has two scores"),
        ([("a", -1)], [("b", -2)], "1 items where 2 are due"),
        ([("a", -1), ("b", -2)], [], "0 items where 1 are due"),
    ],
)
def test_faults_of_both_lists(
    generated: list[tuple[str, float]], reranked: list[tuple[str, float]], expected: str | None
) -> None:
    request = pb.RankRequest(item_ids=["b"], max_results=2)
    response = pb.RankResponse(generated=listed(*generated), reranked=listed(*reranked))
    assert_fault(fault(request, response, catalog(), 1e-3), expected)


def assert_fault(found: str | None, expected: str | None) -> None:
    if expected is None:
        assert found is None
    else:
        assert re.search(expected, found or "nothing was found")


def test_lists_are_compared_with_the_exact_scores() -> None:
    exact = {"a": -1.0, "b": -2.0, "c": -3.0}
    best = compare(listed(("a", -1), ("b", -2)), exact, beams=3, tolerance=1e-3)
    assert (best.fault, best.found) == (None, True)
    worse = listed(("a", -1), ("c", -3))
    unpruned = compare(worse, exact, beams=3, tolerance=1e-3)
    assert unpruned.fault == "c stands where b should, though nothing is pruned"
    assert compare(worse, exact, beams=2, tolerance=1e-3).fault is None
    lost = compare(listed(("b", -2), ("c", -3)), exact, beams=2, tolerance=1e-3)
    assert (lost.fault, lost.found) == (None, False)
    other = compare(listed(("a", -1.5)), exact, beams=3, tolerance=1e-3)
    assert other.fault == "listed scores differ from exact ones by 0.5"
    assert other.difference == 0.5


def test_a_version_can_be_made_again() -> None:
    changer = Changer(seed=3, items=50)
    made = changer.first()
    for _ in range(200):
        made = made.changed(changer.changes(made))
        codes = [item.code for item in made.items.values()]
        assert len(set(codes)) == len(codes)
        assert 40 <= len(made.items) <= 60
    again = version(200, seed=3, items=50)
    assert (again.number, again.items, again.named) == (200, made.items, made.named)
    assert made.named > 50


class Pretender(rpc.GeneratorServiceServicer):
    """Orders items as they come, fails to generate, and never does both."""

    DiagnoseItems: Any = None  # not called
    PredictRatings: Any = None

    def __init__(self, current: Callable[[], Version], failure: Exception) -> None:
        self._current = current
        self._failure = failure

    async def Rerank(self, request: pb.RerankRequest, _: object) -> pb.RerankResponse:  # noqa: N802
        items = self._current().items
        known = [key for key in request.item_ids if key in items]
        return pb.RerankResponse(
            items=listed(*((key, -n) for n, key in enumerate(known))),
            missing_item_ids=[key for key in request.item_ids if key not in items],
        )

    async def Generate(self, _request: pb.GenerateRequest, _: object) -> pb.GenerateResponse:  # noqa: N802
        raise self._failure

    async def Rank(self, _request: pb.RankRequest, _: object) -> pb.RankResponse:  # noqa: N802
        await asyncio.Event().wait()
        raise AssertionError

    async def Explain(  # noqa: N802
        self, _request: pb.ExplainRequest, _: object
    ) -> AsyncIterator[pb.ExplainResponse]:
        raise AssertionError
        yield

    async def Summarize(  # noqa: N802
        self, _request: pb.SummarizeRequest, _: object
    ) -> AsyncIterator[pb.SummarizeResponse]:
        raise AssertionError
        yield


@asynccontextmanager
async def calling(
    timeline: Timeline,
    current: Callable[[], Version] = catalog,
    failure: Exception = ValueError("a defect"),  # noqa: B008 - raised, not changed
) -> AsyncIterator[Callers]:
    attach = rpc.add_GeneratorServiceServicer_to_server
    async with serving(Pretender(current, failure), attach) as channel:
        yield Callers(
            channel, Requests(0), timeline, beams=20, precision="int8", seed=0, sample_every=10
        )


ALL = pb.RerankRequest(item_ids=["a", "b", "n"])


async def test_an_answer_may_be_about_any_version_that_was_current_meanwhile() -> None:
    timeline = Timeline(catalog())
    first = timeline.newest
    answers_about = iter(("old", "new", "old", "old"))

    def current() -> Version:
        if timeline.newest is first:
            timeline.ordered({"n": Item("n", {}, (2, 0, 0)), "b": None})
        return first if next(answers_about) == "old" else timeline.newest

    async with calling(timeline, current) as callers:
        for _ in range(3):
            assert await callers.ask(ALL, PATIENCE) is not None
        assert callers.tally.across == 3
        timeline.done()
        assert await callers.ask(ALL, PATIENCE) is None
    tally = callers.tally
    assert (tally.answers["Rerank"], tally.violations) == (4, 1)
    assert tally.first is not None
    assert tally.first.summary == "RerankRequest, version 8: illegal items: ['b']"
    assert '"item_ids": ["a", "b", "n"]' in str(tally.first)
    assert '"missing_item_ids": ["n"]' in str(tally.first)


async def test_a_call_that_fails_is_a_violation(capfd: pytest.CaptureFixture[str]) -> None:
    async with calling(Timeline(catalog())) as callers:
        assert await callers.ask(pb.GenerateRequest(), PATIENCE) is None
    assert callers.tally.violations == 1
    assert "no answer: INTERNAL" in str(callers.tally.first)
    assert "a defect" in "".join(capfd.readouterr())


async def test_calls_that_are_left_expire_or_are_shed_are_none() -> None:
    shed = ResourceExhausted("no room", reason="QUEUE_FULL", retry_after=0.001)
    async with calling(Timeline(catalog()), failure=shed) as callers:
        assert await callers.ask(pb.RankRequest(), PATIENCE, leave_after=0.01) is None
        assert await callers.ask(pb.RankRequest(), 0.01) is None
        assert await callers.ask(pb.GenerateRequest(), PATIENCE) is None
    tally = callers.tally
    assert (tally.cancelled, tally.expired, tally.shed) == (1, 1, 1)
    assert (tally.violations, tally.answers.total()) == (0, 0)
