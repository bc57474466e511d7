"""Scores token by token: they add up to what reranking gives, and are the model's own."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import numpy as np
import pytest

from services.generator.decoding.engine import UserContext
from serving.testing import serving
from tandem import errors
from tandem.v1 import generator_service_pb2 as pb
from tandem.v1 import generator_service_pb2_grpc as rpc
from tests.generator.calls import ids, make_servicer
from tests.generator.made_up import Backbone, MadeUp, level_texts, random_levels, write_made_up

if TYPE_CHECKING:
    from tandem.v1.generator_service_pb2_grpc import GeneratorServiceAsyncStub as Stub

LENGTHS = (*level_texts(random_levels(20, (3, 3, 3))), "<a_0>", "<a_1><b_2>")
"""Codes of different lengths: they end with a token of their own, and are padded."""


@pytest.fixture(params=["equal", "different"])
def model(
    request: pytest.FixtureRequest, by_token: MadeUp, backbone: Backbone, tmp_path: Path
) -> MadeUp:
    if request.param == "equal":
        return by_token
    return write_made_up(tmp_path, list(LENGTHS), backbone=backbone)


@pytest.fixture
async def stub(model: MadeUp) -> AsyncIterator["Stub"]:
    servicer = make_servicer(model.bundle, model.engine)
    async with serving(servicer, rpc.add_GeneratorServiceServicer_to_server) as channel:
        yield rpc.GeneratorServiceStub(channel)
    await servicer.close()


async def test_tokens_add_up_to_the_score_of_reranking(model: MadeUp, stub: "Stub") -> None:
    context = pb.UserContext(history_item_ids=ids(4, 2))
    items = ids(*range(model.items))
    answer = await stub.DiagnoseItems(pb.DiagnoseItemsRequest(context=context, item_ids=items))
    reranked = await stub.Rerank(pb.RerankRequest(context=context, item_ids=items))
    score = {item.item_id: item.score for item in reranked.items}
    assert [code.item_id for code in answer.items] == items, "in the order of the request"
    for position, code in enumerate(answer.items):
        assert code.text == model.engine.snapshot.code_texts[position]
        assert "".join(t.text for t in code.tokens).removesuffix("</s>") == code.text
        total = sum(token.log_probability for token in code.tokens)
        assert total == pytest.approx(score[code.item_id], abs=1e-4)


async def test_each_token_has_the_models_log_probability(model: MadeUp, stub: "Stub") -> None:
    engine, history = model.engine, np.array([4, 2], np.int32)
    last = model.items - 1
    answer = await stub.DiagnoseItems(
        pb.DiagnoseItemsRequest(
            context=pb.UserContext(history_item_ids=ids(4, 2)), item_ids=ids(last)
        )
    )
    (code,) = answer.items
    codes = engine.snapshot.codes[last]
    codes = codes[codes != engine.parts.section.pad_token]
    (expected,) = model.steps(UserContext(None, history), codes[None])
    found = [token.log_probability for token in code.tokens]
    assert found == pytest.approx(expected.tolist(), abs=1e-4)


async def test_unknown_and_repeated_items(stub: "Stub") -> None:
    request = pb.DiagnoseItemsRequest(
        context=pb.UserContext(history_item_ids=["x"]), item_ids=["i2", "y", "i1", "i2"]
    )
    answer = await stub.DiagnoseItems(request)
    assert [code.item_id for code in answer.items] == ["i2", "i1"]
    assert list(answer.missing_item_ids) == ["x", "y"]
    assert answer.bundle_version == "tiny/1"
    nothing = await stub.DiagnoseItems(pb.DiagnoseItemsRequest(item_ids=["y"]))
    assert not nothing.items


async def test_there_must_be_items_to_diagnose(stub: "Stub") -> None:
    call = stub.DiagnoseItems(pb.DiagnoseItemsRequest())
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    assert errors.from_rpc(caught.value).reason == "NO_ITEMS"
