"""What a list is made of when neither service answers: the bundle's most popular items."""

from itertools import islice
from typing import Final

import numpy as np

from core.catalog import Catalog
from core.filters import attributes_of, marks, require
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
        self._catalog = Catalog(catalog.items[position] for position in positions.tolist())
        self._scores = tuple(scores.tolist())
        self._attribute_names = catalog.attribute_names
        self.fields = {item.item_id: encode_item(item) for item in self._catalog.items}
        """What each item is, as `serving.item_fields` encodes it."""

    def best(self, request: ResolvedQuery, count: int) -> list[Recommended]:
        """The most popular items that a request allows, best first; equal ones in catalog order.

        The score is `ItemPopularity.log_probability`. Quick enough for the event loop: the largest
        filter takes some milliseconds, and what it came to is remembered.

        Raises:
            InvalidArgument: reason UNKNOWN_ATTRIBUTE, as of the services.
        """
        constraints = request.query.constraints
        passing = self._catalog.live
        if constraints.filter is not None:
            require(attributes_of(constraints.filter), self._attribute_names)
            passing = marks(constraints.filter, self._catalog)
        denied = constraints.forbidden(self.fields, request.history)
        allowed = (
            Recommended(self._catalog.items[place].item_id, self._scores[place])
            for place in np.flatnonzero(passing).tolist()
            if self._catalog.items[place].item_id not in denied
        )
        return list(islice(allowed, count))
