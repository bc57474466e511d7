"""What the score of a token is made of, as ONNX operators.

`TokenHead` is a softmax over the vocabulary. `ItemHead` is that of `ItemT5`: a softmax over
the children of a node, whose logits are the nodes' masses and what the decoder says about their
tokens. The search and the rerank ask either in the same way.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Final, Protocol

from offline.onnx_graph import FLOAT, INT32, INT64, OnnxGraphBuilder

DEAD: Final = -1e30
"""The score of what is not allowed: below every sum of log-probabilities."""


@dataclass(frozen=True)
class Children:
    """The children of some nodes, as many a node as the widest has."""

    node: str
    """int64 [batch, nodes, width]; 0 where there is no child."""
    token: str
    """int64 [batch, nodes, width] the tokens that lead to them."""
    exists: str
    """bool [batch, nodes, width]"""


@dataclass(frozen=True)
class TrieInputs:
    """The arrays of the trie as inputs of a graph; see `services.generator.decoding.trie.Trie`."""

    graph: OnnxGraphBuilder
    token: str
    child_start: str
    widths: str

    @classmethod
    def declare(cls, g: OnnxGraphBuilder, levels: int) -> "TrieInputs":
        """Declares the inputs."""
        token = g.input("trie_token", INT32, ["nodes"])
        child_start = g.input("trie_child_start", INT32, ["nodes_and_one"])
        return cls(g, token, child_start, g.input("trie_widths", INT64, [levels]))

    def children(self, node: str, width: str) -> Children:
        """The children of nodes.

        Args:
            node: int64 [batch, nodes].
            width: int64 scalar, at least as many as any of them has.
        """
        g = self.graph
        start = g.cast(g.op("Gather", self.child_start, node, axis=0), INT64)
        after = g.add(node, g.integer(1))
        end = g.cast(g.op("Gather", self.child_start, after, axis=0), INT64)
        slot = g.add(g.unsqueeze(start, 2), g.range(width))
        exists = g.op("Less", slot, g.unsqueeze(end, 2))
        child = g.op("Where", exists, slot, g.integer(0))
        return Children(child, self.token_of(child), exists)

    def token_of(self, node: str) -> str:
        """The tokens that lead to nodes, int64."""
        return self.graph.cast(self.graph.op("Gather", self.token, node, axis=0), INT64)


class Layers(Protocol):
    """The first and the last layer of a backbone, as they are written into a graph."""

    graph: OnnxGraphBuilder
    config: Any
    """Of the model."""

    @property
    def first_code_token(self) -> int:
        """The first token that `logits` speak about."""

    def embed(self, tokens: str) -> str:
        """Token ids [...] to vectors [..., channels]."""

    def logits(self, normed: str) -> str:
        """What is said about each token of the head, [batch, rows, tokens]."""


class Head(ABC):
    """How tokens are read, and how what follows them is scored."""

    def __init__(self, layers: Layers, trie: TrieInputs) -> None:
        self.layers = layers
        self.graph = layers.graph
        self.trie = trie

    @abstractmethod
    def rows(self, token: str, *, root: bool) -> str:
        """Embeds tokens [batch, rows] to [batch, rows, d_model].

        Args:
            token: int64 [batch, rows]; the first of them is the start token if `root` says so.
            root: whether the first row is the start of a code.
        """

    @abstractmethod
    def said(self, states: str) -> str:
        """What the decoder's states [batch, rows, d_model] say about tokens, [batch, rows, …]."""

    @abstractmethod
    def gains(self, said: str, children: Children) -> str:
        """The log-probabilities of the children of each row's node, [batch, rows, width]."""

    @abstractmethod
    def path_gains(self, said: str, node: str, path: str, child: str) -> str:
        """The log-probability of each step along given ways, [batch, ways, steps].

        Args:
            said: see `said`.
            node: int64 [batch, rows] where each row stands in the trie.
            path: int64 [batch, ways, steps] the row that each step is taken from.
            child: int64 [batch, ways, steps] the node that it leads to.
        """


class TokenHead(Head):
    """A softmax over the vocabulary."""

    def rows(self, token: str, *, root: bool) -> str:  # noqa: ARG002 - the start is a token
        """See `Head`."""
        return self.layers.embed(token)

    def said(self, states: str) -> str:
        """See `Head`."""
        return self.graph.op("LogSoftmax", self.layers.logits(states), axis=-1)

    def gains(self, said: str, children: Children) -> str:
        """See `Head`."""
        return self.graph.op("GatherElements", said, children.token, axis=2)

    def path_gains(self, said: str, node: str, path: str, child: str) -> str:  # noqa: ARG002
        """See `Head`."""
        return _at(self.graph, said, path, self.trie.token_of(child))


class ItemHead(Head):
    """A softmax over the children of a node; declares the inputs `state` and `mass`."""

    def __init__(self, layers: Layers, trie: TrieInputs) -> None:
        super().__init__(layers, trie)
        g = self.graph
        self._state = g.input("state", FLOAT, ["batch", int(layers.config.d_model)])
        self._mass = g.input("mass", FLOAT, ["batch", "nodes"])

    def rows(self, token: str, *, root: bool) -> str:
        """See `Head`."""
        g, rows = self.graph, self.layers.embed(token)
        if not root:
            return rows
        # The first row is the start token and the encoder's last state.
        first = g.op("Equal", g.range(g.size(token, 1)), g.integer(0))
        state = g.op("Where", g.unsqueeze(first, 1), g.unsqueeze(self._state, 1), g.real(0.0))
        return g.add(rows, state)

    def said(self, states: str) -> str:
        """See `Head`."""
        return self.layers.logits(states)

    def gains(self, said: str, children: Children) -> str:
        """See `Head`."""
        logits = self._logits(said, children)
        return self.graph.op("LogSoftmax", logits, axis=-1)

    def path_gains(self, said: str, node: str, path: str, child: str) -> str:
        """See `Head`."""
        g = self.graph
        width = g.op("ReduceMax", self.trie.widths, keepdims=0)
        total = self._log_sum(self._logits(said, self.trie.children(node, width)))
        own = g.add(
            _at(g, said, path, self._column(self.trie.token_of(child))), self._masses(child)
        )
        flat = g.op("GatherElements", total, g.reshape(path, 0, -1), axis=1)
        return g.op("Sub", own, g.op("Reshape", flat, g.op("Shape", path)))

    def _logits(self, said: str, children: Children) -> str:
        """The logits of children, [batch, rows, width]; DEAD where there is none."""
        g = self.graph
        decoder = g.op("GatherElements", said, self._column(children.token), axis=2)
        logits = g.add(decoder, self._masses(children.node))
        return g.op("Where", children.exists, logits, g.real(DEAD))

    def _column(self, token: str) -> str:
        """Where a token of a code stands in what `said` returns; any place for other tokens."""
        g = self.graph
        first = g.integer(self.layers.first_code_token)
        return g.op("Max", g.op("Sub", token, first), g.integer(0))

    def _masses(self, node: str) -> str:
        """The masses of nodes [batch, …], in the same shape."""
        g = self.graph
        flat = g.op("GatherElements", self._mass, g.reshape(node, 0, -1), axis=1)
        return g.op("Reshape", flat, g.op("Shape", node))

    def _log_sum(self, logits: str) -> str:
        """The logarithm of the sum of the exponentials of each row, [batch, rows]."""
        g = self.graph
        largest = g.op("ReduceMax", logits, g.ints(2), keepdims=1)
        powers = g.op("Exp", g.op("Sub", logits, largest))
        total = g.op("Log", g.op("ReduceSum", powers, g.ints(2), keepdims=0))
        return g.add(total, g.op("Squeeze", largest, g.ints(2)))


def _at(g: OnnxGraphBuilder, table: str, row: str, column: str) -> str:
    """Entries of [batch, rows, columns] at rows and columns of [batch, …]."""
    place = g.add(g.mul(row, g.size(table, 2)), column)
    flat = g.op("GatherElements", g.reshape(table, 0, -1), g.reshape(place, 0, -1), axis=1)
    return g.op("Reshape", flat, g.op("Shape", place))
