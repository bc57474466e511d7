"""What each rule did: the list made with one rule more each time, and what changed by it."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

from gateway.domain import Recommended, Rule, RuleEffect, Rules
from gateway.rules.apply import ListRules, allowed, apply_rules, ranked
from gateway.rules.boosts import boosts_of
from gateway.rules.choice import full


def effects(pool: Sequence[Recommended], list_rules: ListRules) -> list[RuleEffect]:
    """Everything that the rules changed about the list, in the order of the rules.

    Of items that only made room or moved up nothing is said: each effect names the item that its
    rule is about.
    """
    rules, count = list_rules.rules, list_rules.count
    plain = _ranks(allowed(pool, list_rules.denied))
    found = [*_removed(pool, list_rules, plain)]
    pinned = replace(list_rules, rules=Rules(pins=rules.pins, boosts=rules.boosts))
    capped = replace(list_rules, rules=replace(pinned.rules, caps=rules.caps))
    before = plain
    if rules.boosts:
        before = _ranks(ranked(pool, list_rules))
        found += _boosted(before, plain, list_rules)
    if rules.pins:
        listed = apply_rules(pool, pinned)
        found += _pinned(listed, before, list_rules)
        before = _ranks(listed)
    if rules.caps:
        listed = apply_rules(pool, capped)
        found += _capped(listed, before, list_rules)
        before = _ranks(listed)
    if rules.diversity:
        found += _moved(_ranks(apply_rules(pool, list_rules)), before, count)
    return found


def _removed(
    pool: Sequence[Recommended], list_rules: ListRules, plain: dict[str, int]
) -> Iterator[RuleEffect]:
    times = Counter(item.item_id for item in pool)
    for place, item in enumerate(pool, start=1):
        if item.item_id in list_rules.denied:
            yield RuleEffect(
                item.item_id, Rule.EXCLUDED, "excluded, seen or filtered out", place, 0
            )
        elif times.pop(item.item_id, 1) > 1:
            detail = "found more than once"
            yield RuleEffect(item.item_id, Rule.DUPLICATE, detail, place, plain[item.item_id])
    for pin in list_rules.rules.pins:
        if pin.item_id in list_rules.denied and pin.item_id not in times:
            yield RuleEffect(
                pin.item_id, Rule.EXCLUDED, "pinned, but excluded, seen or filtered out", 0, 0
            )


def _boosted(
    after: dict[str, int], before: dict[str, int], list_rules: ListRules
) -> Iterator[RuleEffect]:
    boosts = boosts_of([list_rules.of(item_id) for item_id in after], list_rules.rules.boosts)
    for (item_id, now), boost in zip(after.items(), boosts.tolist(), strict=True):
        place = before[item_id]
        if boost and now != place and min(now, place) <= list_rules.count:
            shown = now if now <= list_rules.count else 0
            yield RuleEffect(item_id, Rule.BOOST, f"boosted by {boost:+g}", place, shown)


def _pinned(
    listed: Sequence[Recommended], before: dict[str, int], list_rules: ListRules
) -> Iterator[RuleEffect]:
    after = _ranks(listed)
    for item in listed:
        if item.pinned:
            place, own = after[item.item_id], before.get(item.item_id, 0)
            yield RuleEffect(item.item_id, Rule.PINNED, f"pinned to place {place}", own, place)
    for item_id, place in before.items():
        if place <= list_rules.count and item_id not in after:
            yield RuleEffect(item_id, Rule.PINNED, "gave way to a pinned item", place, 0)


def _capped(
    listed: Sequence[Recommended], before: dict[str, int], list_rules: ListRules
) -> Iterator[RuleEffect]:
    """Without diversity an item is passed over for a cap, or not at all."""
    after = _ranks(listed)
    most = {cap.attribute: cap.max_items for cap in list_rules.rules.caps}
    taken = full(list_rules.rules.caps, [list_rules.of(item.item_id) for item in listed])
    for item_id, place in before.items():
        now = after.get(item_id, 0)
        if place > list_rules.count or 0 < now <= place:
            continue
        attributes = list_rules.of(item_id)
        reached = ", ".join(
            f"{name}={value if isinstance(value, str) else f'{value:g}'} at most {most[name]} times"
            for name, value in taken
            if value in attributes.get(name, ())
        )
        yield RuleEffect(item_id, Rule.CAP, reached, place, now)


def _moved(after: dict[str, int], before: dict[str, int], count: int) -> Iterator[RuleEffect]:
    for item_id in dict.fromkeys([*after, *before]):
        now, place = after.get(item_id, 0), before.get(item_id, 0)
        if now == place or (place > count and not now):
            continue
        detail = "less like the rest" if now and (now < place or not place) else "too like the rest"
        yield RuleEffect(item_id, Rule.DIVERSITY, detail, place, now)


def _ranks(items: Sequence[Recommended]) -> dict[str, int]:
    return {item.item_id: rank for rank, item in enumerate(items, start=1)}
