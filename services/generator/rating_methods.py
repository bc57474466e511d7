"""The method of GeneratorService that rates."""

from collections.abc import Callable
from typing import Any

import numpy as np

from core.bundle import Histories
from core.catalog import Catalog
from core.errors import InvalidArgument
from services.generator.batching import BatchJob
from services.generator.catalog.follower import Follower
from services.generator.decoding.rater import Rater, RatingQuery
from services.generator.decoding.ratings import NOTHING_RATED, RatedItems, RatingParts
from services.generator.requests import RatingRequest, read_ratings
from services.generator.responses import timings
from tandem.v1 import generator_service_pb2 as pb


class RatingMethods:
    """Answers `PredictRatings`."""

    follower: Follower
    histories: Histories | None
    """What users did in the data of the bundle, and how they rated it."""
    version: str
    """Of the bundle."""
    served: Callable[[Callable[[], BatchJob]], Any]
    """Makes a job on a thread, and has the model answer it."""

    async def PredictRatings(  # noqa: N802
        self, request: pb.PredictRatingsRequest, _context: Any
    ) -> pb.PredictRatingsResponse:
        """Predicts how a user rates given items."""
        asked = read_ratings(request)
        rater = Rater.of(self.follower.engine)  # one version of the catalog from here to the end
        catalog, known = rater.snapshot.catalog, rater.known
        rated, unknown = self._rated(asked, known, catalog)
        items, missing = catalog.lookup(asked.items)
        response = pb.PredictRatingsResponse(
            missing_item_ids=dict.fromkeys([*unknown, *missing]),
            bundle_version=self.version,
            catalog_sequence=rater.snapshot.sequence,
        )
        if not len(items):
            return response
        served = await self.served(lambda: rater.prepare(RatingQuery(rated, items)))
        for item_id, rating in zip(catalog.ids(items), served.answer.tolist(), strict=True):
            response.ratings.add(item_id=item_id, rating=rating)
        response.timings.extend(timings(served))
        response.batch_size = served.batch
        return response

    def _rated(
        self, asked: RatingRequest, known: RatingParts, catalog: Catalog
    ) -> tuple[RatedItems, list[str]]:
        """What the user has rated, and what of it the catalog has not."""
        if asked.rated:
            return _given(asked, known, catalog)
        histories = self.histories
        items = None if histories is None else histories.of(asked.user_id)
        ratings = None if histories is None else histories.ratings_of(asked.user_id)
        if items is None or ratings is None:
            return NOTHING_RATED, []
        return RatedItems(items, known.places(ratings)), []


def _given(
    asked: RatingRequest, known: RatingParts, catalog: Catalog
) -> tuple[RatedItems, list[str]]:
    ratings = np.array(list(asked.rated.values()))
    lowest, highest = known.values[0], known.values[-1]
    if not ((ratings >= lowest) & (ratings <= highest)).all():
        raise InvalidArgument(
            f"a rating of rated_items is not between {lowest:g} and {highest:g}",
            reason="RATING_OUT_OF_RANGE",
        )
    items, missing = catalog.lookup(asked.rated)
    there = catalog.places(asked.rated) >= 0
    return RatedItems(items, known.places(ratings[there])), missing
