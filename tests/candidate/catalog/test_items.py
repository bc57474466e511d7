"""The catalog's RPCs over a real server, and every bad input of them."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import duration_pb2
from google.protobuf.field_mask_pb2 import FieldMask
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from core.bundle import Bundle
from core.errors import SettingsError
from services.candidate.catalog.live import LiveCatalog
from services.candidate.servicer import CandidateServicer
from serving.testing import serving
from serving.workers import Workers
from tandem.v1 import candidate_service_pb2 as candidate_pb
from tandem.v1 import catalog_service_pb2 as pb
from tandem.v1.common_pb2 import (
    AttributeValue,
    AttributeValues,
    Item,
    ItemConstraints,
    ItemFilter,
    SimilarityQuery,
    Vector,
)
from tests.candidate.coded import make_writer
from tests.candidate.made_up import CONTENT, make_catalog, make_world
from tests.candidate.served import Stub, attach
from tests.candidate.small_bundle import write_small_bundle
from tests.candidate.test_servicer import error_reason

WORLD = make_world()
CATALOG = make_catalog(WORLD)
VERSION = "made-up/1"
NAN = float("nan")


@pytest.fixture
async def servicer(tmp_path: Path) -> AsyncIterator[CandidateServicer]:
    live = LiveCatalog(WORLD.engine, make_writer(tmp_path / "items.sqlite"))
    servicer = CandidateServicer(live, VERSION, Workers(2))
    yield servicer
    await servicer.close()


@pytest.fixture
async def stub(servicer: CandidateServicer) -> AsyncIterator[Stub]:
    async with serving(servicer, attach) as channel:
        yield Stub(channel)


def values(*given: str | float) -> AttributeValues:
    return AttributeValues(
        values=[
            AttributeValue(text=v) if isinstance(v, str) else AttributeValue(number=v)
            for v in given
        ]
    )


def new(item_id: str = "n", **fields: Any) -> pb.NewItem:
    return pb.NewItem(**{"item_id": item_id, "title": "New", "text": "new film", **fields})


def upsert(*items: pb.NewItem) -> Callable[[Stub], Any]:
    return lambda stub: stub.UpsertItems(pb.UpsertItemsRequest(items=items))


def delete(*item_ids: str) -> Callable[[Stub], Any]:
    return lambda stub: stub.DeleteItems(pb.DeleteItemsRequest(item_ids=item_ids))


def get(*item_ids: str) -> Callable[[Stub], Any]:
    return lambda stub: stub.GetItems(pb.GetItemsRequest(item_ids=item_ids))


def listing(**fields: Any) -> Callable[[Stub], Any]:
    return lambda stub: stub.ListItems(pb.ListItemsRequest(**fields))


async def test_a_new_item_is_found_at_once(stub: Stub) -> None:
    attributes = {"genre": values("Noir", "War"), "year": values(1999.0)}
    response = await upsert(new(attributes=attributes))(stub)
    assert response == pb.UpsertItemsResponse(sequence=1, bundle_version=VERSION)
    noir = ItemFilter(
        equals=ItemFilter.Equals(attribute="genre", value=AttributeValue(text="Noir"))
    )
    similar = await stub.Similar(
        candidate_pb.SimilarRequest(
            query=SimilarityQuery(
                text="new film", max_results=1, constraints=ItemConstraints(filter=noir)
            )
        )
    )
    assert [item.item_id for item in similar.items] == ["n"]
    only = ItemConstraints(filter=noir)
    found = await stub.Search(candidate_pb.SearchRequest(history_item_ids=["i1"], constraints=only))
    assert [item.item_id for item in found.items] == ["n"]
    found = await stub.Search(candidate_pb.SearchRequest(history_item_ids=["n"], max_results=3))
    assert len(found.items) == 3
    assert found.source == candidate_pb.RETRIEVAL_SOURCE_CONTENT
    (item,) = (await get("n")(stub)).items
    expected = Item(item_id="n", title="New", text="new film", attributes=attributes)
    assert item == expected


async def test_a_ready_vector_needs_no_length(stub: Stub) -> None:
    vector = [30.0 * number for number in WORLD.content[7].tolist()]
    await upsert(new(vector=Vector(values=vector)))(stub)
    i7 = SimilarityQuery.ItemList(item_ids=["i7"])
    query = candidate_pb.SimilarRequest(query=SimilarityQuery(items=i7, max_results=1))
    (found,) = (await stub.Similar(query)).items
    assert found.item_id == "n"
    assert found.score == pytest.approx(1.0)


async def test_what_is_said_again_is_unchanged(stub: Stub) -> None:
    await upsert(new("n"), new("m"))(stub)
    response = await upsert(new("n"), new("m", title="Other"))(stub)
    assert (response.sequence, list(response.unchanged_item_ids)) == (3, ["n"])


async def test_a_deleted_item_is_nowhere(stub: Stub) -> None:
    await upsert(new("n"))(stub)
    response = await delete("n", "nowhere", "i3", "nowhere", "n")(stub)
    assert (response.sequence, list(response.missing_item_ids)) == (3, ["nowhere"])
    found = await get("n", "i3", "i4")(stub)
    assert [item.item_id for item in found.items] == ["i4"]
    assert list(found.missing_item_ids) == ["n", "i3"]
    search = await stub.Search(candidate_pb.SearchRequest(history_item_ids=["i1"], max_results=100))
    assert {"n", "i3"}.isdisjoint(item.item_id for item in search.items)
    assert len(search.items) == 28
    similar = await stub.Similar(
        candidate_pb.SimilarRequest(query=SimilarityQuery(text="new film"))
    )
    listed = await listing()(stub)
    for answer in (found, search, similar, listed):
        assert answer.catalog_sequence == 3
    popular = await stub.Search(candidate_pb.SearchRequest(max_results=100))
    assert len(popular.items) == 29
    assert "i3" not in {item.item_id for item in popular.items}


async def test_pages_lead_through_the_catalog(stub: Stub) -> None:
    await upsert(new("n"), new("i5"))(stub)
    await delete("i7")(stub)
    found: list[str] = []
    token = ""
    while True:
        page = await listing(page_size=4, page_token=token)(stub)
        assert page.total_size == 30
        found += [item.item_id for item in page.items]
        token = page.next_page_token
        if not token:
            break
        assert len(page.items) == 4
    assert found == sorted(({f"i{i}" for i in range(30)} - {"i7"}) | {"n"})


async def test_a_page_token_means_the_same_on_a_replica(stub: Stub) -> None:
    """Also where the catalog changes between two pages, and for an item that is gone."""
    first = await listing(page_size=4)(stub)
    assert [item.item_id for item in first.items] == ["i0", "i1", "i10", "i11"]
    replica = CandidateServicer(LiveCatalog(WORLD.engine), VERSION, Workers(1))
    async with serving(replica, attach) as channel:
        second = await listing(page_size=4, page_token=first.next_page_token)(Stub(channel))
    assert [item.item_id for item in second.items] == ["i12", "i13", "i14", "i15"]
    await replica.close()
    await delete("i11", "i13")(stub)
    await upsert(new("i12"), new("i120"), new("a"))(stub)
    second = await listing(page_size=4, page_token=first.next_page_token)(stub)
    assert [item.item_id for item in second.items] == ["i12", "i120", "i14", "i15"]


async def test_a_page_fits_into_a_message(stub: Stub) -> None:
    big = {f"a{i}": values(*["x" * 480] * 3) for i in range(10)}
    for start in range(0, 120, 40):
        await upsert(*[new(f"n{i}", attributes=big) for i in range(start, start + 40)])(stub)
    page = await listing(page_size=1_000)(stub)
    assert 30 < len(page.items) < 150
    rest = await listing(page_size=1_000, page_token=page.next_page_token)(stub)
    assert len(page.items) + len(rest.items) == 150


async def test_sizes_of_pages(stub: Stub) -> None:
    assert len((await listing()(stub)).items) == 30
    assert len((await listing(page_size=2_000_000_000)(stub)).items) == 30


async def test_a_follower_gets_codes_and_then_news(stub: Stub) -> None:
    await upsert(new("n"))(stub)
    stream: Any = stub.WatchItems(pb.WatchItemsRequest(bundle_version=VERSION))
    first = await stream.read()
    (change,) = first.changes
    assert (first.sequence, first.bundle_version) == (1, VERSION)
    assert change.upsert.item.item_id == "n"
    assert len(change.upsert.code_tokens) == 2
    assert change.upsert.code_text.startswith("<a_")
    await delete("n", "i2")(stub)
    second = await stream.read()
    assert [change.delete_item_id for change in second.changes] == ["n", "i2"]
    assert [change.sequence for change in second.changes] == [2, 3]
    stream.cancel()


async def test_a_read_only_server_says_so_and_can_be_followed() -> None:
    servicer = CandidateServicer(LiveCatalog(WORLD.engine), VERSION, Workers(1))
    async with serving(servicer, attach) as channel:
        stub = Stub(channel)
        for call in (upsert(new()), delete("i1")):
            with pytest.raises(grpc.aio.AioRpcError) as error:
                await call(stub)
            assert error.value.code() is grpc.StatusCode.FAILED_PRECONDITION
            assert error_reason(error.value) == "READ_ONLY"
        stream = stub.WatchItems(pb.WatchItemsRequest())
        assert (await stream.read()) == pb.WatchItemsResponse(bundle_version=VERSION)
        stream.cancel()
    await servicer.close()


async def test_a_full_disk_is_resource_exhausted_and_reads_go_on(
    servicer: CandidateServicer, stub: Stub
) -> None:
    store = servicer._live._writer.store  # type: ignore[union-attr]
    (pages,) = store._writer.execute("PRAGMA page_count").fetchone()
    store._writer.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await upsert(*[new(f"n{i}", text="long " * 500) for i in range(50)])(stub)
    assert error.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert error_reason(error.value) == "STORE_FULL"
    assert retry_delay(error.value) > 0
    found = await get("n1", "i1")(stub)
    assert [item.item_id for item in found.items] == ["i1"]


def retry_delay(error: grpc.aio.AioRpcError) -> float:
    status = rpc_status.from_call(error)
    assert status is not None
    info = error_details_pb2.RetryInfo()
    assert status.details[1].Unpack(info)
    delay: duration_pb2.Duration = info.retry_delay
    return delay.ToTimedelta().total_seconds()


def vector(*numbers: float) -> Vector:
    return Vector(values=numbers)


def attributes(name: str, *given: str | float) -> pb.NewItem:
    return new(attributes={name: values(*given)})


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (upsert(), "NO_ITEMS"),
        (upsert(*[new(f"n{i}") for i in range(1_001)]), "TOO_MANY_ITEMS"),
        (upsert(new("")), "EMPTY_ID"),
        (upsert(new("x" * 513)), "ID_TOO_LONG"),
        (upsert(new("n"), new("m"), new("n")), "DUPLICATE_ITEM"),
        (upsert(new(title="é" * 513)), "TITLE_TOO_LONG"),
        (upsert(new(text="")), "EMPTY_TEXT"),
        (upsert(new(text=" \n")), "EMPTY_TEXT"),
        (upsert(new(text="é" * 2_049)), "TEXT_TOO_LONG"),
        (upsert(new(vector=vector())), "WRONG_DIMENSION"),
        (upsert(new(vector=vector(*[1.0] * (CONTENT + 1)))), "WRONG_DIMENSION"),
        (upsert(new(vector=vector(*[0.0] * CONTENT))), "ZERO_VECTOR"),
        (upsert(new(vector=vector(*[NAN] * CONTENT))), "NOT_FINITE"),
        (upsert(new(vector=vector(*[float("inf")] * CONTENT))), "NOT_FINITE"),
        (
            upsert(new(attributes={f"a{i}": values("x") for i in range(101)})),
            "ATTRIBUTES_TOO_LARGE",
        ),
        (upsert(attributes("", "x")), "INVALID_ATTRIBUTE"),
        (upsert(attributes("x" * 129, "x")), "ATTRIBUTES_TOO_LARGE"),
        (upsert(attributes("a")), "INVALID_ATTRIBUTE"),
        (upsert(attributes("a", NAN)), "INVALID_ATTRIBUTE"),
        (upsert(attributes("a", float("inf"))), "INVALID_ATTRIBUTE"),
        (upsert(attributes("a", "x" * 513)), "ATTRIBUTES_TOO_LARGE"),
        (upsert(attributes("a", *["x"] * 101)), "ATTRIBUTES_TOO_LARGE"),
        (upsert(attributes("a", *["x" * 500] * 34)), "ATTRIBUTES_TOO_LARGE"),
        (
            upsert(
                new(attributes={"a": AttributeValues(values=[AttributeValue()])}),
            ),
            "INVALID_ATTRIBUTE",
        ),
        (delete(), "NO_ITEMS"),
        (delete(""), "EMPTY_ID"),
        (delete(*["n"] * 1_001), "TOO_MANY_ITEMS"),
        (get(), "NO_ITEMS"),
        (get("x" * 513), "ID_TOO_LONG"),
        (get(*["n"] * 1_001), "TOO_MANY_ITEMS"),
        (listing(page_size=-1), "NEGATIVE_PAGE_SIZE"),
        (listing(page_token="1"), "INVALID_PAGE_TOKEN"),
        (listing(page_token="another.aTc="), "INVALID_PAGE_TOKEN"),
        (listing(page_token="after.no base64"), "INVALID_PAGE_TOKEN"),
        (listing(page_token="after./w=="), "INVALID_PAGE_TOKEN"),
        (listing(page_token="after."), "INVALID_PAGE_TOKEN"),
    ],
)
async def test_a_callers_mistake_is_named_and_changes_nothing(
    servicer: CandidateServicer, stub: Stub, call: Callable[[Stub], Any], reason: str
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call(stub)
    assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert error_reason(error.value) == reason
    assert servicer._live.engine is WORLD.engine


@pytest.mark.parametrize(
    ("request_", "reason", "code"),
    [
        (
            pb.WatchItemsRequest(after_sequence=9),
            "UNKNOWN_SEQUENCE",
            grpc.StatusCode.INVALID_ARGUMENT,
        ),
        (
            pb.WatchItemsRequest(after_sequence=-1),
            "UNKNOWN_SEQUENCE",
            grpc.StatusCode.INVALID_ARGUMENT,
        ),
        (
            pb.WatchItemsRequest(bundle_version="other/2"),
            "OTHER_BUNDLE",
            grpc.StatusCode.FAILED_PRECONDITION,
        ),
    ],
)
async def test_who_follows_another_catalog_is_told(
    stub: Stub, request_: pb.WatchItemsRequest, reason: str, code: grpc.StatusCode
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await stub.WatchItems(request_).read()
    assert error.value.code() is code
    assert error_reason(error.value) == reason


async def test_searches_see_whole_calls_only(stub: Stub) -> None:
    """While two items are written together again and again, readers see both as of one call."""
    pair = [new("a", attributes={"turn": values(0.0)}), new("b", attributes={"turn": values(0.0)})]
    await upsert(*pair)(stub)

    async def write() -> None:
        for turn in range(1, 40):
            for item in pair:
                item.attributes["turn"].values[0].number = turn
            await upsert(*pair)(stub)

    writing = asyncio.create_task(write())
    turns: set[float] = set()
    while not writing.done():
        found = (await get("a", "b")(stub)).items
        first, second = (item.attributes["turn"].values[0].number for item in found)
        assert first == second
        turns.add(first)
    await writing
    assert len(turns) > 3


async def test_a_bundle_is_served_with_its_store(tmp_path: Path) -> None:
    bundle = Bundle.open(write_small_bundle(tmp_path, WORLD))
    store = tmp_path / "state" / "items.sqlite"
    for expected in (1, 2):  # the second life goes on where the first ended
        servicer = CandidateServicer.load(bundle, threads=1, store=store)
        await servicer.warm_up()
        async with serving(servicer, attach) as channel:
            stub = Stub(channel)
            response = await upsert(new(f"n{expected}", text=f"a Film {expected}"))(stub)
            assert response.sequence == expected
            assert (await listing()(stub)).total_size == 30 + expected
        await servicer.close()


async def test_a_store_of_another_version_is_carried_over_when_told(tmp_path: Path) -> None:
    first = Bundle.open(write_small_bundle(tmp_path / "first", WORLD))
    other = make_world(items=32)  # has i30 and i31 as well
    second = Bundle.open(write_small_bundle(tmp_path / "second", other))
    store = tmp_path / "items.sqlite"
    servicer = CandidateServicer.load(first, threads=1, store=store)
    async with serving(servicer, attach) as channel:
        stub = Stub(channel)
        await upsert(new("n"), new("i30"), new("gone"))(stub)
        await delete("i3", "gone")(stub)
    await servicer.close()
    with pytest.raises(SettingsError, match="--rebase-store"):
        CandidateServicer.load(second, threads=1, store=store)
    servicer = CandidateServicer.load(second, threads=1, store=store, rebase=True)
    async with serving(servicer, attach) as channel:
        stub = Stub(channel)
        listed = {item.item_id: item for item in (await listing()(stub)).items}
        assert listed.keys() == {f"i{i}" for i in range(32)} - {"i3"} | {"n"}
        assert listed["i30"].title == "Film 30"  # the bundle's
    await servicer.close()
    assert (tmp_path / "items.sqlite.1").exists()  # as it was before
    CandidateServicer.load(second, threads=1, store=store)._live._writer.store.close()  # type: ignore[union-attr]


async def test_found_items_are_what_they_are_now(stub: Stub) -> None:
    both = FieldMask(paths=["title", "attributes"])
    query = SimilarityQuery(text="new film", max_results=31, item_fields=both)
    similar = candidate_pb.SimilarRequest(query=query)
    for title, genre in (("First", "Noir"), ("Second", "War")):
        attributes = {"genre": values(genre)}
        await upsert(new(title=title, attributes=attributes))(stub)
        search = candidate_pb.SearchRequest(
            history_item_ids=["i1"], max_results=31, item_fields=both
        )
        for answer in (await stub.Search(search), await stub.Similar(similar)):
            described = {item.item_id: item for item in answer.items}
            assert described["n"].title == title
            assert dict(described["n"].attributes) == attributes
            assert described["i4"].title == "Film 4"
            assert dict(described["i4"].attributes)["year"] == values(1994.0)
    similar.query.item_fields.paths[:] = ["title"]
    assert all(item.title and not item.attributes for item in (await stub.Similar(similar)).items)
    similar.query.item_fields.paths.append("text")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.Similar(similar)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
