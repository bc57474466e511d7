"""Where the nodes of a trie stand in a picture: a column for each level, a row for each leaf."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from console.pages.trie import Leaf, Node, Trie

ROW: Final = 30
COLUMN: Final = 220
STRAIGHT: Final = 100
"""Of a column: there the token is written, above the line."""
MARGIN: Final = 24
TITLES: Final = 400
THICKEST: Final = 14.0
"""Of the line to a node, in pixels, for probability 1."""


@dataclass(frozen=True)
class Spot:
    """A node, drawn."""

    x: float
    y: float
    from_x: float
    from_y: float
    """Where the node before it stands."""
    level: int
    """Of the trie, from 1."""
    width: float
    """Of the line to it: by the square root of its probability, so that small ones are seen."""
    node: Node

    @property
    def leaf(self) -> Leaf | None:
        """The item at its end, if it is one."""
        return self.node.leaf

    @property
    def line(self) -> str:
        """The curve from the node before, as SVG's path."""
        bend = self.x - STRAIGHT
        middle = (self.from_x + bend) / 2
        return (
            f"M{self.from_x:.1f} {self.from_y:.1f} C{middle:.1f} {self.from_y:.1f} "
            f"{middle:.1f} {self.y:.1f} {bend:.1f} {self.y:.1f} H{self.x:.1f}"
        )


@dataclass(frozen=True)
class Drawing:
    """A picture of a trie, in pixels."""

    width: int
    height: int
    root_y: float
    spots: Sequence[Spot]


def drawn(trie: Trie) -> Drawing:
    """Lays a trie out."""
    rows = _leaves(trie.roots)
    height = MARGIN * 2 + ROW * max(1, rows)
    centers: dict[int, float] = {}
    _place(trie.roots, 0, centers)
    root_y = sum(centers[id(node)] for node in trie.roots) / max(1, len(trie.roots)) or MARGIN
    spots = list(_spots(trie.roots, centers, MARGIN, root_y, 1))
    return Drawing(MARGIN * 2 + COLUMN * len(trie.levels) + TITLES, height, root_y, spots)


def _leaves(nodes: Sequence[Node]) -> int:
    return sum(_leaves(node.children) if node.children else 1 for node in nodes)


def _place(nodes: Sequence[Node], row: int, centers: dict[int, float]) -> int:
    """Gives each leaf a row, and each other node the middle of those below it."""
    for node in nodes:
        if node.children:
            row = _place(node.children, row, centers)
            below = [centers[id(child)] for child in node.children]
            centers[id(node)] = (below[0] + below[-1]) / 2
        else:
            centers[id(node)] = MARGIN + ROW * (row + 0.5)
            row += 1
    return row


def _spots(
    nodes: Sequence[Node], centers: dict[int, float], from_x: float, from_y: float, level: int
) -> Iterator[Spot]:
    for node in nodes:
        x, y = from_x + COLUMN, centers[id(node)]
        width = max(1.0, THICKEST * math.sqrt(math.exp(node.total)))
        yield Spot(x, y, from_x, from_y, level, width, node)
        yield from _spots(node.children, centers, x, y, level + 1)
