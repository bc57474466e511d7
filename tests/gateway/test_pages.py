"""Pages of one list, and tokens that lead from one to the next."""

import base64
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tandem
from core import errors
from gateway.domain import Answer, Query, Recommended, ResolvedQuery, Strategy
from gateway.pages import Page, cut, digest_of, fingerprint, read_page
from tandem import event, filters
from tandem.errors import from_status
from tandem.requests import StrategyName
from tandem.v1 import recommendation_service_pb2 as pb
from tests.gateway.stack import STRATEGIES, UNSEEN, Stack, ids, running
from tests.tiny_bundle import ITEMS, write_tiny_bundle

QUERY = Query("ann", None, 100, Strategy.RERANK)


def listed(count: int) -> Answer:
    items = tuple(Recommended(f"i{n}", -float(n)) for n in range(count))
    return Answer(items, (), Strategy.RERANK, history=("h",))


@given(st.integers(0, 100), st.lists(st.integers(1, 30), min_size=1, max_size=20))
def test_pages_of_any_sizes_make_up_the_list(count: int, sizes: list[int]) -> None:
    answer, token = listed(count), ""
    found: list[Recommended] = []
    for size in [*sizes, 0]:
        page = read_page(pb.RecommendRequest(page_size=size, page_token=token))
        part, token = cut(answer, page, digest_of(QUERY, answer))
        assert len(part.items) <= (size or count)
        found += part.items
        if not token:
            break
    assert tuple(found) == answer.items


MADE_UP = st.binary(max_size=30).map(lambda data: base64.urlsafe_b64encode(data).decode())


@given((st.text(max_size=40) | MADE_UP).filter(bool))
def test_what_is_no_token_is_refused(token: str) -> None:
    answer = listed(9)
    with pytest.raises(errors.InvalidArgument) as caught:
        cut(answer, read_page(pb.RecommendRequest(page_token=token)), digest_of(QUERY, answer))
    assert caught.value.reason == "INVALID_PAGE_TOKEN"


@pytest.mark.parametrize("token", ["é", "AAAA", "none of ours"])
def test_what_cannot_be_read_is_said_to_be_no_token(token: str) -> None:
    with pytest.raises(errors.InvalidArgument, match="none that this server gave out"):
        read_page(pb.RecommendRequest(page_token=token))


def test_a_fingerprint_tells_requests_apart_and_keeps_nothing_of_them() -> None:
    query = Query("ann", None, 10, Strategy.RERANK)
    request = ResolvedQuery(query, ("i1", "i2"))
    prints = {
        fingerprint("1", request),
        fingerprint("2", request),
        fingerprint("1", ResolvedQuery(query, ("i1", "i3"))),
        fingerprint("1", ResolvedQuery(query, ("i1, i2",))),
        fingerprint("1", ResolvedQuery(Query("bob", None, 10, Strategy.RERANK), ("i1", "i2"))),
    }
    assert len(prints) == 5
    assert fingerprint("1", ResolvedQuery(query, ("i1", "i2"))) in prints
    assert all(len(each) == 16 for each in prints)


def test_a_page_behind_the_list_is_empty() -> None:
    answer = listed(3)
    digest = digest_of(QUERY, answer)
    part, token = cut(answer, Page(2, 200, digest), digest)
    assert (part.items, token) == ((), "")


async def pages(stack: Stack, size: int, **asked: Any) -> list[list[str]]:
    found: list[list[str]] = []
    token = ""
    while True:
        page = await stack.client.recommend("ann", page_size=size, page_token=token, **asked)
        found.append(ids(page))
        token = page.next_page_token
        if not token:
            return found


@pytest.mark.parametrize("strategy", STRATEGIES)
async def test_pages_cut_one_list(stack: Stack, strategy: StrategyName) -> None:
    rules: dict[str, Any] = {
        "caps": {"genre": 2}, "diversity": 0.4, "pin": {"i9": 2}, "strategy": strategy,
    }  # fmt: skip
    whole = await stack.client.recommend("ann", max_results=7, **rules)
    assert not whole.next_page_token
    assert await pages(stack, 3, max_results=7, **rules) == [
        ids(whole)[:3],
        ids(whole)[3:6],
        ids(whole)[6:],
    ]


async def test_a_list_in_pages_has_a_hundred_items(stack: Stack) -> None:
    found = await pages(stack, 4, strategy="embedding")
    assert [len(page) for page in found] == [4, 4, 1]
    assert {item for page in found for item in page} == {f"i{n}" for n in UNSEEN}
    assert stack.candidate.requests[0].max_results == 100


async def test_what_may_change_from_page_to_page(stack: Stack) -> None:
    first = await stack.client.recommend("ann", page_size=2)
    second = await stack.client.recommend(
        "ann",
        page_size=5,
        page_token=first.next_page_token,
        item_fields=("title",),
        forbid_degraded=True,
        diagnostics=True,
    )
    assert len(second.recommendations) == 5
    assert not set(ids(first)) & set(ids(second))
    rest = await stack.client.recommend("ann", page_token=second.next_page_token)
    assert len(ids(first)) + len(ids(second)) + len(ids(rest)) == ITEMS - 3


@pytest.mark.parametrize(
    "changed",
    [
        {"user_id": "bob"},
        {"history": ["i0"]},
        {"max_results": 50},
        {"strategy": "generate"},
        {"exclude": ["i5"]},
        {"only": ["i5", "i6"]},
        {"filter": filters.equals("genre", "War")},
        {"include_seen": True},
        {"caps": {"genre": 1}},
        {"diversity": 0.1},
        {"boosts": [(filters.equals("genre", "War"), 0.5)]},
        {"pin": {"i5": 1}},
    ],
)
async def test_a_token_is_of_one_list(stack: Stack, changed: dict[str, Any]) -> None:
    first = await stack.client.recommend("ann", page_size=2)
    with pytest.raises(tandem.InvalidArgument) as caught:
        await stack.client.recommend(
            **{"user_id": "ann", "page_token": first.next_page_token, **changed}
        )
    assert caught.value.reason == "INVALID_PAGE_TOKEN"
    assert "the request, the user's history or a bundle is another" in str(caught.value)


async def test_another_bundle_makes_another_list(stack: Stack) -> None:
    first = await stack.client.recommend("ann", page_size=2)
    stack.generator.version = "tiny/2"
    with pytest.raises(tandem.InvalidArgument) as caught:
        await stack.client.recommend("ann", page_size=2, page_token=first.next_page_token)
    assert caught.value.reason == "INVALID_PAGE_TOKEN"


async def test_what_a_user_does_makes_another_list(tmp_path: Path) -> None:
    bundle = write_tiny_bundle(tmp_path)
    async with running(bundle, history=str(tmp_path / "history.sqlite")) as stack:
        await stack.client.record_events([event("dee", "i1")])
        first = await stack.client.recommend("dee", page_size=2)
        same = await stack.client.recommend("dee", page_size=2, page_token=first.next_page_token)
        assert len(same.recommendations) == 2
        await stack.client.record_events([event("dee", "i2")])
        with pytest.raises(tandem.InvalidArgument):
            await stack.client.recommend("dee", page_size=2, page_token=first.next_page_token)


async def test_another_gateway_goes_on(tmp_path: Path) -> None:
    bundle = write_tiny_bundle(tmp_path)
    async with running(bundle) as one, running(bundle) as other:
        first = await one.client.recommend("ann", page_size=2)
        second = await other.client.recommend("ann", page_size=2, page_token=first.next_page_token)
    assert len(ids(second)) == 2
    assert not set(ids(first)) & set(ids(second))


async def test_a_service_that_fails_is_not_the_callers_mistake(stack: Stack) -> None:
    first = await stack.client.recommend("ann", page_size=2, strategy="generate")
    stack.generator.failure = stack.candidate.failure = errors.Internal("gone", reason="GONE")
    asked: dict[str, Any] = {"user_id": "ann", "page_size": 2, "strategy": "generate"}
    second = await stack.client.recommend(**asked, page_token=first.next_page_token)
    assert second.degraded
    stack.generator.failure = stack.candidate.failure = None
    third = await stack.client.recommend(**asked, page_token=second.next_page_token)
    assert not third.degraded


async def test_pages_of_a_stream(stack: Stack) -> None:
    first = await stack.client.recommend("ann", page_size=2)
    request = pb.RecommendRequest(user_id="ann", page_size=2, page_token=first.next_page_token)
    broken = pb.RecommendRequest(user_id="bob", page_token=first.next_page_token)
    requests = [
        pb.BatchRecommendRequest(id="good", request=request),
        pb.BatchRecommendRequest(id="bad", request=broken),
    ]
    answers = {answer.id: answer async for answer in stack.client.batch_recommend(requests)}
    assert len(answers["good"].response.recommendations) == 2
    assert from_status(answers["bad"].error).reason == "INVALID_PAGE_TOKEN"


async def test_a_negative_page(stack: Stack) -> None:
    with pytest.raises(tandem.InvalidArgument) as caught:
        await stack.client.recommend("ann", page_size=-1)
    assert caught.value.reason == "NEGATIVE_PAGE_SIZE"
