"""The trie against brute force over all codes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from runtime.errors import BundleError
from services.generator.trie import Trie

Codes = NDArray[np.int32]


@st.composite
def distinct_codes(draw: st.DrawFn) -> Codes:
    levels = draw(st.integers(1, 4))
    code = st.tuples(*[st.integers(1, 5)] * levels)
    codes = draw(st.lists(code, min_size=1, max_size=40, unique=True))
    return np.array(codes, dtype=np.int32)


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


@given(distinct_codes(), st.data())
def test_alive_is_having_an_allowed_leaf(codes: Codes, data: st.DataObject) -> None:
    trie = Trie.build(codes)
    positions = st.integers(0, len(codes) - 1)
    denied = np.array(data.draw(st.lists(positions, max_size=60)), dtype=np.int32)
    allowed = data.draw(
        st.none() | st.lists(st.booleans(), min_size=len(codes), max_size=len(codes))
    )
    mask = None if allowed is None else np.array(allowed)
    left = np.ones(len(codes), dtype=np.bool_) if mask is None else mask.copy()
    left[denied] = False
    legal = prefixes(codes[left]) if left.any() else set()
    alive = trie.alive(mask, denied)
    assert {p for p, node in walk(trie).items() if alive[node]} == legal


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
        assert tree.target[position].tolist() == code
        assert [spelled[r] for r in tree.path[position]] == [
            tuple(code[:n]) for n in range(len(code))
        ]


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


def test_no_items_are_refused() -> None:
    with pytest.raises(BundleError, match="at least one item"):
        Trie.build(np.empty((0, 2), dtype=np.int32))
