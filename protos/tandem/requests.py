"""The client's arguments as the contract's messages."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from google.protobuf.field_mask_pb2 import FieldMask

from tandem.filters import Condition
from tandem.v1 import recommendation_service_pb2 as pb
from tandem.v1.common_pb2 import ItemConstraints, SimilarityQuery, Vector, VectorSpace

StrategyName = Literal["rerank", "generate", "fuse", "embedding"]
SpaceName = Literal["content", "behavior"]
FieldName = Literal["title", "attributes"]


def item_constraints(
    exclude: Iterable[str],
    condition: Condition | None,
    only: Iterable[str],
    *,
    include_seen: bool,
) -> ItemConstraints:
    """Writes which items an answer may hold."""
    return ItemConstraints(
        excluded_item_ids=exclude,
        filter=condition.message if condition else None,
        allowed_item_ids=only,
        include_seen=include_seen,
    )


def recommend_request(
    user_id: str,
    history: Iterable[str],
    max_results: int,
    strategy: StrategyName | None,
    constraints: ItemConstraints,
    pin: Mapping[str, int] | None,
    caps: Mapping[str, int] | None,
    boosts: Iterable[tuple[Condition, float]],
    item_fields: Iterable[FieldName],
) -> pb.RecommendRequest:
    """Writes what both clients' `recommend` is asked for, but for its switches."""
    return pb.RecommendRequest(
        user_id=user_id,
        history_item_ids=history,
        max_results=max_results,
        strategy=pb.Strategy.Value(f"STRATEGY_{(strategy or 'unspecified').upper()}"),
        constraints=constraints,
        pinned_items=[
            pb.PinnedItem(item_id=item_id, position=position)
            for item_id, position in (pin or {}).items()
        ],
        attribute_caps=[
            pb.AttributeCap(attribute=attribute, max_items=most)
            for attribute, most in (caps or {}).items()
        ],
        boosts=[
            pb.ConditionBoost(condition=boosted.message, boost=boost) for boosted, boost in boosts
        ],
        item_fields=_field_mask(item_fields),
    )


def similar_request(
    items: Iterable[str],
    text: str | None,
    vector: Sequence[float] | None,
    space: SpaceName | None,
    min_score: float | None,
    diversity: float,
    max_results: int,
    constraints: ItemConstraints,
    item_fields: Iterable[FieldName],
) -> pb.SimilarItemsRequest:
    """Writes what both clients' `similar_items` is asked for.

    Raises:
        ValueError: not exactly one of `items`, `text` and `vector` is given.
    """
    item_ids = list(items)
    if bool(item_ids) + (text is not None) + (vector is not None) != 1:
        raise ValueError("give exactly one of items, text and vector")
    query = SimilarityQuery(
        items=SimilarityQuery.ItemList(item_ids=item_ids) if item_ids else None,
        vector=Vector(values=vector) if vector is not None else None,
        space=VectorSpace.Value(f"VECTOR_SPACE_{(space or 'unspecified').upper()}"),
        max_results=max_results,
        constraints=constraints,
        min_score=min_score,
        diversity=diversity or None,
        item_fields=_field_mask(item_fields),
    )
    if text is not None:
        query.text = text
    return pb.SimilarItemsRequest(query=query)


def _field_mask(fields: Iterable[FieldName]) -> FieldMask | None:
    paths = list(fields)
    return FieldMask(paths=paths) if paths else None
