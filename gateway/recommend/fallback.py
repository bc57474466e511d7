"""What a list is made of when neither service answers: the bundle's most popular items."""

from core.catalog import Catalog
from core.popularity import ItemPopularity
from gateway.domain import Recommended, Request


class Popularity:
    """The items of a catalog by how often people interacted with them.

    It keeps what a request forbids out of the list, as the services do. What it does not know is
    what changed since the bundle was made: the gateway's catalog is the bundle's own.

    Args:
        catalog: the bundle's.
    """

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._popularity = ItemPopularity.of(catalog.popularity)

    def best(self, request: Request, count: int) -> list[Recommended]:
        """The most popular items that a request allows, best first; equal ones in catalog order.

        The score is `ItemPopularity.log_probability`.

        Raises:
            InvalidArgument: reason UNKNOWN_ATTRIBUTE, as of the services.
        """
        constraints, catalog = request.query.constraints, self._catalog
        passing = constraints.mask(catalog)
        allowed = catalog.live.copy() if passing is None else catalog.live & passing
        seen = () if constraints.include_seen else request.history
        allowed[catalog.lookup((*constraints.excluded, *seen))[0]] = False
        items, scores = self._popularity.best(count, allowed)
        return [
            Recommended(item_id, score)
            for item_id, score in zip(catalog.ids(items.tolist()), scores.tolist(), strict=True)
        ]

    def missing(self, request: Request) -> list[str]:
        """Items of the history that the catalog does not have, each once."""
        return self._catalog.lookup(request.history)[1]
