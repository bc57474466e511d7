"""The part of a catalog's trie that some items span, with the probabilities on it."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Leaf:
    """An item, at the end of the path that its code is."""

    item_id: str
    tokens: tuple[tuple[str, float], ...]
    """The tokens of its code, each with its log-probability after those before it."""
    rank: int | None
    """Its place in the list, from 1; None where it is not in it."""
    fate: str
    """`kept`, or why it is not in the list: `pruned` by the filter, or `seen` before."""

    @property
    def score(self) -> float:
        """The log-probability of the whole code."""
        return sum(log_probability for _, log_probability in self.tokens)


@dataclass
class Node:
    """A prefix of codes."""

    text: str
    """Its last token."""
    log_probability: float
    """Of that token after those before it."""
    total: float
    """Of the whole prefix."""
    children: list["Node"] = field(default_factory=list)
    leaf: Leaf | None = None

    @property
    def alive(self) -> bool:
        """Whether an item of the list is below."""
        if self.leaf is not None:
            return self.leaf.fate == "kept"
        return any(child.alive for child in self.children)


@dataclass(frozen=True)
class Level:
    """All prefixes of one length."""

    depth: int
    """From 1."""
    nodes: int
    pruned: int
    """Those below which no item of the list is."""
    share: float
    """The probability that they have together, of 1 that all codes have."""
    kept_share: float
    """The same of those below which an item of the list is."""


@dataclass(frozen=True)
class Trie:
    """Paths from the root, most probable first."""

    roots: Sequence[Node]
    levels: Sequence[Level]

    @classmethod
    def of(cls, leaves: Sequence[Leaf]) -> "Trie":
        """The trie that the codes of some items make."""
        root = Node("", 0.0, 0.0)
        for leaf in sorted(leaves, key=lambda leaf: -leaf.score):
            _insert(root, leaf)
        return cls(root.children, list(_levels(root)))


def _insert(root: Node, leaf: Leaf) -> None:
    node = root
    for text, log_probability in leaf.tokens:
        found = next((child for child in node.children if child.text == text), None)
        if found is None:
            found = Node(text, log_probability, node.total + log_probability)
            node.children.append(found)
        node = found
    node.leaf = leaf


def _levels(root: Node) -> Iterator[Level]:
    nodes, depth = root.children, 1
    while nodes:
        kept = [node for node in nodes if node.alive]
        yield Level(
            depth=depth,
            nodes=len(nodes),
            pruned=len(nodes) - len(kept),
            share=sum(math.exp(node.total) for node in nodes),
            kept_share=sum(math.exp(node.total) for node in kept),
        )
        nodes, depth = [child for node in nodes for child in node.children], depth + 1
