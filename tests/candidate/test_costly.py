"""Requests that cost much, at a real server with one thread: what becomes of them and of others."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Iterable

import grpc
import numpy as np
import pytest

from core import filters
from core.catalog import Catalog, CatalogItem
from services.candidate.catalog.live import LiveCatalog
from services.candidate.servicer import CandidateServicer
from serving.testing import serving
from serving.workers import Workers
from tandem.v1 import candidate_service_pb2 as pb
from tandem.v1.common_pb2 import ItemConstraints, ItemFilter, SimilarityQuery
from tests.candidate.made_up import make_world
from tests.candidate.served import Stub, attach
from tests.candidate.test_servicer import error_reason

CONDITIONS = 200
SECONDS_EACH = 0.02


class SlowCatalog(Catalog):
    """A catalog so large that a condition takes a while."""

    def __init__(self, items: Iterable[CatalogItem]) -> None:
        super().__init__(items)
        self.evaluated = 0
        self.busy = threading.Event()

    def within(self, attribute: str, low: float, high: float) -> np.ndarray:
        self.evaluated += 1
        self.busy.set()
        time.sleep(SECONDS_EACH)
        return super().within(attribute, low, high)


@pytest.fixture
def catalog() -> SlowCatalog:
    return SlowCatalog(make_world().engine.catalog.items)


@pytest.fixture
async def stub(catalog: SlowCatalog) -> AsyncIterator[Stub]:
    engine = make_world().engine
    engine.catalog = catalog
    servicer = CandidateServicer(LiveCatalog(engine), "made-up/1", Workers(1))
    async with serving(servicer, attach) as channel:
        yield Stub(channel)
    await servicer.close()


def years(count: int) -> ItemConstraints:
    ranges = [ItemFilter(range=ItemFilter.Range(attribute="year", min=i)) for i in range(count)]
    return ItemConstraints(filter=ItemFilter(any_of=ItemFilter.AnyOf(filters=ranges)))


async def code_of(call: Awaitable[object]) -> tuple[grpc.StatusCode, str | None]:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call
    return error.value.code(), error_reason(error.value)


async def test_a_light_search_follows_one_that_ran_out_of_time(
    stub: Stub, catalog: SlowCatalog
) -> None:
    """Four seconds of conditions would keep the one thread; the light call has two."""
    costly = pb.SearchRequest(history_item_ids=["i1"], constraints=years(CONDITIONS))
    slow = stub.Search(costly, timeout=0.4)
    await asyncio.to_thread(catalog.busy.wait)
    light = await stub.Search(pb.SearchRequest(history_item_ids=["i1"]), timeout=2.0)
    assert len(light.items) == 29
    # The server said so itself, before the deadline did.
    assert await code_of(slow) == (grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED")
    assert catalog.evaluated <= 0.4 / SECONDS_EACH


async def test_a_similarity_query_runs_out_of_time_too(stub: Stub, catalog: SlowCatalog) -> None:
    query = SimilarityQuery(text="new film", constraints=years(CONDITIONS))
    call = stub.Similar(pb.SimilarRequest(query=query), timeout=0.2)
    assert (await code_of(call))[0] is grpc.StatusCode.DEADLINE_EXCEEDED
    assert catalog.evaluated <= 0.2 / SECONDS_EACH


async def test_what_costs_too_much_is_the_callers_mistake(
    stub: Stub, catalog: SlowCatalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filters, "MAX_WORK", CONDITIONS * 30 - 1)
    costly = pb.SearchRequest(history_item_ids=["i1"], constraints=years(CONDITIONS))
    refused = await code_of(stub.Search(costly))
    assert refused == (grpc.StatusCode.INVALID_ARGUMENT, "FILTER_TOO_COSTLY")
    assert catalog.evaluated == 0


async def test_a_filter_that_comes_again_is_remembered(stub: Stub, catalog: SlowCatalog) -> None:
    request = pb.SearchRequest(history_item_ids=["i1"], constraints=years(5))
    answers = [await stub.Search(request) for _ in range(3)]
    assert answers[0] == answers[1] == answers[2]
    assert catalog.evaluated == 5
