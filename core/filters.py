"""Conditions on item attributes, evaluated to a mask over the catalog, or over some items."""

import math
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from core.attributes import AttributeIndex, Attributes
from core.catalog import Catalog, Mask
from core.errors import InvalidArgument
from core.masks import Bits, MaskMemory


@dataclass(frozen=True)
class OneOf:
    """The attribute has one of the values."""

    attribute: str
    values: tuple[str | float, ...]


@dataclass(frozen=True)
class Range:
    """The attribute has a number between the bounds, both inclusive."""

    attribute: str
    low: float = -math.inf
    high: float = math.inf


@dataclass(frozen=True)
class AllOf:
    """Every filter holds."""

    filters: tuple["Filter", ...]


@dataclass(frozen=True)
class AnyOf:
    """At least one filter holds."""

    filters: tuple["Filter", ...]


@dataclass(frozen=True)
class Not:
    """The filter does not hold."""

    filter: "Filter"


Filter = OneOf | Range | AllOf | AnyOf | Not


MAX_WORK: Final = 1 << 26
"""Conditions of a filter times items of the catalog: that takes some tenths of a second."""
VALUES_PER_CONDITION: Final = 8
"""A value of a list is cheaper than a condition: so many of them count as one more."""


def evaluate(
    condition: Filter, catalog: Catalog, proceed: Callable[[], None] = lambda: None
) -> Mask:
    """Marks the live items that satisfy the condition. Shape [positions].

    What parts of filters came to is remembered with the version of the catalog.

    Args:
        condition: the filter.
        catalog: whose items.
        proceed: called before each condition; it raises where the work should end.

    Raises:
        InvalidArgument: reason UNKNOWN_ATTRIBUTE, for an attribute that no live item has; or
            FILTER_TOO_COSTLY, before anything is evaluated.
    """
    require(attributes_of(condition), catalog.attribute_names)
    work = condition_count(condition) * catalog.live_count
    if work > MAX_WORK:
        raise InvalidArgument(
            f"the filter's conditions times the items come to {condition_count(condition)} * "
            f"{catalog.live_count} = {work}, and {MAX_WORK} is the limit; send fewer conditions, "
            f"or a list of values, {VALUES_PER_CONDITION} of which count as one more condition",
            reason="FILTER_TOO_COSTLY",
            work=str(work),
            limit=str(MAX_WORK),
        )
    return marks(condition, catalog, proceed)


def marks(condition: Filter, catalog: Catalog, proceed: Callable[[], None] = lambda: None) -> Mask:
    """As `evaluate`, whatever it costs; an attribute may be one that no item has."""
    return _Evaluation(catalog, catalog.masks, proceed).mask(condition)


def satisfying(conditions: Sequence[Filter], items: Sequence[Attributes]) -> NDArray[np.bool_]:
    """Marks which of some items satisfy each condition, bool [conditions, items].

    As `marks` finds for a catalog of them.
    """
    names = frozenset[str]().union(*map(attributes_of, conditions))
    evaluation = _Evaluation(_Listed(items, names), MaskMemory())
    satisfied = np.empty((len(conditions), len(items)), np.bool_)
    for row, condition in zip(satisfied, conditions, strict=True):
        row[:] = evaluation.mask(condition)
    return satisfied


class _Filterable(Protocol):
    """What filters are evaluated over; see `Catalog`."""

    @property
    def live(self) -> Mask: ...

    def having(self, attribute: str, values: Iterable[str | float]) -> Mask: ...

    def within(self, attribute: str, low: float, high: float) -> Mask: ...


class _Listed:
    """Items of a list, by their places."""

    def __init__(self, items: Sequence[Attributes], names: Collection[str]) -> None:
        self._attributes = AttributeIndex().updated(
            (place, {name: own[name] for name in names if name in own})
            for place, own in enumerate(items)
        )
        self.live: Mask = np.ones(len(items), np.bool_)

    def having(self, attribute: str, values: Iterable[str | float]) -> Mask:
        return self._attributes.having(attribute, values, self.live)

    def within(self, attribute: str, low: float, high: float) -> Mask:
        return self._attributes.within(attribute, low, high, self.live)


class _Evaluation:
    """Evaluates filters, with eight items to a byte between the conditions."""

    def __init__(
        self, over: _Filterable, memory: MaskMemory, proceed: Callable[[], None] = lambda: None
    ) -> None:
        self._over = over
        self._memory = memory
        self._proceed = proceed

    def mask(self, condition: Filter) -> Mask:
        """The items that satisfy a condition. Shape [positions]."""
        bits = np.unpackbits(self._bits(condition), count=len(self._over.live))
        return bits.view(np.bool_)

    def _bits(self, condition: Filter) -> Bits:
        known = self._memory.get(condition)
        if known is None:
            self._proceed()
            known = self._evaluated(condition)
            self._memory.put(condition, known)
        return known

    def _evaluated(self, condition: Filter) -> Bits:
        match condition:
            case OneOf(attribute, values):
                return np.packbits(self._over.having(attribute, values))
            case Range(attribute, low, high):
                return np.packbits(self._over.within(attribute, low, high))
            case AllOf(filters):
                return reduce(np.bitwise_and, map(self._bits, filters))
            case AnyOf(filters):
                return reduce(np.bitwise_or, map(self._bits, filters))
            case Not(inner):
                return np.packbits(self._over.live) & ~self._bits(inner)


def condition_count(condition: Filter) -> int:
    """How many conditions a filter has."""
    match condition:
        case OneOf(_, values):
            return 1 + len(values) // VALUES_PER_CONDITION
        case Range():
            return 1
        case AllOf(filters) | AnyOf(filters):
            return sum(map(condition_count, filters))
        case Not(inner):
            return condition_count(inner)


def attributes_of(condition: Filter) -> frozenset[str]:
    """The attributes that a condition is about."""
    match condition:
        case OneOf(attribute) | Range(attribute):
            return frozenset([attribute])
        case AllOf(filters) | AnyOf(filters):
            return frozenset().union(*map(attributes_of, filters))
        case Not(inner):
            return attributes_of(inner)


def require(attributes: Iterable[str], names: Collection[str]) -> None:
    """Checks that attributes exist.

    Args:
        attributes: what somebody asks about.
        names: those that items have.

    Raises:
        InvalidArgument: reason UNKNOWN_ATTRIBUTE.
    """
    for attribute in attributes:
        if attribute not in names:
            known = ", ".join(sorted(names)) or "none"
            raise InvalidArgument(
                f"no item has an attribute {attribute!r}; the catalog has: {known}",
                reason="UNKNOWN_ATTRIBUTE",
                attribute=attribute,
            )
