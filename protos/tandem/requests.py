"""The client's arguments as the contract's messages."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, Protocol, TypedDict, Unpack

from google.protobuf.descriptor import EnumDescriptor
from google.protobuf.field_mask_pb2 import FieldMask

from tandem.filters import Condition
from tandem.v1 import recommendation_service_pb2 as pb
from tandem.v1.common_pb2 import (
    ItemConstraints,
    RowRequest,
    SimilarityQuery,
    Vector,
    VectorSpace,
)
from tandem.v1.generator_service_pb2 import PredictRatingsRequest, RatedItem

StrategyName = Literal["rerank", "generate", "fuse", "embedding"]
SpaceName = Literal["content", "behavior"]
FieldName = Literal["title", "attributes"]


class Enum(Protocol):
    """An enum of the contract, such as `pb.Strategy`."""

    DESCRIPTOR: EnumDescriptor

    def Name(self, number: Any) -> str:  # noqa: N802 - protobuf's
        """The name of a value."""


class ConstraintArguments(TypedDict, total=False):
    """Which items an answer may hold."""

    exclude: Iterable[str]
    filter: Condition | None
    only: Iterable[str]
    include_seen: bool


class RuleArguments(TypedDict, total=False):
    """How a list is arranged after its items are scored."""

    pin: Mapping[str, int] | None
    caps: Mapping[str, int] | None
    diversity: float | None
    boosts: Iterable[tuple[Condition, float]]


class RecommendArguments(ConstraintArguments, RuleArguments, total=False):
    """What `recommend` takes beside the user; `Client.recommend` says what each means."""

    history: Iterable[str]
    max_results: int
    strategy: StrategyName | None
    item_fields: Iterable[FieldName]
    page_size: int
    page_token: str
    forbid_degraded: bool
    diagnostics: bool
    serving_config: str
    variant: str
    exact: bool


class RowArguments(ConstraintArguments, total=False):
    """What one row of `recommend_rows` is; `Client.recommend_rows` says what each means."""

    max_results: int


class RowsArguments(TypedDict, total=False):
    """What `recommend_rows` takes beside the user and the rows; `Client.recommend_rows` says what
    each means."""

    history: Iterable[str]
    allow_repeats: bool
    strategy: StrategyName | None
    item_fields: Iterable[FieldName]
    forbid_degraded: bool
    serving_config: str
    variant: str
    exact: bool


class SimilarArguments(ConstraintArguments, total=False):
    """What `similar_items` takes beside the items; `Client.similar_items` says what each means."""

    text: str | None
    vector: Sequence[float] | None
    space: SpaceName | None
    min_score: float | None
    diversity: float
    item_fields: Iterable[FieldName]
    max_results: int


def item_constraints(
    *,
    exclude: Iterable[str] = (),
    filter: Condition | None = None,  # noqa: A002 - the contract's word
    only: Iterable[str] = (),
    include_seen: bool = False,
) -> ItemConstraints:
    """Writes which items an answer may hold."""
    return ItemConstraints(
        excluded_item_ids=exclude,
        filter=filter.message if filter else None,
        allowed_item_ids=only,
        include_seen=include_seen,
    )


def name_of(enum: Enum, value: int) -> str:
    """A value of an enum as people write it: `rerank` of `STRATEGY_RERANK`.

    Args:
        enum: whose values begin with its own name, such as `pb.Strategy`.
        value: one of them.
    """
    return enum.Name(value).removeprefix(f"{enum.DESCRIPTOR.name.upper()}_").lower()


def strategy_value(strategy: StrategyName | None) -> "pb.Strategy.ValueType":
    """The contract's value of a strategy; unspecified for None."""
    return pb.Strategy.Value(f"STRATEGY_{(strategy or 'unspecified').upper()}")


def recommend_request(
    user_id: str,
    *,
    history: Iterable[str] = (),
    max_results: int = 0,
    strategy: StrategyName | None = None,
    pin: Mapping[str, int] | None = None,
    caps: Mapping[str, int] | None = None,
    diversity: float | None = None,
    boosts: Iterable[tuple[Condition, float]] = (),
    item_fields: Iterable[FieldName] = (),
    page_size: int = 0,
    page_token: str = "",
    forbid_degraded: bool = False,
    diagnostics: bool = False,
    bundle: str = "",
    serving_config: str = "",
    variant: str = "",
    exact: bool = False,
    **constraints: Unpack[ConstraintArguments],
) -> pb.RecommendRequest:
    """Writes what the `recommend` of both clients asks for."""
    return pb.RecommendRequest(
        user_id=user_id,
        history_item_ids=history,
        max_results=max_results,
        strategy=strategy_value(strategy),
        constraints=item_constraints(**constraints),
        pinned_items=[
            pb.PinnedItem(item_id=item_id, position=position)
            for item_id, position in (pin or {}).items()
        ],
        attribute_caps=[
            pb.AttributeCap(attribute=attribute, max_items=most)
            for attribute, most in (caps or {}).items()
        ],
        diversity=diversity,
        boosts=[
            pb.ConditionBoost(condition=boosted.message, boost=boost) for boosted, boost in boosts
        ],
        item_fields=_field_mask(item_fields),
        page_size=page_size,
        page_token=page_token,
        forbid_degraded=forbid_degraded,
        diagnostics=diagnostics,
        bundle=bundle,
        serving_config=serving_config,
        variant=variant,
        exact=exact,
    )


def rows_request(
    user_id: str,
    rows: Mapping[str, RowArguments],
    *,
    history: Iterable[str] = (),
    allow_repeats: bool = False,
    strategy: StrategyName | None = None,
    item_fields: Iterable[FieldName] = (),
    forbid_degraded: bool = False,
    bundle: str = "",
    serving_config: str = "",
    variant: str = "",
    exact: bool = False,
) -> pb.RecommendRowsRequest:
    """Writes what the `recommend_rows` of both clients asks for."""
    return pb.RecommendRowsRequest(
        user_id=user_id,
        history_item_ids=history,
        rows=[_row_request(name, **row) for name, row in rows.items()],
        allow_repeats=allow_repeats,
        strategy=strategy_value(strategy),
        item_fields=_field_mask(item_fields),
        forbid_degraded=forbid_degraded,
        bundle=bundle,
        serving_config=serving_config,
        variant=variant,
        exact=exact,
    )


def _row_request(
    name: str, max_results: int = 0, **constraints: Unpack[ConstraintArguments]
) -> RowRequest:
    return RowRequest(
        name=name, max_results=max_results, constraints=item_constraints(**constraints)
    )


def similar_request(
    items: Iterable[str],
    *,
    text: str | None = None,
    vector: Sequence[float] | None = None,
    space: SpaceName | None = None,
    min_score: float | None = None,
    diversity: float = 0.0,
    item_fields: Iterable[FieldName] = (),
    max_results: int = 0,
    bundle: str = "",
    **constraints: Unpack[ConstraintArguments],
) -> pb.SimilarItemsRequest:
    """Writes what the `similar_items` of both clients asks for.

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
        constraints=item_constraints(**constraints),
        min_score=min_score,
        diversity=diversity or None,
        item_fields=_field_mask(item_fields),
    )
    if text is not None:
        query.text = text
    return pb.SimilarItemsRequest(query=query, bundle=bundle)


def ratings_request(
    user_id: str,
    items: Iterable[str],
    *,
    rated: Mapping[str, float] | None = None,
    bundle: str = "",
) -> PredictRatingsRequest:
    """Writes what the `predict_ratings` of both clients asks for."""
    pairs = (rated or {}).items()
    return PredictRatingsRequest(
        user_id=user_id,
        item_ids=items,
        rated_items=[RatedItem(item_id=item_id, rating=rating) for item_id, rating in pairs],
        bundle=bundle,
    )


def _field_mask(fields: Iterable[FieldName]) -> FieldMask | None:
    paths = list(fields)
    return FieldMask(paths=paths) if paths else None
