"""What one decoder pass must read to score some items exactly: each prefix of their codes, once."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Int32 = NDArray[np.int32]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class PrefixTree:
    """The part of a trie that leads to some items.

    Rows are the proper prefixes, the empty one first, each once; `T` of them. Item `c` is scored by
    adding up, over its levels, the log-probability of going on from row `path[c, l]` to the node
    `child[c, l]`.
    """

    token: Int32
    """[T] the last token of each prefix; 0, the decoder's start token, for the empty one."""
    depth: Int32
    """[T] the length of each prefix."""
    node: Int32
    """[T] the node of the trie that each prefix leads to."""
    sees: Mask
    """[T, T] whether a row attends to another: to itself and to the prefixes of it."""
    path: Int32
    """[items, levels] the row from which each token of an item's code is predicted."""
    child: Int32
    """[items, levels] the nodes of the trie that these tokens lead to; -1 for one that is not to
    be counted."""

    @classmethod
    def build(cls, way: Int32, target: Int32) -> "PrefixTree":
        """Builds the tree of the ways to some leaves of a trie.

        Args:
            way: [levels + 1, items] the nodes from the root, which is 0, to each leaf.
            target: [levels, items] the tokens of the nodes below the root.
        """
        nodes, rows = np.unique(way[:-1], return_inverse=True)
        path = rows.reshape(way[:-1].shape).astype(np.int32)
        token, depth = np.zeros((2, len(nodes)), np.int32)
        sees = np.zeros((len(nodes), len(nodes)), np.bool_)
        for level, below in enumerate(path):
            depth[below] = level
            if level:
                token[below] = target[level - 1]
            for above in path[: level + 1]:
                sees[below, above] = True
        return cls(token, depth, nodes.astype(np.int32), sees, path.T, way[1:].T)
