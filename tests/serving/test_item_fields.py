"""Titles and attributes on their way through messages of scored items."""

from dataclasses import replace

import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from hypothesis import given
from hypothesis import strategies as st

from core.catalog import CatalogItem
from core.errors import InvalidArgument
from serving.item_fields import (
    ITEM_FIELDS,
    Fields,
    ItemFieldWriter,
    decode_attributes,
    encode_item,
    encode_message,
    narrow,
    read_item_fields,
)
from tandem.v1.candidate_service_pb2 import ShortlistedItem
from tandem.v1.common_pb2 import Item, ScoredItem
from tandem.v1.recommendation_service_pb2 import Recommendation

FILM = CatalogItem("f", "Film (1995)", "a film", {"genre": ("War", "Drama"), "year": (1995.0,)}, 3)

texts = st.text(max_size=5)
values = st.one_of(texts, st.floats(allow_nan=False))
items = st.builds(
    CatalogItem,
    st.just("f"),
    texts,
    texts,
    st.dictionaries(texts, st.lists(values, min_size=1, max_size=3).map(tuple), max_size=3),
    st.just(0),
)


def test_all_scored_items_have_the_fields_under_the_same_numbers() -> None:
    def fields(message: type[ScoredItem | ShortlistedItem | Recommendation]) -> list[object]:
        named = [message.DESCRIPTOR.fields_by_name[name] for name in ITEM_FIELDS]
        return [(field.number, field.type) for field in named]

    assert fields(ScoredItem) == fields(ShortlistedItem) == fields(Recommendation)


@given(items, st.sampled_from([(), ("title",), ("attributes",), ITEM_FIELDS]))
def test_what_is_asked_for_arrives_and_nothing_else(item: CatalogItem, fields: Fields) -> None:
    sent = ShortlistedItem(item_id="f", score=0.5, transition_score=-1.0)
    ItemFieldWriter().write([sent], [item], fields)
    assert (sent.item_id, sent.score, sent.transition_score) == ("f", 0.5, -1.0)
    assert sent.title == (item.title if "title" in fields else "")
    expected = item.attributes if "attributes" in fields else {}
    assert decode_attributes(encode_message(sent)) == expected
    assert ScoredItem.FromString(narrow(encode_message(sent), ["title"])).title == sent.title
    assert decode_attributes(narrow(encode_message(sent), ["title"])) == {}


@given(items)
def test_an_item_of_the_catalog_has_the_same_fields(item: CatalogItem) -> None:
    encoded = ScoredItem.FromString(encode_item(item))
    message = Item(item_id="f", title=item.title, attributes=encoded.attributes, popularity=7)
    assert ScoredItem.FromString(encode_message(message)) == encoded


def test_a_replaced_item_is_not_taken_for_the_one_before() -> None:
    writer, sent = ItemFieldWriter(), [ScoredItem(), ScoredItem(), ScoredItem()]
    writer.write(sent, [FILM, FILM, replace(FILM, title="Another")], ("title",))
    assert [message.title for message in sent] == ["Film (1995)", "Film (1995)", "Another"]


def test_what_is_remembered_is_bounded() -> None:
    writer = ItemFieldWriter(capacity=3)
    for number in range(10):
        item = replace(FILM, item_id=str(number), title=f"Film {number}")
        sent = [ScoredItem()]
        writer.write(sent, [item], ("title",))
        assert sent[0].title == item.title
        assert len(writer) <= 3


def test_a_mask_names_fields_each_once_in_order() -> None:
    assert read_item_fields(FieldMask()) == ()
    assert read_item_fields(FieldMask(paths=["attributes", "title", "title"])) == ITEM_FIELDS


@pytest.mark.parametrize("path", ["", "*", "text", "Title", "attributes.genre"])
def test_other_paths_are_refused(path: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        read_item_fields(FieldMask(paths=["title", path]))
    assert caught.value.reason == "UNKNOWN_ITEM_FIELD"
    assert caught.value.metadata == {"field": path}
