"""The rules of a list, against brute force."""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.attributes import Attributes
from gateway.domain import Cap, Pin, Recommended, Rules
from gateway.rules import ListRules, apply_rules, depth

IDS = [f"i{n}" for n in range(9)]
ids = st.sampled_from(IDS)
values = st.sampled_from(["a", "b", "c"])
attributes: st.SearchStrategy[Attributes] = st.fixed_dictionaries(
    {},
    optional={
        "genre": st.lists(values, min_size=1, max_size=3).map(tuple),
        "maker": values.map(lambda value: (value,)),
        "year": st.integers(1, 3).map(lambda year: (float(year),)),
    },
)
known = st.dictionaries(ids, attributes)
pools = st.lists(ids, max_size=14).map(
    lambda found: [Recommended(item_id, -float(rank)) for rank, item_id in enumerate(found)]
)


@st.composite
def some_pins(draw: st.DrawFn) -> tuple[Pin, ...]:
    pinned = draw(st.lists(ids, max_size=4, unique=True))
    places = draw(st.permutations(range(1, 7)))
    return tuple(
        Pin(item_id, draw(st.sampled_from([0, place])))
        for item_id, place in zip(pinned, places, strict=False)
    )


caps = st.lists(
    st.builds(Cap, st.sampled_from(["genre", "maker", "year"]), st.integers(1, 3)),
    max_size=2,
    unique_by=lambda cap: cap.attribute,
).map(tuple)
rules = st.builds(Rules, some_pins(), caps, st.sampled_from([0.0, 0.0, 0.3, 0.7, 1.0]))
denied = st.frozensets(ids, max_size=4)
counts = st.integers(1, 7)


NO_RULES = Rules()


def list_rules(
    count: int,
    rules: Rules = NO_RULES,
    denied: frozenset[str] = frozenset(),
    attributes: Mapping[str, Attributes] | None = None,
) -> ListRules:
    return ListRules(count, rules, denied, attributes)


def listed(items: Sequence[Recommended]) -> list[str]:
    return [item.item_id for item in items]


def pool(*item_ids: str) -> list[Recommended]:
    return [Recommended(item_id, -float(rank)) for rank, item_id in enumerate(item_ids)]


def breaks(caps: Sequence[Cap], items: Sequence[Attributes]) -> bool:
    """Whether some value is in more of the items than its cap allows."""
    return any(
        max(
            Counter(v for item in items for v in set(item.get(cap.attribute, ()))).values(),
            default=0,
        )
        > cap.max_items
        for cap in caps
    )


@given(pools, counts, rules, denied, known)
@settings(max_examples=150)
def test_the_hard_rules_hold_and_no_place_stays_empty(
    pool: list[Recommended],
    count: int,
    rules: Rules,
    denied: frozenset[str],
    known: Mapping[str, Attributes],
) -> None:
    rules = Rules(tuple(p for p in rules.pins if p.position <= count), rules.caps, rules.diversity)
    result = listed(apply_rules(pool, list_rules(count, rules, denied, known)))
    legal = set(listed(pool)) - denied
    pinned = [pin for pin in rules.pins if pin.item_id not in denied]
    assert len(result) == len(set(result)), "each once"
    assert not set(result) & denied
    assert set(result) <= legal | {pin.item_id for pin in pinned}
    assert len(result) == min(count, len(legal | {pin.item_id for pin in pinned})), "no hole"
    for pin in pinned:
        if pin.position:
            # A list that ends before the place ends with the item.
            assert result[min(pin.position, len(result)) - 1] == pin.item_id or (
                len(result) < count and pin.item_id in result
            )
    if len(pinned) <= count:
        assert {pin.item_id for pin in pinned} <= set(result)


@given(pools, counts, caps, known)
@settings(max_examples=120)
def test_caps_pass_over_the_best_items_that_break_them_and_no_others(
    pool: list[Recommended], count: int, caps: tuple[Cap, ...], known: Mapping[str, Attributes]
) -> None:
    """The oracle tries every item at every place."""
    left = list(dict.fromkeys(listed(pool)))
    expected: list[str] = []

    def obeys(item_id: str) -> bool:
        """Whether each of its values has room beside what is in the list."""
        return all(
            sum(value in known.get(other, {}).get(cap.attribute, ()) for other in expected)
            < cap.max_items
            for cap in caps
            for value in known.get(item_id, {}).get(cap.attribute, ())
        )

    while left and len(expected) < count:
        best = next(filter(obeys, left), left[0])
        expected.append(best)
        left.remove(best)
    result = apply_rules(pool, list_rules(count, Rules(caps=caps), attributes=known))
    assert listed(result) == expected


@given(pools, counts, st.integers(1, 3), known)
@settings(max_examples=100)
def test_an_attribute_of_one_value_is_capped_as_well_as_any_list_can_be(
    pool: list[Recommended], count: int, limit: int, known: Mapping[str, Attributes]
) -> None:
    """No other list of the pool obeys the cap where this one does not."""
    cap = (Cap("maker", limit),)
    result = apply_rules(pool, list_rules(count, Rules(caps=cap), attributes=known))
    unique = list(dict.fromkeys(listed(pool)))
    possible = any(
        not breaks(cap, [known.get(item_id, {}) for item_id in some])
        for some in combinations(unique, min(count, len(unique)))
    )
    assert breaks(cap, [known.get(item_id, {}) for item_id in listed(result)]) != possible


def jaccard(one: Attributes, other: Attributes) -> float:
    first, second = (
        {(name, value) for name, own in each.items() for value in own} for each in (one, other)
    )
    return len(first & second) / len(first | second) if first | second else 0.0


@given(pools, counts, st.sampled_from([0.25, 0.5, 0.75, 1.0]), known)
@settings(max_examples=120)
def test_diversity_is_maximal_marginal_relevance(
    pool: list[Recommended], count: int, diversity: float, known: Mapping[str, Attributes]
) -> None:
    unique = list(dict.fromkeys(listed(pool)))
    of = {item_id: known.get(item_id, {}) for item_id in unique}

    def worth(item_id: str, chosen: Sequence[str]) -> float:
        relevance = 1.0 - unique.index(item_id) / (4 * count)
        likeness = max((jaccard(of[item_id], of[other]) for other in chosen), default=0.0)
        return (1.0 - diversity) * relevance - diversity * likeness

    result = listed(
        apply_rules(pool, list_rules(count, Rules(diversity=diversity), attributes=known))
    )
    assert len(result) == min(count, len(unique))
    for turn, item_id in enumerate(result):
        chosen = result[:turn]
        best = max(worth(other, chosen) for other in unique if other not in chosen)
        assert worth(item_id, chosen) == pytest.approx(best, abs=1e-6)


@given(pools, counts, rules, known)
@settings(max_examples=100)
def test_items_that_are_never_taken_do_not_matter(
    pool: list[Recommended], count: int, rules: Rules, known: Mapping[str, Attributes]
) -> None:
    """The list is the same from the part of the pool that it took its items from."""
    rules = Rules(caps=rules.caps, diversity=rules.diversity)
    result = listed(apply_rules(pool, list_rules(count, rules, attributes=known)))
    deepest = max((listed(pool).index(item_id) for item_id in result), default=-1)
    part = pool[: deepest + 1]
    assert listed(apply_rules(part, list_rules(count, rules, attributes=known))) == result


@given(pools, counts)
def test_without_rules_the_list_is_the_top_of_the_pool(pool: list[Recommended], count: int) -> None:
    assert listed(apply_rules(pool, list_rules(count))) == list(dict.fromkeys(listed(pool)))[:count]


def test_pins_and_what_is_around_them_by_hand() -> None:
    rules = Rules(pins=(Pin("x", 3), Pin("c", 1), Pin("y"), Pin("z")))
    result = apply_rules(pool("a", "b", "c", "d"), list_rules(6, rules))
    assert listed(result) == ["c", "y", "x", "z", "a", "b"]
    assert [item.pinned for item in result] == [True] * 4 + [False] * 2
    assert result[0].score == -2.0, "a pinned item that was found keeps its score"
    assert result[1].score == 0.0


def test_a_list_too_short_for_a_pin_ends_with_it() -> None:
    result = apply_rules(pool("a"), list_rules(9, Rules(pins=(Pin("z", 9), Pin("x", 4)))))
    assert listed(result) == ["a", "x", "z"]


def test_pinned_items_count_for_caps_and_for_diversity() -> None:
    of: dict[str, Attributes] = {
        "p": {"genre": ("War",)},
        "a": {"genre": ("War",)},
        "b": {"genre": ("War", "Drama")},
        "c": {"genre": ("Comedy",)},
    }
    pinned = (Pin("p", 2),)
    capped = Rules(pinned, caps=(Cap("genre", 1),))
    assert listed(apply_rules(pool("a", "b", "c"), list_rules(3, capped, attributes=of))) == [
        "c",
        "p",
        "a",  # nothing else is left
    ]
    diverse = Rules(pinned, diversity=0.8)
    assert listed(apply_rules(pool("a", "b", "c"), list_rules(2, diverse, attributes=of))) == [
        "c",
        "p",
    ]


def test_a_choosy_list_needs_a_deeper_pool() -> None:
    assert depth(10, Rules(pins=(Pin("a"),))) == 10
    assert depth(10, Rules(caps=(Cap("genre", 1),))) == 40
    assert depth(10, Rules(diversity=0.1)) == 40
