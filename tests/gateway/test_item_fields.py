"""`item_fields` and `GetItems`: answers that a page can be made of, over real channels."""

from typing import Any

import pytest

import tandem
from core import errors
from gateway.recommend.fallback import PopularItems
from serving.validation import attributes_of
from tandem.requests import FieldName, StrategyName
from tandem.v1 import catalog_service_pb2 as catalog_pb
from tandem.v1 import recommendation_service_pb2 as pb
from tests.gateway.stack import STRATEGIES, Stack, ids, raw
from tests.tiny_bundle import catalog

ITEMS = {item.item_id: item for item in catalog().items}
BOTH: tuple[FieldName, ...] = ("title", "attributes")


def says_what_it_is(item: Any, fields: tuple[FieldName, ...] = BOTH) -> bool:
    """Whether an item of an answer has the fields that it should have, and no others."""
    expected = ITEMS[item.item_id]
    title = expected.title if "title" in fields else ""
    attributes = expected.attributes if "attributes" in fields else {}
    return bool(item.title == title and attributes_of(item.attributes) == attributes)


@pytest.mark.parametrize("fields", [(), ("title",), ("attributes",), BOTH])
@pytest.mark.parametrize("strategy", STRATEGIES)
async def test_items_say_what_is_asked_of_them(
    stack: Stack, strategy: StrategyName, fields: tuple[FieldName, ...]
) -> None:
    plain = await stack.client.recommend("ann", strategy=strategy, max_results=8)
    asked = await stack.client.recommend(
        "ann", strategy=strategy, max_results=8, item_fields=fields
    )
    assert len(asked.recommendations) == 8
    assert all(says_what_it_is(item, fields) for item in asked.recommendations)
    for item in asked.recommendations:  # the scores are what they are without
        item.ClearField("title")
        item.ClearField("attributes")
    assert list(asked.recommendations) == list(plain.recommendations)


@pytest.mark.parametrize("fields", [(), ("title",)])
@pytest.mark.parametrize("strategy", STRATEGIES)
async def test_attributes_for_the_rules_stay_in_the_gateway(
    stack: Stack, strategy: StrategyName, fields: tuple[FieldName, ...]
) -> None:
    response = await stack.client.recommend(
        "ann", strategy=strategy, caps={"genre": 1}, item_fields=fields, max_results=3
    )
    assert all(says_what_it_is(item, fields) for item in response.recommendations)


async def test_a_pinned_item_is_what_it_is_now(stack: Stack) -> None:
    stack.candidate.live["new"] = ["War"]
    response = await stack.client.recommend(
        "ann", strategy="embedding", max_results=2, pin={"new": 1}, item_fields=BOTH
    )
    new, found = response.recommendations
    assert (new.item_id, new.title, new.pinned) == ("new", "New", True)
    assert (new.score, new.HasField("retrieval_score")) == (0.0, False)
    assert attributes_of(new.attributes) == {"genre": ("War",)}
    assert says_what_it_is(found)


async def test_what_is_popular_is_described_too(stack: Stack) -> None:
    gone = errors.Internal("gone", reason="GONE")
    stack.candidate.failure = stack.generator.failure = gone
    response = await stack.client.recommend("ann", max_results=3, item_fields=("title",))
    assert len(ids(response)) == 3
    assert all(says_what_it_is(item, ("title",)) for item in response.recommendations)


def test_of_the_catalog_only_what_is_popular_is_kept() -> None:
    popularity = PopularItems(catalog(), size=4)
    assert list(popularity.fields) == ["i0", "i1", "i2", "i3"]


async def test_similar_items_say_what_they_are(stack: Stack) -> None:
    (plain,) = (await stack.client.similar_items(["i1"])).items
    assert says_what_it_is(plain, ())
    (found,) = (await stack.client.similar_items(["i1"], item_fields=BOTH)).items
    assert says_what_it_is(found)


async def test_items_are_looked_up(stack: Stack) -> None:
    stack.candidate.live["new"] = ["War"]
    response = await stack.client.get_items(["i3", "new", "nowhere"])
    assert [(item.item_id, item.title) for item in response.items] == [
        ("i3", "Film 3 (1993)"),
        ("new", "New"),
    ]
    assert list(response.missing_item_ids) == ["nowhere"]
    (request,) = stack.candidate.requests
    assert request == catalog_pb.GetItemsRequest(item_ids=["i3", "new", "nowhere"])
    stack.candidate.failure = errors.InvalidArgument("too many", reason="TOO_MANY_ITEMS")
    with pytest.raises(tandem.InvalidArgument):
        await stack.client.get_items(["i3"])


async def test_a_field_that_items_do_not_have(stack: Stack) -> None:
    request = pb.RecommendRequest(user_id="ann")
    request.item_fields.paths.append("price")
    with pytest.raises(tandem.InvalidArgument) as caught:
        await raw(stack.channel, "Recommend", request)
    assert caught.value.reason == "UNKNOWN_ITEM_FIELD"
    assert not stack.candidate.requests
