"""Reading requests: messages to checked domain values, every limit of the contract enforced."""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from core.catalog import Catalog, ItemArray, Mask
from core.errors import InvalidArgument
from core.filters import Filter, evaluate
from services.candidate.index.flat import Vector
from services.candidate.index.space import SpaceName
from services.candidate.index.vectors import NO_ITEMS
from services.candidate.retrieval.similarity import NEAREST, Taste
from serving import validation as edge
from tandem.v1 import candidate_service_pb2 as pb

DEFAULT_SHORTLIST: Final = 100
DEFAULT_SIMILAR: Final = 10
MAX_RESULTS: Final = 1_000
MAX_QUERY_ITEMS: Final = 1_000
MAX_TEXT_BYTES: Final = 4_096
MAX_PLAIN: Final = 100
"""Items, given and wanted, up to which a request is answered at once."""

_SPACES: Final = {
    pb.VECTOR_SPACE_UNSPECIFIED: SpaceName.CONTENT,
    pb.VECTOR_SPACE_CONTENT: SpaceName.CONTENT,
    pb.VECTOR_SPACE_BEHAVIOR: SpaceName.BEHAVIOR,
}


@dataclass(frozen=True)
class Restriction:
    """Which items may be returned."""

    excluded: tuple[str, ...]
    filter: Filter | None

    def resolve(self, catalog: Catalog) -> tuple[Mask | None, ItemArray]:
        """The items that the filter allows (None: all), and the positions of the excluded ones."""
        allowed = None if self.filter is None else evaluate(self.filter, catalog)
        return allowed, catalog.lookup(self.excluded)[0] if self.excluded else NO_ITEMS


EVERYTHING: Final = Restriction((), None)


@dataclass(frozen=True)
class SearchQuery:
    """A history in search of a shortlist."""

    history: tuple[str, ...]
    count: int
    restriction: Restriction
    include_seen: bool


@dataclass(frozen=True)
class ExplainQuery:
    """A history, and items to explain."""

    history: tuple[str, ...]
    items: tuple[str, ...]
    """Each once."""


@dataclass(frozen=True)
class SimilarQuery:
    """Something to be similar to: items by identifier, a text, or a vector."""

    target: tuple[str, ...] | str | Vector
    count: int
    space: SpaceName
    restriction: Restriction
    taste: Taste = NEAREST

    @property
    def is_plain(self) -> bool:
        """Whether it takes one search for a few items, and nothing else."""
        return (
            not isinstance(self.target, str)
            and (isinstance(self.target, np.ndarray) or len(self.target) <= MAX_PLAIN)
            and self.count <= MAX_PLAIN
            and self.restriction == EVERYTHING
            and not self.taste.diversity
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
        restriction=_read_restriction(request),
        include_seen=request.include_seen,
    )


def read_explain(request: pb.ExplainSearchRequest) -> ExplainQuery:
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
    return ExplainQuery(tuple(history), tuple(dict.fromkeys(items)))


def read_similar(request: pb.SimilarRequest) -> SimilarQuery:
    """Checks a request.

    Raises:
        InvalidArgument: it breaks a rule of the contract.
    """
    space = _read_space(request.space)
    return SimilarQuery(
        target=_read_target(request, space),
        count=edge.result_count(request.max_results, default=DEFAULT_SIMILAR, limit=MAX_RESULTS),
        space=space,
        restriction=_read_restriction(request),
        taste=_read_taste(request),
    )


def _read_restriction(request: pb.SearchRequest | pb.SimilarRequest) -> Restriction:
    excluded = edge.item_ids(
        request.excluded_item_ids, field="excluded_item_ids", limit=edge.MAX_EXCLUDED
    )
    condition = edge.item_filter(request.filter) if request.HasField("filter") else None
    return Restriction(tuple(excluded), condition)


def _read_taste(request: pb.SimilarRequest) -> Taste:
    if math.isnan(request.min_score):
        raise InvalidArgument("min_score is NaN", reason="NOT_A_NUMBER")
    if not 0.0 <= request.diversity <= 1.0:
        raise InvalidArgument(
            f"diversity is {request.diversity}; give a number from 0 to 1",
            reason="DIVERSITY_OUT_OF_RANGE",
        )
    return Taste(
        min_score=request.min_score if request.HasField("min_score") else -math.inf,
        diversity=request.diversity,
    )


def _read_space(value: pb.VectorSpace.ValueType) -> SpaceName:
    if value not in _SPACES:
        raise InvalidArgument(
            f"space {value} is not one that this server knows",
            reason="UNKNOWN_SPACE",
            space=str(value),
        )
    return _SPACES[value]


def _read_target(request: pb.SimilarRequest, space: SpaceName) -> tuple[str, ...] | str | Vector:
    match request.WhichOneof("query"):
        case "items":
            if not request.items.item_ids:
                raise InvalidArgument("items names no item to be similar to", reason="NO_ITEMS")
            return tuple(
                edge.item_ids(request.items.item_ids, field="items", limit=MAX_QUERY_ITEMS)
            )
        case "text":
            return _read_text(request.text, space)
        case "vector":
            return np.array(request.vector.values, dtype=np.float32)
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
    if len(text.encode()) > MAX_TEXT_BYTES:
        raise InvalidArgument(
            f"text has {len(text.encode())} bytes; send at most {MAX_TEXT_BYTES}",
            reason="TEXT_TOO_LONG",
            limit=str(MAX_TEXT_BYTES),
        )
    return text
