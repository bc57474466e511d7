"""Rows of the generator over a real server, bad input first of all."""

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import grpc
import numpy as np
import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from services.generator.decoding.engine import UserContext
from serving.testing import serving
from tandem import errors
from tandem.v1 import generator_service_pb2 as pb
from tandem.v1 import generator_service_pb2_grpc as rpc
from tandem.v1.common_pb2 import ItemConstraints, RowRequest
from tests.generator.calls import ids, item_ids, make_servicer, parity_is, scores
from tests.generator.made_up import MadeUp

if TYPE_CHECKING:
    from tandem.v1.generator_service_pb2_grpc import GeneratorServiceAsyncStub as Stub

CONTEXT = pb.UserContext(history_item_ids=[*ids(1, 2), "ghost"])
ODD = ItemConstraints(filter=parity_is("odd"))
ROWS = [
    RowRequest(name="odd", max_results=4, constraints=ODD),
    RowRequest(name="all", max_results=5),
    RowRequest(name="more", constraints=ItemConstraints(allowed_item_ids=ids(3, 4, 5))),
]


@pytest.fixture
async def stub(made_up: MadeUp) -> AsyncIterator["Stub"]:
    servicer = make_servicer(made_up.bundle, made_up.engine)
    async with serving(servicer, rpc.add_GeneratorServiceServicer_to_server) as channel:
        yield rpc.GeneratorServiceStub(channel)
    await servicer.close()


async def test_rows_are_lists_of_calls_alone(stub: "Stub") -> None:
    request = pb.GenerateRequest(context=CONTEXT, rows=ROWS, allow_repeats=True)
    answer = await stub.Generate(request)
    assert [row.name for row in answer.rows] == ["odd", "all", "more"]
    assert not answer.items
    assert answer.missing_item_ids == ["ghost"]
    assert answer.bundle_version == "tiny/1"
    assert answer.batch_size == 1
    for row, found in zip(ROWS, answer.rows, strict=True):
        alone = await stub.Generate(
            pb.GenerateRequest(
                context=CONTEXT, max_results=row.max_results, constraints=row.constraints
            )
        )
        assert item_ids(found.items) == item_ids(alone.items)
        assert scores(found.items) == pytest.approx(scores(alone.items), abs=1e-4)


async def test_an_item_is_in_the_first_row_that_finds_it(stub: "Stub") -> None:
    request = pb.GenerateRequest(context=CONTEXT, rows=ROWS, item_fields=FieldMask(paths=["title"]))
    odd, everything, more = (await stub.Generate(request)).rows
    assert [len(odd.items), len(everything.items)] == [4, 5]
    shown = item_ids([*odd.items, *everything.items])
    assert len(set(shown)) == 9
    assert set(item_ids(more.items)) == set(ids(3, 4, 5)) - set(shown)
    assert [item.title for item in odd.items] == [
        f"Item {item_id[1:]}" for item_id in item_ids(odd.items)
    ]


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (pb.GenerateRequest(rows=ROWS, max_results=3), "ROWS_AND_LIST"),
        (pb.GenerateRequest(rows=ROWS, constraints=ODD), "ROWS_AND_LIST"),
        (pb.GenerateRequest(rows=[RowRequest(name="a")] * 2), "ROW_NAME"),
        (
            pb.GenerateRequest(rows=[RowRequest(name=str(i)) for i in range(21)]),
            "TOO_MANY_ROWS",
        ),
    ],
)
async def test_bad_rows_are_refused(
    stub: "Stub", request_: pb.GenerateRequest, reason: str
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.Generate(request_)
    assert errors.from_rpc(caught.value).reason == reason


async def test_every_list_says_what_is_certain(stub: "Stub", made_up: MadeUp) -> None:
    answer = await stub.Generate(pb.GenerateRequest(context=CONTEXT, rows=ROWS, max_results=0))
    assert not answer.HasField("proof")
    assert all(row.HasField("proof") for row in answer.rows)
    assert answer.rows[2].proof.exact  # it lists all that is allowed
    alone = await stub.Generate(pb.GenerateRequest(context=CONTEXT, max_results=30))
    both = await stub.Rank(pb.RankRequest(context=CONTEXT, item_ids=ids(5), max_results=30))
    assert alone.proof == both.proof
    proof = alone.proof
    assert proof.exact == (proof.exact_places == 30)
    assert (proof.gap == 0.0) == proof.exact


async def test_an_exact_list_is_that_of_all_scores(stub: "Stub", made_up: MadeUp) -> None:
    history = np.array([1, 2], np.int32)
    expected = made_up.exact(UserContext(None, history))
    expected[history] = -np.inf
    request = pb.GenerateRequest(context=CONTEXT, max_results=20)
    assert not (await stub.Generate(request)).proof.exact
    request.exact = True
    found = await stub.Generate(request)
    assert found.proof == pb.ListProof(exact=True, exact_places=20)
    best = np.sort(expected)[::-1][:20]
    np.testing.assert_allclose(scores(found.items), best, atol=1e-4)
    rows = await stub.Generate(pb.GenerateRequest(context=CONTEXT, rows=ROWS, exact=True))
    assert all(row.proof.exact for row in rows.rows)


async def test_a_proof_ends_with_time_or_beams(
    made_up: MadeUp, stub: "Stub", monkeypatch: pytest.MonkeyPatch
) -> None:
    """The list comes as it is by then, and says that it is not proved."""
    request = pb.GenerateRequest(context=CONTEXT, max_results=20, exact=True)
    monkeypatch.setattr("services.generator.servicer.time_left", lambda: 0.0)
    answer = await stub.Generate(request)
    assert (len(answer.items), answer.proof.exact) == (20, False)
    monkeypatch.undo()
    monkeypatch.setattr("services.generator.servicer.MOST_BEAMS", 39)
    assert not (await stub.Generate(request)).proof.exact
