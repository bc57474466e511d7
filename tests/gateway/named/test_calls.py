"""Each call is answered from the bundle that it names, and from no other."""

from pathlib import Path
from typing import Any

import grpc
import pytest

import tandem
from tandem.requests import recommend_request
from tandem.v1 import recommendation_service_pb2 as pb
from tandem.v1.catalog_service_pb2 import GetItemsRequest
from tests.gateway.named.shops import SHOPS, Shops, bundle_of, item_of, running

SERVICE = pb.DESCRIPTOR.services_by_name["RecommendationService"]
SINGLE = [method for method in SERVICE.methods if not method.client_streaming]
"""The methods that take one request."""


def of_shop(shop: str, id_: str = "") -> pb.BatchRecommendRequest:
    """A request of a stream."""
    return pb.BatchRecommendRequest(id=id_ or shop, request=recommend_request("ann", bundle=shop))


async def test_each_shop_recommends_its_own_items(shops: Shops) -> None:
    for shop, client in shops.clients.items():
        answer = await client.recommend("ann", strategy="fuse", max_results=5)
        assert not answer.degraded
        assert answer.bundle_version == f"{bundle_of(shop)}/1"
        assert {timing.bundle_version for timing in answer.timings} <= {f"{bundle_of(shop)}/1", ""}
        assert len(answer.recommendations) == 5
        assert all(item.item_id.startswith(shop or "i") for item in answer.recommendations)


async def test_items_are_those_of_the_named_shop(shops: Shops) -> None:
    for shop, client in shops.clients.items():
        mine, others = item_of(shop, 3), item_of("" if shop else "fr", 3)
        found = await client.get_items([mine, others])
        assert [item.item_id for item in found.items] == [mine]
        assert found.missing_item_ids == [others]
        similar = await client.similar_items([mine, others])
        assert similar.bundle_version == f"{bundle_of(shop)}/1"
        assert similar.missing_item_ids == [others]


async def test_a_stream_may_ask_several_shops(shops: Shops) -> None:
    requests = [of_shop(shop, f"{shop}{n}") for n in range(3) for shop in ("", "fr", "it")]
    answers = shops.clients[""].batch_recommend(requests)
    found = {answer.id: answer async for answer in answers}
    assert len(found) == 9
    for id_, answer in found.items():
        shop = id_[:-1]
        if shop == "it":
            error = tandem.errors.from_status(answer.error)
            assert error.reason == "UNKNOWN_BUNDLE_NAME"
            continue
        assert answer.response.bundle_version == f"{bundle_of(shop)}/1"
        first = answer.response.recommendations[0]
        assert first.item_id.startswith(shop or "i")


async def refused(channel: grpc.aio.Channel, method: Any, **fields: Any) -> tandem.Error:
    """The error of a call."""
    request = method.input_type._concrete_class(**fields)
    kind: Any = channel.unary_stream if method.server_streaming else channel.unary_unary
    call: Any = kind(f"/{SERVICE.full_name}/{method.name}")(request.SerializeToString())
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await (call.read() if method.server_streaming else call)
    return tandem.errors.from_rpc(caught.value)


async def test_each_request_can_name_a_bundle(shops: Shops) -> None:
    assert len(SINGLE) == 12
    for method in SINGLE:
        error = await refused(shops.channel, method, bundle="nowhere" * 100)
        expected = (grpc.StatusCode.INVALID_ARGUMENT, "UNKNOWN_BUNDLE_NAME")
        assert (error.code, error.reason) == expected, method.name
        assert len(error.message) < 200


async def test_a_service_behind_knows_no_name(shops: Shops) -> None:
    async with grpc.aio.insecure_channel(shops.candidates["fr"]) as channel:
        call: Any = channel.unary_unary("/tandem.v1.CatalogService/GetItems")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(GetItemsRequest(item_ids=["fr1"], bundle="fr").SerializeToString())
    assert tandem.errors.from_rpc(caught.value).reason == "UNKNOWN_BUNDLE_NAME"


async def test_a_shop_has_a_default_strategy_of_its_own(tmp_path: Path) -> None:
    async with running(
        tmp_path, own={"fr": {"strategy": "embedding"}}, strategy="generate"
    ) as shops:
        made = [(await shops.clients[shop].recommend("ann")).strategy for shop in SHOPS]
    assert made == [pb.STRATEGY_GENERATE, pb.STRATEGY_EMBEDDING]


async def test_a_shop_has_variants_of_its_own(tmp_path: Path) -> None:
    file = tmp_path / "serving.toml"
    file.write_text(
        '[configs.home]\nstrategy = "STRATEGY_EMBEDDING"\n\n'
        '[variants.all]\npercent = 100\nserving_config = "home"\n'
    )
    async with running(tmp_path, own={"fr": {"serving_file": file}}) as shops:
        french = await shops.clients["fr"].recommend("ann")
        assert (french.variant, french.strategy) == ("all", pb.STRATEGY_EMBEDDING)
        plain = await shops.clients[""].recommend("ann")
        assert plain.variant == ""
        with pytest.raises(tandem.InvalidArgument):
            await shops.clients[""].recommend("ann", serving_config="home")
        labels = {"bundle": "fr", "variant": "all", "outcome": "whole"}
        count = shops.service.registry.get_sample_value
        assert count("tandem_gateway_variant_answers_total", labels) == 1
        labels = {"bundle": "fr", "variant": "all", "state": "on"}
        assert count("tandem_gateway_variant_info", labels) == 1
