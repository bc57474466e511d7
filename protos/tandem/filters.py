"""Conditions on item attributes, written as Python expressions.

    from tandem import filters
    drama_of_the_nineties = filters.equals("genre", "Drama") & filters.between("year", 1990, 1999)
    neither = ~filters.one_of("genre", ["Horror", "War"])
    client.recommend("196", filter=drama_of_the_nineties & neither)

An attribute with several values satisfies a condition when any one of its values does.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from tandem.v1.common_pb2 import AttributeValue, ItemFilter


@dataclass(frozen=True)
class Condition:
    """A condition that combines with `&`, `|` and `~`; `message` is what is sent."""

    message: ItemFilter

    def __and__(self, other: "Condition") -> "Condition":
        filters = [*self._parts("all_of"), *other._parts("all_of")]
        return Condition(ItemFilter(all_of=ItemFilter.AllOf(filters=filters)))

    def __or__(self, other: "Condition") -> "Condition":
        filters = [*self._parts("any_of"), *other._parts("any_of")]
        return Condition(ItemFilter(any_of=ItemFilter.AnyOf(filters=filters)))

    def __invert__(self) -> "Condition":
        return Condition(ItemFilter(negation=self.message))

    def _parts(self, kind: str) -> list[ItemFilter]:
        """The conditions of a conjunction or disjunction, so that `a & b & c` stays flat."""
        if self.message.WhichOneof("kind") == kind:
            return list(getattr(self.message, kind).filters)
        return [self.message]


def equals(attribute: str, value: str | float) -> Condition:
    """The attribute has this value."""
    condition = ItemFilter.Equals(attribute=attribute, value=_value(value))
    return Condition(ItemFilter(equals=condition))


def one_of(attribute: str, values: Iterable[str | float]) -> Condition:
    """The attribute has one of these values."""
    condition = ItemFilter.OneOf(attribute=attribute, values=[_value(v) for v in values])
    return Condition(ItemFilter(one_of=condition))


def between(attribute: str, low: float | None = None, high: float | None = None) -> Condition:
    """The attribute has a number from `low` to `high`, both inclusive; None is no bound."""
    return Condition(ItemFilter(range=ItemFilter.Range(attribute=attribute, min=low, max=high)))


def parse(text: str) -> Condition:
    """Reads a condition as people write it: `genre=Drama`, `genre!=Horror`, `year=1990..1999`.

    Raises:
        ValueError: it is not written so.
    """
    name, sign, value = text.partition("=")
    negated = name.endswith("!")
    name, value = name.removesuffix("!").strip(), value.strip()
    if not (name and sign and value):
        raise ValueError(
            f"{text!r} is not a filter; write genre=Drama, genre!=Horror or year=1990..1999"
        )
    condition = _range(name, value) if ".." in value else _equal(name, value)
    return ~condition if negated else condition


def _range(name: str, value: str) -> Condition:
    low, _, high = value.partition("..")
    return between(name, *(_number(bound) if bound else None for bound in (low, high)))


def _equal(name: str, value: str) -> Condition:
    """A digit string may be a text or a number in the catalog: either will do."""
    try:
        return one_of(name, [value, float(value)])
    except ValueError:
        return equals(name, value)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a number") from None


def _value(value: str | float) -> AttributeValue:
    if isinstance(value, str):
        return AttributeValue(text=value)
    return AttributeValue(number=value)
