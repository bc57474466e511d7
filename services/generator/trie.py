"""The trie of item codes, as two flat arrays that the decoding graph takes as inputs.

Nodes are numbered breadth-first: the root is 0, then level 1, level 2, … Within a level they stand
in lexicographic order, so the children of a node are consecutive, the children of consecutive nodes
follow each other, and a node is nothing but a token and the position of its first child:

    children of n  =  child_start[n] … child_start[n + 1] - 1

Every item is one leaf, on the last level. Codes that are shorter than the longest end with the
end-of-sequence token and are padded with the pad token, which is decoded at no cost, so that all
leaves are equally deep.

What a request allows acts through `alive`: a node is alive while some leaf below it is allowed.
A beam search over the alive nodes alone never runs into a dead end. Hence as many legal items come
back as were asked for, or else all of them.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from runtime.errors import BundleError

Int32 = NDArray[np.int32]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Trie:
    """The trie of a catalog's codes."""

    token: Int32
    """[nodes] the token that leads to a node; the root's is never read."""
    child_start: Int32
    """[nodes + 1] the first child of a node; leaves have none."""
    level_start: Int32
    """[levels + 2] the first node of each level, the root's included, and the end."""
    widths: Int32
    """[levels] the most children that a node of the level above has."""
    leaf_item: Int32
    """[items] the item of each leaf, in leaf order."""
    item_leaf: Int32
    """[items] the leaf of each item."""
    first_leaf: tuple[Int32, ...]
    """For each level below the root: the first leaf below each node."""

    @property
    def levels(self) -> int:
        """The length of the codes."""
        return len(self.widths)

    @property
    def nodes(self) -> int:
        """All nodes, the root and the leaves included."""
        return len(self.token)

    @property
    def items(self) -> int:
        """The number of leaves."""
        return len(self.leaf_item)

    @property
    def leaf_base(self) -> int:
        """The node number of leaf 0."""
        return int(self.level_start[-2])

    @property
    def nbytes(self) -> int:
        """The memory that the arrays take."""
        arrays = (self.token, self.child_start, self.leaf_item, self.item_leaf, *self.first_leaf)
        return sum(array.nbytes for array in arrays)

    @classmethod
    def build(cls, codes: Int32) -> "Trie":
        """Builds the trie of codes, one row an item. Shape [items, levels].

        Raises:
            BundleError: no items, or two items with the same code.
        """
        items, levels = codes.shape
        if items == 0 or levels == 0:
            raise BundleError("a trie needs at least one item with a code")
        order = np.lexsort(codes.T[::-1]).astype(np.int32)
        ordered = codes[order]
        first_leaf = tuple(_first_leaves(ordered))
        if len(first_leaf[-1]) != items:
            raise BundleError(_describe_collision(ordered, order))
        level_start = np.cumsum([0, 1, *map(len, first_leaf)], dtype=np.int64).astype(np.int32)
        token = np.concatenate([[0], *(ordered[f, i] for i, f in enumerate(first_leaf))])
        child_start, widths = _children(first_leaf, level_start)
        item_leaf = np.empty(items, dtype=np.int32)
        item_leaf[order] = np.arange(items, dtype=np.int32)
        return cls(
            token=token.astype(np.int32),
            child_start=child_start,
            level_start=level_start,
            widths=widths,
            leaf_item=order,
            item_leaf=item_leaf,
            first_leaf=first_leaf,
        )

    def alive(self, allowed: Mask | None, denied_items: Int32) -> Mask:
        """Marks the nodes that have an allowed leaf below them. Shape [nodes].

        Args:
            allowed: [items] the items that a filter lets through; None for all of them.
            denied_items: items to leave out, in any order, duplicates allowed. The cost of denying
                grows with their number, not with the catalog.
        """
        if allowed is None:
            alive = np.ones(self.nodes, dtype=np.bool_)
            self._deny(alive, denied_items)
            return alive
        leaves = allowed[self.leaf_item]
        leaves[self.item_leaf[denied_items]] = False
        alive = np.empty(self.nodes, dtype=np.bool_)
        alive[0] = leaves.any()
        for level, first in enumerate(self.first_leaf, start=1):
            nodes = slice(self.level_start[level], self.level_start[level + 1])
            alive[nodes] = np.logical_or.reduceat(leaves, first)
        return alive

    def _deny(self, alive: Mask, denied_items: Int32) -> None:
        """Kills leaves, and upward every node whose last alive child died."""
        leaves = np.unique(self.item_leaf[denied_items])
        alive[self.leaf_base + leaves] = False
        for level in range(self.levels - 1, 0, -1):
            if not len(leaves):
                return
            first = self.first_leaf[level - 1]
            parents, died = np.unique(
                np.searchsorted(first, leaves, side="right") - 1, return_counts=True
            )
            ends = np.append(first, self.items)[parents + 1]
            gone = parents[died == ends - first[parents]]
            alive[self.level_start[level] + gone] = False
            # A parent counts dead leaves, so those below nodes that live on need no further look.
            keep = np.isin(np.searchsorted(first, leaves, side="right") - 1, gone)
            leaves = leaves[keep]
        alive[0] = bool(alive[1 : self.level_start[2]].any())

    def prefixes(self, items: Int32) -> "PrefixTree":
        """The unique prefixes of some items' codes, for scoring them in one decoder pass."""
        return PrefixTree.build(self, items)


@dataclass(frozen=True)
class PrefixTree:
    """The part of a trie that leads to some items: what one decoder pass must read.

    Rows are the proper prefixes, the empty one first, each once; `T` of them. Item `c` is scored by
    adding up, over its levels, the log-probability of `target[c, l]` after row `path[c, l]`.
    """

    token: Int32
    """[T] the last token of each prefix; 0, the decoder's start token, for the empty one."""
    depth: Int32
    """[T] the length of each prefix."""
    sees: Mask
    """[T, T] whether a row attends to another: to itself and to the prefixes of it."""
    path: Int32
    """[items, levels] the row from which each token of an item's code is predicted."""
    target: Int32
    """[items, levels] the tokens of the codes."""

    @classmethod
    def build(cls, trie: Trie, items: Int32) -> "PrefixTree":
        """Builds the tree of some items. Shape of `items`: [items]."""
        leaves = trie.item_leaf[items]
        # [levels + 1, items]: the nodes on the way from the root to each leaf
        way = np.empty((trie.levels + 1, len(items)), dtype=np.int32)
        way[0] = 0
        for level, first in enumerate(trie.first_leaf, start=1):
            inside = np.searchsorted(first, leaves, side="right") - 1
            way[level] = trie.level_start[level] + inside
        nodes, rows = np.unique(way[:-1], return_inverse=True)
        path = rows.reshape(way[:-1].shape).astype(np.int32)
        depth = np.searchsorted(trie.level_start, nodes, side="right").astype(np.int32) - 1
        sees = np.zeros((len(nodes), len(nodes)), dtype=np.bool_)
        for below in range(trie.levels):
            for above in range(below + 1):
                sees[path[below], path[above]] = True
        return cls(
            token=np.where(nodes == 0, 0, trie.token[nodes]).astype(np.int32),
            depth=depth,
            sees=sees,
            path=path.T,
            target=trie.token[way[1:]].T,
        )


def _first_leaves(ordered: Int32) -> Iterator[Int32]:
    """Yields, level by level, the leaves at which a new prefix begins."""
    starts = np.zeros(len(ordered), dtype=np.bool_)
    starts[0] = True
    for column in ordered.T:
        starts[1:] |= column[1:] != column[:-1]
        yield np.flatnonzero(starts).astype(np.int32)


def _children(first_leaf: tuple[Int32, ...], level_start: Int32) -> tuple[Int32, Int32]:
    """Finds each node's first child, and the largest family of each level."""
    starts: list[NDArray[np.int64]] = [np.array([1])]
    for level, (above, below) in enumerate(pairwise(first_leaf), start=1):
        starts.append(level_start[level + 1] + np.searchsorted(below, above))
    nodes = int(level_start[-1])
    leaves = len(first_leaf[-1])
    child_start = np.concatenate([*starts, np.full(leaves + 1, nodes)]).astype(np.int32)
    sizes = np.diff(child_start)
    widths = [sizes[a:b].max() for a, b in pairwise(level_start[:-1])]
    return child_start, np.array(widths, dtype=np.int32)


def _describe_collision(ordered: Int32, order: Int32) -> str:
    same = np.flatnonzero((ordered[1:] == ordered[:-1]).all(axis=1))[0]
    return (
        f"items {order[same]} and {order[same + 1]} have the same code {ordered[same].tolist()}; "
        "every item needs a code of its own"
    )
