"""What the score of a token is made of, as ONNX operators.

`TokenHead` is T5's: a softmax over the vocabulary. `ItemHead` is that of `ItemT5`: a softmax over
the children of a node, whose logits are the nodes' masses and what the decoder says about their
tokens. The search and the rerank ask either in the same way.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Final

from offline.generator.export.layers import T5Layers
from offline.tape import FLOAT, INT32, INT64, Tape

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

    tape: Tape
    token: str
    child_start: str
    widths: str

    @classmethod
    def declare(cls, t: Tape, levels: int) -> "TrieInputs":
        """Declares the inputs."""
        token = t.input("trie_token", INT32, ["nodes"])
        child_start = t.input("trie_child_start", INT32, ["nodes_and_one"])
        return cls(t, token, child_start, t.input("trie_widths", INT64, [levels]))

    def children(self, node: str, width: str) -> Children:
        """The children of nodes.

        Args:
            node: int64 [batch, nodes].
            width: int64 scalar, at least as many as any of them has.
        """
        t = self.tape
        start = t.cast(t.op("Gather", self.child_start, node, axis=0), INT64)
        after = t.add(node, t.integer(1))
        end = t.cast(t.op("Gather", self.child_start, after, axis=0), INT64)
        slot = t.add(t.unsqueeze(start, 2), t.range(width))
        exists = t.op("Less", slot, t.unsqueeze(end, 2))
        child = t.op("Where", exists, slot, t.integer(0))
        return Children(child, self.token_of(child), exists)

    def token_of(self, node: str) -> str:
        """The tokens that lead to nodes, int64."""
        return self.tape.cast(self.tape.op("Gather", self.token, node, axis=0), INT64)


class Head(ABC):
    """How tokens are read, and how what follows them is scored."""

    def __init__(self, layers: T5Layers, trie: TrieInputs) -> None:
        self.layers = layers
        self.tape = layers.tape
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
        return self.tape.op("LogSoftmax", self.layers.logits(states), axis=-1)

    def gains(self, said: str, children: Children) -> str:
        """See `Head`."""
        return self.tape.op("GatherElements", said, children.token, axis=2)

    def path_gains(self, said: str, node: str, path: str, child: str) -> str:  # noqa: ARG002
        """See `Head`."""
        return _at(self.tape, said, path, self.trie.token_of(child))


class ItemHead(Head):
    """A softmax over the children of a node; declares the inputs `state` and `mass`."""

    def __init__(self, layers: T5Layers, trie: TrieInputs) -> None:
        super().__init__(layers, trie)
        t = self.tape
        self._state = t.input("state", FLOAT, ["batch", int(layers.config.d_model)])
        self._mass = t.input("mass", FLOAT, ["batch", "nodes"])

    def rows(self, token: str, *, root: bool) -> str:
        """See `Head`."""
        t, rows = self.tape, self.layers.embed(token)
        if not root:
            return rows
        # The first row is the start token and the encoder's last state.
        first = t.op("Equal", t.range(t.size(token, 1)), t.integer(0))
        state = t.op("Where", t.unsqueeze(first, 1), t.unsqueeze(self._state, 1), t.real(0.0))
        return t.add(rows, state)

    def said(self, states: str) -> str:
        """See `Head`."""
        return self.layers.logits(states)

    def gains(self, said: str, children: Children) -> str:
        """See `Head`."""
        logits = self._logits(said, children)
        return self.tape.op("LogSoftmax", logits, axis=-1)

    def path_gains(self, said: str, node: str, path: str, child: str) -> str:
        """See `Head`."""
        t = self.tape
        width = t.op("ReduceMax", self.trie.widths, keepdims=0)
        total = self._log_sum(self._logits(said, self.trie.children(node, width)))
        own = t.add(
            _at(t, said, path, self._column(self.trie.token_of(child))), self._masses(child)
        )
        flat = t.op("GatherElements", total, t.reshape(path, 0, -1), axis=1)
        return t.op("Sub", own, t.op("Reshape", flat, t.op("Shape", path)))

    def _logits(self, said: str, children: Children) -> str:
        """The logits of children, [batch, rows, width]; DEAD where there is none."""
        t = self.tape
        decoder = t.op("GatherElements", said, self._column(children.token), axis=2)
        logits = t.add(decoder, self._masses(children.node))
        return t.op("Where", children.exists, logits, t.real(DEAD))

    def _column(self, token: str) -> str:
        """Where a token of a code stands in what `said` returns; any place for other tokens."""
        t = self.tape
        first = t.integer(self.layers.model.first_code_token)
        return t.op("Max", t.op("Sub", token, first), t.integer(0))

    def _masses(self, node: str) -> str:
        """The masses of nodes [batch, …], in the same shape."""
        t = self.tape
        flat = t.op("GatherElements", self._mass, t.reshape(node, 0, -1), axis=1)
        return t.op("Reshape", flat, t.op("Shape", node))

    def _log_sum(self, logits: str) -> str:
        """The logarithm of the sum of the exponentials of each row, [batch, rows]."""
        t = self.tape
        largest = t.op("ReduceMax", logits, t.ints(2), keepdims=1)
        powers = t.op("Exp", t.op("Sub", logits, largest))
        total = t.op("Log", t.op("ReduceSum", powers, t.ints(2), keepdims=0))
        return t.add(total, t.op("Squeeze", largest, t.ints(2)))


def _at(t: Tape, table: str, row: str, column: str) -> str:
    """Entries of [batch, rows, columns] at rows and columns of [batch, …]."""
    place = t.add(t.mul(row, t.size(table, 2)), column)
    flat = t.op("GatherElements", t.reshape(table, 0, -1), t.reshape(place, 0, -1), axis=1)
    return t.op("Reshape", flat, t.op("Shape", place))
