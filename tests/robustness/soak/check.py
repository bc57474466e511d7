"""What is right: every answer compared with what comes of looking at every item.

It reads the messages by itself, and shares no code with the service.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from tandem.v1 import common_pb2
from tandem.v1 import generator_service_pb2 as pb
from tests.robustness.soak.catalog import Attributes, Version

Request = pb.GenerateRequest | pb.RerankRequest | pb.RankRequest
Response = pb.GenerateResponse | pb.RerankResponse | pb.RankResponse
Condition = Callable[[Attributes], bool]
Listed = Sequence[common_pb2.ScoredItem]


def condition(message: common_pb2.ItemFilter) -> Condition:
    """A filter as a function of one item's attributes."""
    match message.WhichOneof("kind"):
        case "all_of":
            every = [condition(part) for part in message.all_of.filters]
            return lambda item: all(holds(item) for holds in every)
        case "any_of":
            some = [condition(part) for part in message.any_of.filters]
            return lambda item: any(holds(item) for holds in some)
        case "negation":
            inner = condition(message.negation)
            return lambda item: not inner(item)
        case "equals":
            return _one_of(message.equals.attribute, [message.equals.value])
        case "one_of":
            return _one_of(message.one_of.attribute, message.one_of.values)
        case _:
            return _within(message.range)


def _one_of(attribute: str, values: Iterable[common_pb2.AttributeValue]) -> Condition:
    wanted = {
        value.text if value.WhichOneof("kind") == "text" else value.number for value in values
    }
    return lambda item: not wanted.isdisjoint(item.get(attribute, ()))


def _within(bounds: common_pb2.ItemFilter.Range) -> Condition:
    attribute = bounds.attribute
    low = bounds.min if bounds.HasField("min") else -math.inf
    high = bounds.max if bounds.HasField("max") else math.inf
    return lambda item: any(
        isinstance(value, float) and low <= value <= high for value in item.get(attribute, ())
    )


def legal(request: pb.GenerateRequest | pb.RankRequest, version: Version) -> set[str]:
    """Every item that may be generated."""
    constraints = request.constraints
    denied = set(constraints.excluded_item_ids)
    if not constraints.include_seen:
        denied.update(request.context.history_item_ids)
    if not constraints.HasField("filter"):
        return set(version.items) - denied
    holds = condition(constraints.filter)
    return {key for key, item in version.items.items() if holds(item.attributes)} - denied


def wanted(request: pb.GenerateRequest | pb.RankRequest) -> int:
    """How many items are asked for."""
    return min(request.max_results or 10, 100)


def fault(request: Request, response: Response, version: Version, tolerance: float) -> str | None:
    """What is wrong with an answer, taken as one about this version of the catalog.

    Args:
        request: the question.
        response: its answer.
        version: of the catalog.
        tolerance: between the scores that an item has in both lists of an answer.

    Returns:
        A sentence, or None where the answer is exactly right.
    """
    asked = list(request.context.history_item_ids)
    faults = []
    if not isinstance(request, pb.GenerateRequest):
        asked += request.item_ids
        shortlist = {key for key in request.item_ids if key in version.items}
        faults.append(_list_fault(reranked(response), shortlist, len(shortlist)))
    if not isinstance(request, pb.RerankRequest):
        faults.append(_list_fault(generated(response), legal(request, version), wanted(request)))
    missing = list(dict.fromkeys(key for key in asked if key not in version.items))
    if list(response.missing_item_ids) != missing:
        faults.append(f"missing_item_ids is {response.missing_item_ids}, not {missing}")
    faults.append(_disagreement(generated(response), reranked(response), tolerance))
    return next(filter(None, faults), None)


@dataclass(frozen=True)
class Exactness:
    """How a generated list compares with the exact scores of all that is allowed."""

    fault: str | None
    difference: float
    """The largest between a listed score and the exact one."""
    found: bool
    """Whether the best item is listed. A beam search may lose it, since it prunes."""


def compare(
    listed: Listed, exact: Mapping[str, float], *, beams: int, tolerance: float
) -> Exactness:
    """Compares a legal list with the exact score of every allowed item.

    Scores must be the exact ones. Where no more is allowed than there are beams, nothing is pruned,
    and the list must be the best of all.
    """
    difference = max((abs(item.score - exact[item.item_id]) for item in listed), default=0.0)
    ranked = sorted(exact, key=exact.__getitem__, reverse=True)
    found = not ranked or any(item.item_id == ranked[0] for item in listed)
    wrong = None
    if difference > tolerance:
        wrong = f"listed scores differ from exact ones by {difference}"
    elif len(exact) <= beams:
        for item, best in zip(listed, ranked, strict=False):
            if exact[item.item_id] < exact[best] - tolerance:
                wrong = f"{item.item_id} stands where {best} should, though nothing is pruned"
                break
    return Exactness(wrong, difference, found)


def generated(response: Response) -> Listed:
    """The generated items; none where none were asked for."""
    match response:
        case pb.GenerateResponse():
            return response.items
        case pb.RankResponse():
            return response.generated
        case _:
            return ()


def reranked(response: Response) -> Listed:
    """The ordered items; none where none were asked for."""
    match response:
        case pb.RerankResponse():
            return response.items
        case pb.RankResponse():
            return response.reranked
        case _:
            return ()


def _list_fault(listed: Listed, allowed: AbstractSet[str], count: int) -> str | None:
    item_ids = [item.item_id for item in listed]
    scores = [item.score for item in listed]
    distinct = set(item_ids)
    if illegal := distinct - allowed:
        return f"illegal items: {sorted(illegal)}"
    if len(distinct) < len(item_ids):
        return f"items that are listed twice: {[k for k in distinct if item_ids.count(k) > 1]}"
    due = min(count, len(allowed))
    if len(item_ids) < due:
        some = sorted(allowed - distinct)[:10]
        return f"{len(item_ids)} items where {due} are due; among those left out: {some}"
    if len(item_ids) > due:
        return f"{len(item_ids)} items where {due} are due"
    if not all(map(math.isfinite, scores)) or scores != sorted(scores, reverse=True):
        return f"scores that do not descend: {scores}"
    return None


def _disagreement(one: Listed, other: Listed, tolerance: float) -> str | None:
    scores = {item.item_id: item.score for item in one}
    for item in other:
        score = scores.get(item.item_id, item.score)
        if abs(score - item.score) > tolerance:
            return f"{item.item_id} has two scores: generated {score}, reranked {item.score}"
    return None
