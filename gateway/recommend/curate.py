"""What the rules of a list need to know of items: which exist, and what attributes they have.

The bundle's catalog knows most of them. Pinned items were not found by a search, so the candidate
service is asked whether they exist still, and items that were added since the bundle was built have
their attributes there only. No call is made for a request without pins, caps and diversity.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Final

from core.attributes import Attributes
from core.catalog import Catalog
from core.errors import TandemError
from core.filters import satisfies
from gateway.domain import Fallback, Recommended, Request
from gateway.recommend.strategies import LAST_SHARE, Candidate, Journal
from gateway.rules import Arrangement

MAX_LOOKED_UP: Final = 1_000


@dataclass(frozen=True)
class Curator:
    """Prepares the rules of lists."""

    catalog: Catalog
    """The bundle's."""
    candidate: Candidate

    async def arrangement(
        self, request: Request, pool: Sequence[Recommended], journal: Journal
    ) -> tuple[Arrangement, Sequence[str]]:
        """What a list must be like, and the pinned items that do not exist.

        Pins that the request's filter forbids are denied. Where the candidate service cannot be
        asked, the bundle's catalog is believed.

        Raises:
            TandemError: it cannot be asked, and the request forbids to do without.
        """
        query = request.query
        pinned = [pin.item_id for pin in query.rules.pins]
        listed = [item.item_id for item in pool]
        denied = query.constraints.forbidden((*listed, *pinned), request.history)
        if not (pinned or query.rules.choosy):
            return Arrangement(query.max_results, query.rules, denied), ()
        known = self._known(chain(listed, pinned))
        found, absent = await self._look_up(
            [*pinned, *(item_id for item_id in listed if item_id not in known)], journal
        )
        known |= found
        missing = [item_id for item_id in pinned if item_id in absent or item_id not in known]
        if (condition := query.constraints.filter) is not None:
            denied |= {i for i in pinned if not satisfies(condition, known.get(i, {}))}
        pins = tuple(pin for pin in query.rules.pins if pin.item_id not in set(missing))
        rules = replace(query.rules, pins=pins)
        return Arrangement(query.max_results, rules, denied, known), missing

    def _known(self, item_ids: Iterable[str]) -> dict[str, Attributes]:
        positions = self.catalog.lookup(item_ids)[0].tolist()
        items = [self.catalog.items[position] for position in positions]
        return {item.item_id: item.attributes for item in items}

    async def _look_up(
        self, item_ids: Sequence[str], journal: Journal
    ) -> tuple[Mapping[str, Attributes], frozenset[str]]:
        if not item_ids:
            return {}, frozenset()
        deadline = journal.share(LAST_SHARE)
        try:
            with journal.watch.stage("items", deadline) as stage:
                found, missing = journal.take(
                    stage, await self.candidate.attributes(item_ids[:MAX_LOOKED_UP], deadline)
                )
        except TandemError as error:
            journal.do_without("items", error, Fallback.NONE)
            return {}, frozenset()
        return found, frozenset(missing)
