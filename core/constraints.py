"""Which items a list may hold: by identifier, and as positions of a catalog."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np

from core.catalog import Catalog, Mask
from core.filters import Filter, evaluate


@dataclass(frozen=True)
class Constraints:
    """What a caller allows in a list."""

    excluded: tuple[str, ...] = ()
    filter: Filter | None = None
    allowed: tuple[str, ...] = ()
    """Where there are any, no other items."""
    include_seen: bool = False
    """Whether items that the request is about may be in the list."""

    def mask(self, catalog: Catalog, proceed: Callable[[], None] = lambda: None) -> Mask | None:
        """What filter and allowed items let through, bool [positions]; None for everything.

        Args:
            catalog: the items.
            proceed: see `evaluate`.

        Raises:
            InvalidArgument: reason UNKNOWN_ATTRIBUTE, for an attribute that no item has, or
                FILTER_TOO_COSTLY.
        """
        passing = None if self.filter is None else evaluate(self.filter, catalog, proceed)
        if not self.allowed:
            return passing
        listed = np.zeros(len(catalog), np.bool_)
        listed[catalog.lookup(self.allowed)[0]] = True
        return listed if passing is None else listed & passing

    def forbidden(self, item_ids: Iterable[str], seen: Iterable[str]) -> set[str]:
        """Those of some items that may not be in the list, whatever the filter says of them."""
        named = set(item_ids)
        forbidden = named.intersection(self.excluded)
        if not self.include_seen:
            forbidden |= named.intersection(seen)
        return forbidden | named.difference(self.allowed) if self.allowed else forbidden


UNCONSTRAINED: Final = Constraints()
