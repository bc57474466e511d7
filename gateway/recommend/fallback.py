"""What a list is made of when neither service answers: the bundle's most popular items."""

from typing import Final

from core.catalog import Catalog
from core.filters import attributes_of, require, satisfies
from core.popularity import ItemPopularity
from gateway.domain import Recommended, ResolvedQuery
from serving.item_fields import encode_item

MOST: Final = 1_000
"""Items that are kept for the time without services."""


class PopularItems:
    """The items of a catalog that people interacted with most often.

    It keeps what a request forbids out of the list, as the services do. What it does not know is
    what changed since the bundle was made, and items beyond its size: a filter that few popular
    items satisfy makes a short list.

    Args:
        catalog: the bundle's, of which nothing else is kept.
        size: items to keep.
    """

    def __init__(self, catalog: Catalog, size: int = MOST) -> None:
        popularity = ItemPopularity.of(catalog.popularity)
        positions, scores = popularity.best(size, catalog.live)
        self._items = tuple(catalog.items[position] for position in positions.tolist())
        self._scores = tuple(scores.tolist())
        self._attribute_names = catalog.attribute_names
        self.fields = {item.item_id: encode_item(item) for item in self._items}
        """What each item is, as `serving.item_fields` encodes it."""

    def best(self, request: ResolvedQuery, count: int) -> list[Recommended]:
        """The most popular items that a request allows, best first; equal ones in catalog order.

        The score is `ItemPopularity.log_probability`.

        Raises:
            InvalidArgument: reason UNKNOWN_ATTRIBUTE, as of the services.
        """
        constraints = request.query.constraints
        if constraints.filter is not None:
            require(attributes_of(constraints.filter), self._attribute_names)
        denied = constraints.forbidden(self.fields, request.history)
        found: list[Recommended] = []
        for item, score in zip(self._items, self._scores, strict=True):
            if len(found) == count:
                break
            if item.item_id not in denied and (
                constraints.filter is None or satisfies(constraints.filter, item.attributes)
            ):
                found.append(Recommended(item.item_id, score))
        return found
