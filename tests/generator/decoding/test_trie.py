"""The trie against brute force over all codes."""

from bisect import bisect_left
from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from core.errors import BundleError
from services.generator.decoding.trie import Trie

Codes = NDArray[np.int32]
Mask = NDArray[np.bool_]


NOTHING = np.empty(0, dtype=np.int32)


@st.composite
def distinct_codes(draw: st.DrawFn) -> Codes:
    """Codes of any length, which share few prefixes or many."""
    levels = draw(st.integers(1, 8))
    tokens = st.integers(1, draw(st.sampled_from([2, 5])))
    code = st.tuples(*[tokens] * levels)
    codes = draw(st.lists(code, min_size=1, max_size=40, unique=True))
    return np.array(codes, dtype=np.int32)


@st.composite
def distinct_codes_some_live(draw: st.DrawFn) -> tuple[Codes, Mask]:
    codes = draw(distinct_codes())
    live = draw(st.lists(st.booleans(), min_size=len(codes), max_size=len(codes)))
    return codes, np.array(live)


def walk(trie: Trie) -> dict[tuple[int, ...], int]:
    """Every node by the prefix that leads to it."""
    found: dict[tuple[int, ...], int] = {(): 0}
    frontier: list[tuple[tuple[int, ...], int]] = [((), 0)]
    while frontier:
        prefix, node = frontier.pop()
        for child in range(trie.child_start[node], trie.child_start[node + 1]):
            longer = (*prefix, int(trie.token[child]))
            found[longer] = child
            frontier.append((longer, child))
    return found


def prefixes(codes: Codes) -> set[tuple[int, ...]]:
    return {tuple(code[:n]) for code in codes.tolist() for n in range(len(code) + 1)}


@given(distinct_codes())
def test_has_exactly_the_prefixes_of_the_codes(codes: Codes) -> None:
    trie = Trie.build(codes)
    nodes = walk(trie)
    assert set(nodes) == prefixes(codes)
    assert trie.nodes == len(nodes)
    for item, code in enumerate(codes.tolist()):
        leaf = nodes[tuple(code)] - trie.leaf_base
        assert trie.leaf_item[leaf] == item
        assert trie.item_leaf[item] == leaf


@given(distinct_codes())
def test_widths_are_the_largest_families(codes: Codes) -> None:
    trie = Trie.build(codes)
    known = prefixes(codes)
    for level, width in enumerate(trie.widths):
        families = [
            sum(len(q) == level + 1 and q[:level] == p for q in known)
            for p in known
            if len(p) == level
        ]
        assert width == max(families)


@given(distinct_codes_some_live())
def test_only_live_items_have_a_leaf(given: tuple[Codes, Mask]) -> None:
    codes, live = given
    trie = Trie.build(codes, live)
    assert trie.items == live.sum()
    assert sorted(trie.leaf_item.tolist()) == np.flatnonzero(live).tolist()
    assert (trie.item_leaf[~live] == -1).all()
    assert (trie.leaf_item[trie.item_leaf[live]] == np.flatnonzero(live)).all()
    if live.any():
        assert set(walk(trie)) == prefixes(codes[live])


@given(distinct_codes_some_live(), st.data())
def test_alive_is_having_an_allowed_leaf(given: tuple[Codes, Mask], data: st.DataObject) -> None:
    codes, live = given
    trie = Trie.build(codes, live)
    positions = st.integers(0, len(codes) - 1)
    denied = np.array(data.draw(st.lists(positions, max_size=60)), dtype=np.int32)
    allowed = data.draw(
        st.none() | st.lists(st.booleans(), min_size=len(codes), max_size=len(codes))
    )
    mask = None if allowed is None else np.array(allowed)
    left = live.copy() if mask is None else live & mask
    left[denied] = False
    legal = prefixes(codes[left]) if left.any() else set()
    alive = trie.alive(mask, denied)
    assert {p for p, node in walk(trie).items() if alive[node]} == legal


@pytest.mark.parametrize("widths", [(6, 20, 20), (50, 50, 2), (20, 900, 40), (40, 50, 3, 1, 1)])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 1.0])
def test_alive_in_a_larger_trie(widths: tuple[int, ...], share: float) -> None:
    """Families of all sizes, few items and many: each way of going up the trie."""
    rng = np.random.default_rng(0)
    numbers = rng.permutation(int(np.prod(widths)))[:2_000]
    codes = np.stack(np.unravel_index(numbers, widths), axis=1).astype(np.int32) + 1
    live = rng.random(len(codes)) < 0.9
    allowed = rng.random(len(codes)) < share
    denied = rng.integers(0, len(codes), 200).astype(np.int32)
    trie = Trie.build(codes, live)
    for mask in (allowed, None):
        left = live.copy() if mask is None else live & mask
        left[denied] = False
        alive = trie.alive(mask, denied)
        assert alive.dtype == np.bool_
        leaves = np.zeros(trie.items, np.bool_)
        leaves[trie.item_leaf[left]] = True
        assert alive[trie.leaf_base :].tolist() == leaves.tolist()
        for node in range(trie.leaf_base):
            assert alive[node] == alive[trie.child_start[node] : trie.child_start[node + 1]].any()


def test_nothing_is_copied_where_everything_is_allowed() -> None:
    trie = Trie.build(np.array([[3, 4], [3, 5]], dtype=np.int32))
    alive = trie.alive(None, NOTHING)
    assert alive.all()
    assert trie.alive(None, NOTHING) is alive
    with pytest.raises(ValueError, match="read-only"):
        alive[0] = False
    assert not trie.alive(None, np.array([0], dtype=np.int32)).all()
    assert alive.all()


@given(distinct_codes_some_live(), st.data())
def test_replacing_is_building_anew(given: tuple[Codes, Mask], data: st.DataObject) -> None:
    codes, live = given
    after = np.array(data.draw(st.lists(st.booleans(), min_size=len(live), max_size=len(live))))
    gone, added = (np.flatnonzero(m).astype(np.int32) for m in (live & ~after, after & ~live))
    order = data.draw(st.permutations(range(len(added))))
    # The codes of items that are added come after those of the trie that they are added to.
    known = len(codes) - int(live[::-1].argmax()) if live.any() else 0
    trie = Trie.build(codes[:known], live[:known])
    replaced = trie.replaced(codes, gone, added[list(order)])
    for field in fields(Trie):
        array = getattr(replaced, field.name)
        assert array.dtype == np.int32
        assert array.tolist() == getattr(Trie.build(codes, after), field.name).tolist()


@given(distinct_codes_some_live())
def test_finds_a_code_or_where_it_would_stand(given: tuple[Codes, Mask]) -> None:
    codes, live = given
    trie = Trie.build(codes, live)
    leaf, found = trie.find(codes)
    assert found.tolist() == live.tolist()
    assert leaf[live].tolist() == trie.item_leaf[live].tolist()
    standing = codes[trie.leaf_item].tolist()
    assert leaf.tolist() == [bisect_left(standing, code) for code in codes.tolist()]


def test_a_trie_of_no_items_has_a_way_down_that_is_dead() -> None:
    codes = np.array([[3, 4, 5], [3, 5, 5]], dtype=np.int32)
    everything, nobody = np.ones(2, np.bool_), np.zeros(2, np.bool_)
    empty = Trie.build(codes, nobody)
    assert (empty.items, empty.levels, empty.nodes) == (0, 3, 4)
    assert empty.child_start.tolist() == [1, 2, 3, 4, 4]
    assert not empty.alive(None, NOTHING).any()
    assert not empty.alive(everything, np.array([1], dtype=np.int32)).any()
    again = empty.replaced(codes, NOTHING, np.array([1, 0], dtype=np.int32))
    assert again.leaf_item.tolist() == [0, 1]
    assert Trie.build(np.empty((0, 2), dtype=np.int32)).items == 0


@given(distinct_codes(), st.data())
def test_prefix_tree_reads_each_prefix_once(codes: Codes, data: st.DataObject) -> None:
    trie = Trie.build(codes)
    chosen = data.draw(st.lists(st.integers(0, len(codes) - 1), min_size=1, max_size=20))
    tree = trie.prefixes(np.array(chosen, dtype=np.int32))
    spelled = [row_prefix(tree.sees[row], tree.token, tree.depth) for row in range(len(tree.token))]
    wanted = {p for p in prefixes(codes[chosen]) if len(p) < codes.shape[1]}
    assert sorted(spelled) == sorted(wanted)
    for position, item in enumerate(chosen):
        code = codes[item].tolist()
        assert trie.token[tree.child[position]].tolist() == code
        assert [spelled[r] for r in tree.path[position]] == [
            tuple(code[:n]) for n in range(len(code))
        ]


@given(distinct_codes_some_live())
def test_inner_leaves_are_the_first_and_the_last_below_a_node(given: tuple[Codes, Mask]) -> None:
    codes, live = given
    trie = Trie.build(codes, live)
    first, last = trie.inner_leaves
    assert len(first) == len(last) == trie.leaf_base
    if not live.any():  # a way down whose leaf is nobody's
        assert first.tolist() == last.tolist() == [0] * trie.levels
        return
    standing = codes[trie.leaf_item].tolist()
    for prefix, node in walk(trie).items():
        if len(prefix) < trie.levels:
            below = [i for i, code in enumerate(standing) if tuple(code[: len(prefix)]) == prefix]
            assert (first[node], last[node]) == (below[0], below[-1])


def row_prefix(
    sees: NDArray[np.bool_], token: NDArray[np.int32], depth: NDArray[np.int32]
) -> tuple[int, ...]:
    rows = np.flatnonzero(sees)
    ordered = rows[np.argsort(depth[rows])]
    assert depth[ordered].tolist() == list(range(len(ordered)))
    return tuple(token[ordered[1:]].tolist())


def test_two_items_with_one_code_are_refused_by_name() -> None:
    codes = np.array([[3, 4], [3, 5], [3, 4]], dtype=np.int32)
    with pytest.raises(BundleError, match=r"items 0 and 2 have the same code \[3, 4\]"):
        Trie.build(codes)


def test_codes_without_tokens_are_refused() -> None:
    with pytest.raises(BundleError, match="at least one token"):
        Trie.build(np.empty((2, 0), dtype=np.int32))


def test_only_live_items_can_be_scored() -> None:
    codes = np.array([[3, 4], [3, 5], [4, 4]], dtype=np.int32)
    trie = Trie.build(codes, np.array([True, False, True]))
    tree = trie.prefixes(np.array([2, 0], dtype=np.int32))
    assert trie.token[tree.child].tolist() == [[4, 4], [3, 4]]
    with pytest.raises(ValueError, match=r"items \[1\] are not live"):
        trie.prefixes(np.array([0, 1], dtype=np.int32))
