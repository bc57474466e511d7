"""The items of a catalog in the order of their identifiers, which is the same in every process."""

import heapq
from array import array
from bisect import bisect_right
from collections.abc import Iterator, Sequence

from core.catalog import Catalog


class ItemOrder:
    """Lists versions of one catalog.

    The bundle's items are sorted once, when they are listed first: a second for a million of them.
    Those that were added are sorted for each version that is listed.
    """

    def __init__(self) -> None:
        self._base: Sequence[int] | None = None
        self._added: tuple[Catalog | None, Sequence[int]] = (None, ())

    def after(self, catalog: Catalog, item_id: str) -> Iterator[int]:
        """Yields the positions of the live items behind an identifier, which need not be there.

        Several threads may ask at once; at worst they sort the same.
        """
        base = self._base
        if base is None:
            base = self._base = self._sorted_base(catalog)
        known, added = self._added
        if known is not catalog:
            added = self._sorted_added(catalog)
            self._added = (catalog, added)

        def own(position: int) -> str:
            return catalog.items[position].item_id

        def behind(order: Sequence[int]) -> Iterator[int]:
            places = range(bisect_right(order, item_id, key=own), len(order))
            return (order[place] for place in places if catalog.live[order[place]])

        return heapq.merge(behind(base), behind(added), key=own)

    @staticmethod
    def _sorted_base(catalog: Catalog) -> Sequence[int]:
        ids = [item.item_id for item in catalog.items[: catalog.base]]
        return array("i", sorted(range(len(ids)), key=ids.__getitem__))

    @staticmethod
    def _sorted_added(catalog: Catalog) -> Sequence[int]:
        added = catalog.base + catalog.live[catalog.base :].nonzero()[0]
        return sorted(added.tolist(), key=lambda position: catalog.items[position].item_id)
