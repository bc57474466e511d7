"""What the rules of a list need to know of items: which exist, and what attributes they have.

The services say what attributes the items have that they find. Pinned items were not found by a
search, so the candidate service is asked for them: whether they exist still, and what they are.
Where a list has items from a catalog that is behind the candidate's (of a generator that does not
follow it, or has yet to catch up), and goes by their attributes, it is asked for these as well. No
other call is made.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from core.errors import TandemError
from core.filters import satisfying
from gateway.domain import Fallback, Recommended, ResolvedQuery
from gateway.recommend.services import Candidate
from gateway.recommend.strategies import LAST_SHARE, Outcome
from gateway.recommend.trace import RequestTrace
from gateway.rules import ListRules
from serving.item_fields import ITEM_FIELDS, decode_attributes, narrow


@dataclass(frozen=True)
class RuleInputs:
    """What a list is made by."""

    list_rules: ListRules
    missing: Sequence[str]
    """Pinned items that do not exist."""
    fields: Mapping[str, bytes]
    """Of the items that were asked for."""


@dataclass(frozen=True)
class RuleInputLoader:
    """Prepares the rules of lists."""

    candidate: Candidate
    popular: Mapping[str, bytes]
    """Items that are believed to exist while the candidate service cannot be asked, encoded."""

    async def load(
        self, request: ResolvedQuery, outcome: Outcome, trace: RequestTrace
    ) -> RuleInputs:
        """What a list must be like.

        Pins that the request's filter forbids are denied. Where the candidate service cannot be
        asked, items that were found or are popular are believed to exist.

        Raises:
            TandemError: it cannot be asked, and the request forbids to do without.
        """
        query = request.query
        pinned = [pin.item_id for pin in query.rules.pins]
        listed = [item.item_id for item in outcome.items]
        denied = query.constraints.forbidden((*listed, *pinned), request.history)
        latest = self.candidate.sequence
        behind = [i for i in listed if query.rules.choosy and outcome.is_behind(i, latest)]
        found = await self._look_up([*dict.fromkeys((*pinned, *behind))], outcome, trace)
        denied |= {item_id for item_id in behind if item_id not in found}
        known = {item_id: decode_attributes(encoded) for item_id, encoded in found.items()}
        if (condition := query.constraints.filter) is not None:
            (passing,) = satisfying([condition], list(known.values()))
            denied |= {
                item_id for item_id, passes in zip(known, passing, strict=True) if not passes
            }
        if query.rules.choosy:
            known = {i: decode_attributes(outcome.fields_of(i)) for i in listed} | known
        rules = replace(query.rules, pins=tuple(p for p in query.rules.pins if p.item_id in found))
        missing = [item_id for item_id in pinned if item_id not in found]
        return RuleInputs(ListRules(query.max_results, rules, denied, known), missing, found)

    async def _look_up(
        self, item_ids: Sequence[str], outcome: Outcome, trace: RequestTrace
    ) -> Mapping[str, bytes]:
        """What items are; of those that exist."""
        if not item_ids:
            return {}
        try:
            return await trace.ask(
                "items", LAST_SHARE, lambda deadline: self.candidate.items(item_ids, deadline)
            )
        except TandemError as error:
            trace.do_without("items", error, Fallback.NONE)
        listed = {item.item_id for item in outcome.items}
        # A service knows what has changed since the bundle, which the popular items are from.
        return {
            item_id: outcome.fields_of(item_id) or self.popular.get(item_id, b"")
            for item_id in item_ids
            if item_id in listed or item_id in self.popular
        }


def described(
    items: Sequence[Recommended], request: ResolvedQuery, outcome: Outcome, inputs: RuleInputs
) -> tuple[Recommended, ...]:
    """Items with the fields that the request asks for."""
    fields = request.query.item_fields
    if not fields:
        return tuple(items)
    own = [inputs.fields.get(i.item_id) or outcome.fields_of(i.item_id) for i in items]
    if fields != ITEM_FIELDS:
        own = [narrow(encoded, fields) for encoded in own]
    return tuple(item._replace(fields=each) for item, each in zip(items, own, strict=True))
