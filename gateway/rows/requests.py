"""Reading a request for rows."""

from dataclasses import replace

from gateway.domain import Query, Rules
from gateway.requests import DEFAULT_RESULTS, MAX_RESULTS
from gateway.rows.made import Rows
from gateway.variants.requests import layered
from serving import validation as edge
from serving.rows import check_rows
from tandem.v1 import common_pb2
from tandem.v1 import recommendation_service_pb2 as pb


def as_list(request: pb.RecommendRowsRequest) -> pb.RecommendRequest:
    """What a request for rows says of all of them, as a request for one list."""
    return pb.RecommendRequest(
        user_id=request.user_id,
        history_item_ids=request.history_item_ids,
        strategy=request.strategy,
        forbid_degraded=request.forbid_degraded,
        item_fields=request.item_fields,
        bundle=request.bundle,
        serving_config=request.serving_config,
        variant=request.variant,
        exact=request.exact,
    )


def read_rows(request: pb.RecommendRowsRequest, whole: pb.RecommendRequest, query: Query) -> Rows:
    """Checks a request for rows.

    Args:
        request: as it came.
        whole: what is said of all rows, by the call and by what holds where it says nothing.
        query: the same, checked.

    Raises:
        InvalidArgument: it breaks a rule of the contract.
    """
    check_rows(request.rows)
    common = replace(query, rules=Rules(), diagnostics=False)
    return Rows(
        tuple(_read_row(row, whole, common) for row in request.rows),
        apart=not request.allow_repeats,
    )


def _read_row(row: common_pb2.RowRequest, whole: pb.RecommendRequest, common: Query) -> Query:
    own = pb.RecommendRequest(constraints=row.constraints)
    both = layered(pb.RecommendRequest(constraints=whole.constraints), own)
    return replace(
        common,
        max_results=edge.result_count(row.max_results, default=DEFAULT_RESULTS, limit=MAX_RESULTS),
        constraints=edge.constraints(both.constraints),
    )
