"""The trie of a beam: its levels against sums by hand, and its picture."""

import math

from hypothesis import given
from hypothesis import strategies as st

from console.pages.drawing import drawn
from console.pages.trie import Leaf, Trie

HALF, QUARTER = math.log(0.5), math.log(0.25)
LEAVES = [
    Leaf("a", (("x", HALF), ("1", HALF)), 1, "kept"),
    Leaf("b", (("x", HALF), ("2", QUARTER)), None, "pruned"),
    Leaf("c", (("y", QUARTER), ("1", HALF)), None, "seen"),
]


def test_levels_add_up() -> None:
    first, second = Trie.of(LEAVES).levels
    assert (first.depth, first.nodes, first.pruned) == (1, 2, 1)
    assert math.isclose(first.share, 0.75)
    assert math.isclose(first.kept_share, 0.5)
    assert (second.depth, second.nodes, second.pruned) == (2, 3, 2)
    assert math.isclose(second.share, 0.25 + 0.125 + 0.125)
    assert math.isclose(second.kept_share, 0.25)


def test_the_most_probable_path_comes_first() -> None:
    roots = Trie.of(LEAVES[::-1]).roots
    assert [node.text for node in roots] == ["x", "y"]
    assert [node.leaf.item_id for node in roots[0].children if node.leaf] == ["a", "b"]
    assert [node.alive for node in roots] == [True, False]


def test_no_leaves_make_an_empty_trie() -> None:
    assert Trie.of([]).levels == []
    assert drawn(Trie.of([])).spots == []


codes = st.lists(
    st.lists(st.sampled_from("abc"), min_size=3, max_size=3).map(tuple), unique=True, max_size=12
)


@given(codes)
def test_every_leaf_has_a_row_of_its_own(drawn_codes: list[tuple[str, ...]]) -> None:
    leaves = [
        Leaf(str(i), tuple((token, HALF) for token in code), i + 1, "kept")
        for i, code in enumerate(drawn_codes)
    ]
    picture = drawn(Trie.of(leaves))
    rows = [spot.y for spot in picture.spots if spot.leaf]
    assert len(rows) == len(set(rows)) == len(leaves)
    assert len(picture.spots) == len({code[:n] for code in drawn_codes for n in (1, 2, 3)})
    assert all(0 < spot.y < picture.height for spot in picture.spots)
    assert all(0 < spot.from_x < spot.x < picture.width for spot in picture.spots)
