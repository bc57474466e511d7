"""Conditions on item attributes, evaluated to a mask over the catalog, or for one item."""

import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass

import numpy as np

from core.attributes import Attributes
from core.catalog import Catalog, Mask
from core.errors import InvalidArgument


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


def evaluate(condition: Filter, catalog: Catalog) -> Mask:
    """Marks the live items that satisfy the condition. Shape [positions].

    Raises:
        InvalidArgument: reason UNKNOWN_ATTRIBUTE, for an attribute that no live item has.
    """
    match condition:
        case OneOf(attribute, values):
            require([attribute], catalog.attribute_names)
            return catalog.having(attribute, values)
        case Range(attribute, low, high):
            require([attribute], catalog.attribute_names)
            return catalog.within(attribute, low, high)
        case AllOf(filters):
            every: Mask = np.logical_and.reduce([evaluate(f, catalog) for f in filters])
            return every
        case AnyOf(filters):
            some: Mask = np.logical_or.reduce([evaluate(f, catalog) for f in filters])
            return some
        case Not(inner):
            return catalog.live & ~evaluate(inner, catalog)


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


def satisfies(condition: Filter, attributes: Attributes) -> bool:
    """Whether an item with these attributes satisfies the condition.

    As `evaluate` finds for a catalog that has the item, save that an attribute which no item has is
    no mistake here.
    """
    match condition:
        case OneOf(attribute, values):
            return not set(values).isdisjoint(attributes.get(attribute, ()))
        case Range(attribute, low, high):
            own = attributes.get(attribute, ())
            return any(not isinstance(value, str) and low <= value <= high for value in own)
        case AllOf(filters):
            return all(satisfies(each, attributes) for each in filters)
        case AnyOf(filters):
            return any(satisfies(each, attributes) for each in filters)
        case Not(inner):
            return not satisfies(inner, attributes)
