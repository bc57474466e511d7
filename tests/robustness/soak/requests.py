"""Random requests: every way to rank, filters of every selectivity, and lists of every length."""

from collections.abc import Sequence
from typing import Final, TypeVar

import numpy as np

from tandem.v1 import common_pb2
from tandem.v1 import generator_service_pb2 as pb
from tests.robustness.soak.catalog import GENRES, MAKERS, Version, item_id
from tests.robustness.soak.check import Request

USERS: Final = 100
"""That the bundle knows."""
MAX_RERANKED: Final = 1_000
_DEPTH: Final = 3
"""Of a filter, at most."""

Filter = common_pb2.ItemFilter
T = TypeVar("T")


class Requests:
    """Draws requests.

    Args:
        seed: of what is drawn.
    """

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)

    def draw(self, version: Version) -> Request:
        """A request of any kind."""
        match self._one(("generate", "generate", "rerank", "rank")):
            case "generate":
                return self.generate(version)
            case "rerank":
                return pb.RerankRequest(
                    context=self._context(version), item_ids=self._shortlist(version)
                )
            case _:
                request = self.generate(version)
                return pb.RankRequest(
                    context=request.context,
                    item_ids=self._shortlist(version),
                    max_results=request.max_results,
                    constraints=request.constraints,
                )

    def generate(self, version: Version) -> pb.GenerateRequest:
        """A request to generate."""
        return pb.GenerateRequest(
            context=self._context(version),
            max_results=self._one((0, 1, 5, 10, 10, 10, 20, 20, self._below(151))),
            constraints=common_pb2.ItemConstraints(
                excluded_item_ids=self._excluded(version),
                filter=self._filter(version, _DEPTH) if self._chance(0.6) else None,
                include_seen=self._chance(0.3),
            ),
        )

    def largest(self, version: Version) -> pb.RankRequest:
        """A request that takes as much memory as any."""
        return pb.RankRequest(
            context=pb.UserContext(history_item_ids=version.item_ids[:100]),
            item_ids=version.item_ids[:MAX_RERANKED],
            max_results=100,
        )

    def _context(self, version: Version) -> pb.UserContext:
        user = self._one(("", "nobody", f"u{self._below(USERS)}"))
        length = self._one((0, 1, self._below(20), self._below(20), self._below(20), 200))
        return pb.UserContext(user_id=user, history_item_ids=self._some(version, length))

    def _shortlist(self, version: Version) -> Sequence[str]:
        most = self._one((10, 100, 100, 100, MAX_RERANKED))
        return self._some(version, 1 + self._below(most))

    def _excluded(self, version: Version) -> Sequence[str]:
        """No items, some, most, and now and then all but a few."""
        count = len(version.items)
        match self._one(("none", "none", "few", "few", "few", "many", "nearly all")):
            case "none":
                return ()
            case "few":
                return self._some(version, self._below(30))
            case "many":
                return self._some(version, self._below(2 * count))
            case _:
                start, left = self._below(count), self._below(40)
                return [*version.item_ids[:start], *version.item_ids[start + left :]]

    def _some(self, version: Version, count: int) -> Sequence[str]:
        """Items with repetitions; one in ten may be gone, or never have been there."""
        live = self._rng.integers(0, len(version.items), count).tolist()
        given = self._rng.integers(0, version.named + version.named // 20, count).tolist()
        strange = (self._rng.random(count) < 0.1).tolist()
        return [
            item_id(number) if is_strange else version.item_ids[place]
            for place, number, is_strange in zip(live, given, strange, strict=True)
        ]

    def _filter(self, version: Version, depth: int) -> Filter:
        match self._one(("and", "or", "not", "leaf", "leaf", "leaf") if depth else ("leaf",)):
            case "and":
                return Filter(all_of=Filter.AllOf(filters=self._filters(version, depth)))
            case "or":
                return Filter(any_of=Filter.AnyOf(filters=self._filters(version, depth)))
            case "not":
                return Filter(negation=self._filter(version, depth - 1))
            case _:
                return self._leaf(version, depth)

    def _filters(self, version: Version, depth: int) -> list[Filter]:
        return [self._filter(version, depth - 1) for _ in range(1 + self._below(3))]

    def _leaf(self, version: Version, depth: int) -> Filter:
        match self._one(("genre", "maker", "award", "price", "year", "allowed")):
            case "genre":
                return _equals("genre", self._one(GENRES))
            case "maker":
                return _one_of("maker", [self._one(MAKERS) for _ in range(1 + self._below(10))])
            case "award":
                awards: Sequence[str | float] = ("gold", "no such", 1.0, 2.0)
                return _equals("award", self._one(awards))
            case "price":
                low = float(self._rng.gamma(2.0, 10.0))
                return Filter(
                    range=Filter.Range(attribute="price", min=low, max=low + self._below(30))
                )
            case "year":
                return Filter(range=Filter.Range(attribute="year", min=1950 + self._below(76)))
            case _:
                # A filter may hold so many values, but not several lists of that length.
                most = self._one((5, 50, 1_500 if depth == _DEPTH else 50))
                return _one_of("sku", self._some(version, 1 + self._below(most)))

    def _one(self, values: Sequence[T]) -> T:
        return values[self._below(len(values))]

    def _below(self, limit: int) -> int:
        return int(self._rng.integers(limit))

    def _chance(self, share: float) -> bool:
        return bool(self._rng.random() < share)


def _equals(attribute: str, value: str | float) -> Filter:
    return Filter(equals=Filter.Equals(attribute=attribute, value=_value(value)))


def _one_of(attribute: str, values: Sequence[str | float]) -> Filter:
    return Filter(one_of=Filter.OneOf(attribute=attribute, values=map(_value, values)))


def _value(value: str | float) -> common_pb2.AttributeValue:
    if isinstance(value, str):
        return common_pb2.AttributeValue(text=value)
    return common_pb2.AttributeValue(number=value)
