"""Reading requests: messages to checked domain values, every limit of the contract enforced."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from core.catalog import Catalog, ItemArray
from core.constraints import UNCONSTRAINED, Constraints
from core.errors import InvalidArgument
from services.generator.decoding.engine import Generation
from serving import validation as edge
from serving.deadline import check_deadline
from serving.item_fields import Fields, read_item_fields
from serving.rows import check_rows
from tandem.v1 import common_pb2
from tandem.v1 import generator_service_pb2 as pb

DEFAULT_RESULTS: Final = 10
MAX_RESULTS: Final = 100
MAX_RERANKED: Final = 1_000
MAX_RATED: Final = 100


@dataclass(frozen=True)
class Wanted:
    """What to generate, in identifiers."""

    count: int
    constraints: Constraints = UNCONSTRAINED
    fields: Fields = ()
    """What to say of each item."""

    def resolve(self, catalog: Catalog, history: ItemArray) -> Generation:
        """The same in positions; takes milliseconds where there is a filter and a large catalog.

        Raises:
            InvalidArgument: reason UNKNOWN_ATTRIBUTE, for an attribute that no item has, or
                FILTER_TOO_COSTLY.
            DeadlineExceeded: the call's deadline passed while the filter was evaluated.
        """
        denied, _ = catalog.lookup(self.constraints.excluded)
        if not self.constraints.include_seen:
            denied = np.concatenate([denied, history])
        return Generation(self.count, self.constraints.mask(catalog, check_deadline), denied)


@dataclass(frozen=True)
class RankingRequest:
    """What a call asks for, in identifiers."""

    user_id: str
    history: Sequence[str]
    """Oldest first."""
    shortlist: Sequence[str] = ()
    """Items to score, each once."""
    wanted: Wanted | None = None
    rows: tuple[Wanted, ...] = ()
    """Several lists, instead of one."""
    apart: bool = True
    """Whether an item may be in one row only."""
    exact: bool = False
    """Whether to search until the lists are proved."""

    @property
    def lists(self) -> tuple[Wanted, ...]:
        """What to generate."""
        return self.rows or (() if self.wanted is None else (self.wanted,))


def read_rerank(request: pb.RerankRequest) -> RankingRequest:
    """Checks a request.

    Raises:
        InvalidArgument: it breaks a rule of the contract.
    """
    shortlist = _read_shortlist(request)
    return RankingRequest(*_read_context(request.context), shortlist)


def read_generate(request: pb.GenerateRequest) -> RankingRequest:
    """Checks a request.

    Raises:
        InvalidArgument: it breaks a rule of the contract.
    """
    context = _read_context(request.context)
    if not request.rows:
        return RankingRequest(*context, wanted=_read_wanted(request), exact=request.exact)
    if request.max_results or request.HasField("constraints"):
        raise InvalidArgument(
            "there are rows, and max_results or constraints of one list; say them of each row",
            reason="ROWS_AND_LIST",
        )
    check_rows(request.rows)
    fields = read_item_fields(request.item_fields)
    rows = tuple(_read_list(row, fields) for row in request.rows)
    apart = not request.allow_repeats
    return RankingRequest(*context, rows=rows, apart=apart, exact=request.exact)


def read_rank(request: pb.RankRequest) -> RankingRequest:
    """Checks a request.

    Raises:
        InvalidArgument: it breaks a rule of the contract.
    """
    shortlist, wanted = _read_shortlist(request), _read_wanted(request)
    return RankingRequest(*_read_context(request.context), shortlist, wanted)


def read_diagnose(request: pb.DiagnoseItemsRequest) -> RankingRequest:
    """Checks a request.

    Raises:
        InvalidArgument: it breaks a rule of the contract.
    """
    shortlist = _read_shortlist(request)
    return RankingRequest(*_read_context(request.context), shortlist)


@dataclass(frozen=True)
class RatingRequest:
    """Whose ratings of what a call asks for, in identifiers."""

    user_id: str
    items: Sequence[str]
    """Each once."""
    rated: Mapping[str, float]
    """What the caller says that the user has rated, oldest first."""


def read_ratings(request: pb.PredictRatingsRequest) -> RatingRequest:
    """Checks a request; whether its ratings can be is known by the model alone.

    Raises:
        InvalidArgument: it breaks a rule of the contract.
    """
    if request.user_id:
        edge.identifier(request.user_id, field="user_id")
    named = [item.item_id for item in request.rated_items]
    edge.item_ids(named, field="rated_items", limit=edge.MAX_HISTORY)
    rated = {item.item_id: item.rating for item in request.rated_items}
    return RatingRequest(request.user_id, _read_items(request.item_ids, MAX_RATED), rated)


def _read_context(context: pb.UserContext) -> tuple[str, Sequence[str]]:
    if context.user_id:
        edge.identifier(context.user_id, field="user_id")
    history = edge.item_ids(
        context.history_item_ids, field="history_item_ids", limit=edge.MAX_HISTORY
    )
    return context.user_id, history


def _read_shortlist(
    request: pb.RerankRequest | pb.RankRequest | pb.DiagnoseItemsRequest,
) -> Sequence[str]:
    return _read_items(request.item_ids, MAX_RERANKED)


def _read_items(given: Sequence[str], limit: int) -> Sequence[str]:
    item_ids = edge.item_ids(given, field="item_ids", limit=limit)
    if not item_ids:
        raise InvalidArgument("item_ids is empty; name some items", reason="NO_ITEMS")
    return tuple(dict.fromkeys(item_ids))


def _read_wanted(request: pb.GenerateRequest | pb.RankRequest) -> Wanted:
    return _read_list(request, read_item_fields(request.item_fields))


def _read_list(
    request: pb.GenerateRequest | pb.RankRequest | common_pb2.RowRequest, fields: Fields
) -> Wanted:
    return Wanted(
        count=edge.result_count(request.max_results, default=DEFAULT_RESULTS, limit=MAX_RESULTS),
        constraints=edge.constraints(request.constraints),
        fields=fields,
    )
