"""Reading requests: messages to checked domain values, every limit of the contract enforced."""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from core.constraints import UNCONSTRAINED, Constraints
from core.errors import InvalidArgument
from services.candidate.index.flat import Vector
from services.candidate.index.space import SpaceName
from services.candidate.retrieval.similarity import NEAREST, SimilarityOptions
from serving import validation as edge
from serving.item_fields import Fields, read_item_fields
from tandem.v1 import candidate_service_pb2 as pb
from tandem.v1 import common_pb2

DEFAULT_SHORTLIST: Final = 100
DEFAULT_SIMILAR: Final = 10
MAX_RESULTS: Final = 1_000
MAX_QUERY_ITEMS: Final = 1_000
MAX_TEXT_BYTES: Final = 4_096
MAX_PLAIN: Final = 100
"""Items, given and wanted, up to which a request is answered at once."""

_SPACES: Final = {
    common_pb2.VECTOR_SPACE_UNSPECIFIED: SpaceName.CONTENT,
    common_pb2.VECTOR_SPACE_CONTENT: SpaceName.CONTENT,
    common_pb2.VECTOR_SPACE_BEHAVIOR: SpaceName.BEHAVIOR,
}


@dataclass(frozen=True)
class SearchQuery:
    """A history in search of a shortlist."""

    history: tuple[str, ...]
    count: int
    constraints: Constraints = UNCONSTRAINED
    fields: Fields = ()
    """What to say of each item."""


@dataclass(frozen=True)
class DiagnoseQuery:
    """A history, and items to diagnose."""

    history: tuple[str, ...]
    items: tuple[str, ...]
    """Each once."""


@dataclass(frozen=True)
class SimilarQuery:
    """Something to be similar to: items by identifier, a text, or a vector."""

    target: tuple[str, ...] | str | Vector
    count: int
    space: SpaceName = SpaceName.CONTENT
    constraints: Constraints = UNCONSTRAINED
    options: SimilarityOptions = NEAREST
    fields: Fields = ()
    """What to say of each item."""

    @property
    def is_plain(self) -> bool:
        """Whether it takes one search for a few items, and nothing else."""
        return (
            not isinstance(self.target, str)
            and (isinstance(self.target, np.ndarray) or len(self.target) <= MAX_PLAIN)
            and self.count <= MAX_PLAIN
            and self.constraints == UNCONSTRAINED
            and not self.options.diversity
        )


def read_search(request: pb.SearchRequest) -> SearchQuery:
    """Checks a request.

    Raises:
        InvalidArgument: it breaks a rule of the contract.
    """
    history = edge.item_ids(
        request.history_item_ids, field="history_item_ids", limit=edge.MAX_HISTORY
    )
    return SearchQuery(
        history=tuple(history),
        count=edge.result_count(request.max_results, default=DEFAULT_SHORTLIST, limit=MAX_RESULTS),
        constraints=edge.constraints(request.constraints),
        fields=read_item_fields(request.item_fields),
    )


def read_diagnose(request: pb.DiagnoseSearchRequest) -> DiagnoseQuery:
    """Checks a request.

    Raises:
        InvalidArgument: it breaks a rule of the contract.
    """
    history = edge.item_ids(
        request.history_item_ids, field="history_item_ids", limit=edge.MAX_HISTORY
    )
    items = edge.item_ids(request.item_ids, field="item_ids", limit=MAX_RESULTS)
    if not items:
        raise InvalidArgument("item_ids is empty; name some items", reason="NO_ITEMS")
    return DiagnoseQuery(tuple(history), tuple(dict.fromkeys(items)))


def read_similar(request: pb.SimilarRequest) -> SimilarQuery:
    """Checks a request.

    Raises:
        InvalidArgument: it breaks a rule of the contract.
    """
    query = request.query
    space = _read_space(query.space)
    return SimilarQuery(
        target=_read_target(query, space),
        count=edge.result_count(query.max_results, default=DEFAULT_SIMILAR, limit=MAX_RESULTS),
        space=space,
        constraints=edge.constraints(query.constraints),
        options=_read_options(query),
        fields=read_item_fields(query.item_fields),
    )


def _read_options(query: common_pb2.SimilarityQuery) -> SimilarityOptions:
    if math.isnan(query.min_score):
        raise InvalidArgument("min_score is NaN", reason="NOT_A_NUMBER")
    if not 0.0 <= query.diversity <= 1.0:
        raise InvalidArgument(
            f"diversity is {query.diversity}; give a number from 0 to 1",
            reason="DIVERSITY_OUT_OF_RANGE",
        )
    return SimilarityOptions(
        min_score=query.min_score if query.HasField("min_score") else -math.inf,
        diversity=query.diversity,
    )


def _read_space(value: common_pb2.VectorSpace.ValueType) -> SpaceName:
    if value not in _SPACES:
        raise InvalidArgument(
            f"space {value} is not one that this server knows",
            reason="UNKNOWN_SPACE",
            space=str(value),
        )
    return _SPACES[value]


def _read_target(
    query: common_pb2.SimilarityQuery, space: SpaceName
) -> tuple[str, ...] | str | Vector:
    match query.WhichOneof("target"):
        case "items":
            if not query.items.item_ids:
                raise InvalidArgument("items names no item to be similar to", reason="NO_ITEMS")
            return tuple(edge.item_ids(query.items.item_ids, field="items", limit=MAX_QUERY_ITEMS))
        case "text":
            return _read_text(query.text, space)
        case "vector":
            return np.array(query.vector.values, dtype=np.float32)
        case _:
            raise InvalidArgument(
                "set items, text or vector: there is nothing to be similar to",
                reason="MISSING_QUERY",
            )


def _read_text(text: str, space: SpaceName) -> str:
    if space is not SpaceName.CONTENT:
        raise InvalidArgument(
            f"a text has no vector in the {space.value} space; ask for the content space",
            reason="TEXT_NEEDS_CONTENT_SPACE",
        )
    if not text.strip():
        raise InvalidArgument("text is empty", reason="EMPTY_TEXT")
    return edge.short_text(text, field="text", limit=MAX_TEXT_BYTES)
