"""All rules of a list, in their order."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from core.attributes import Attributes
from gateway.domain import Pin, Recommended, Rules
from gateway.rules.boosts import boosted
from gateway.rules.choice import NO_ATTRIBUTES, choose

CHOICE: Final = 4
"""Items of a pool for each place of a list that has something to choose."""


@dataclass(frozen=True)
class ListRules:
    """What the rules work with."""

    count: int
    """Places of the list."""
    rules: Rules
    denied: Collection[str] = ()
    """Items that must not be in it."""
    attributes: Mapping[str, Attributes] | None = None
    """Of items of the pool and of pinned ones. An item that is not among them has none: no cap
    counts it, and it is like no other."""

    def of(self, item_id: str) -> Attributes:
        """The attributes of an item."""
        return (self.attributes or {}).get(item_id, NO_ATTRIBUTES)


def depth(count: int, rules: Rules) -> int:
    """How many items a pool should have for a list of `count`."""
    return CHOICE * count if rules.choosy else count


def apply_rules(pool: Sequence[Recommended], list_rules: ListRules) -> list[Recommended]:
    """Makes a list of a pool; the order of the rules is told at the package.

    Args:
        pool: scored items, best first.
        list_rules: what the list must be like. Its pins are of items that exist and satisfy the
            request's filter; those that are denied are passed over.

    Returns:
        `count` items, or all that may be shown; each once.
    """
    count, rules = list_rules.count, list_rules.rules
    if not (rules.pins or rules.choosy):
        return allowed(pool, list_rules.denied)[:count]
    best = {item.item_id: item for item in ranked(pool, list_rules)}
    pins = [pin for pin in rules.pins if pin.item_id not in list_rules.denied]
    pinned = {
        place: best.pop(item_id, Recommended(item_id, 0.0))._replace(pinned=True)
        for place, item_id in places(pins, count).items()
    }
    rest = list(best.values())
    chosen = choose(
        [list_rules.of(item.item_id) for item in rest],
        count - len(pinned),
        caps=rules.caps,
        diversity=rules.diversity,
        span=depth(count, rules),
        beside=[list_rules.of(item.item_id) for item in pinned.values()],
    )
    return interleave(pinned, [rest[place] for place in chosen])


def ranked(pool: Sequence[Recommended], list_rules: ListRules) -> list[Recommended]:
    """What may be shown, each item once, in the order that boosts give it."""
    items, rules = allowed(pool, list_rules.denied), list_rules.rules
    if not rules.boosts:
        return items
    attributes = [list_rules.of(item.item_id) for item in items]
    order = boosted(attributes, rules.boosts, depth(list_rules.count, rules))
    return [items[place] for place in order]


def allowed(pool: Sequence[Recommended], denied: Collection[str]) -> list[Recommended]:
    """What may be shown, each item once, where it is first."""
    first: dict[str, Recommended] = {}
    for item in pool:
        if item.item_id not in denied:
            first.setdefault(item.item_id, item)
    return list(first.values())


def places(pins: Sequence[Pin], count: int) -> dict[int, str]:
    """The place of each pinned item, from 0 and below `count`; those without one of their own take
    the first that are free, in order. Pins that the list has no place for are left out."""
    taken = {pin.position - 1: pin.item_id for pin in pins if 0 < pin.position <= count}
    free = (place for place in range(count) if place not in taken)
    floating = [pin.item_id for pin in pins if not pin.position]
    # `floating` first: a place that is drawn must have an item.
    return taken | {place: item_id for item_id, place in zip(floating, free, strict=False)}


def interleave(
    pinned: Mapping[int, Recommended], others: Sequence[Recommended]
) -> list[Recommended]:
    """Puts pinned items at their places, and the others, in order, around them.

    Where the others run out, the pinned items that are left follow, so that there is no hole.
    """
    merged: list[Recommended] = []
    rest = iter(others)
    waiting = dict(sorted(pinned.items()))
    while True:
        place = len(merged)
        item = waiting.pop(place) if place in waiting else next(rest, None)
        if item is None:
            return [*merged, *waiting.values()]
        merged.append(item)
