"""The whole constrained beam search as one ONNX graph.

Level by level of the trie, one call decodes the beams of all requests, looks up the children of
each beam's node, drops those without an allowed leaf, and keeps the best. The trie is an input, so
the catalog may change without a new export.

Two things keep it fast. Beams are rows of their request: attention to the encoder is one product
with keys that are computed once. And the cache of the decoder is never reordered: every row that
was ever decoded stays where it is, and a beam attends to its ancestors through a mask, which is the
only thing that follows the beams around.
"""

from dataclasses import dataclass

import numpy as np

from offline.generator.export.heads import DEAD, Head, TokenHead, TrieInputs
from offline.generator.export.layers import MASKED, T5Layers, T5Weights
from offline.generator.export.linear import Linears
from offline.tape import BOOL, FLOAT, INT64, Tape


@dataclass(frozen=True)
class _Beams:
    """The beams at one level."""

    node: str
    """int64 [batch, beams] where each stands in the trie."""
    score: str
    """[batch, beams] sums of log-probabilities."""
    ancestors: str
    """[batch, beams, rows] 0 for the decoded rows that a beam descends from, MASKED for others."""
    token: str
    """int64 [batch, beams] the last token of each."""


@dataclass(frozen=True)
class _Alive:
    """What a request allows."""

    mask: str
    """bool, the masks of all nodes, one after the other."""
    offset: str
    """int64 [batch, 1, 1] where each request's mask begins."""


def search_graph(
    model: T5Weights, linears: Linears, *, levels: int, ends: bool, kind: type[Head] = TokenHead
) -> Tape:
    """Writes the graph of `generate.onnx`.

    Inputs: `attention_mask` int64 [batch, tokens]; what `encode.onnx` returns; `trie_token` int32
    [nodes]; `trie_child_start` int32 [nodes + 1]; `trie_widths` int64 [levels]; `alive` bool
    [masks, nodes]; `alive_row` int64 [batch], the mask of each request; `beams` int64 [1].

    Outputs: `node` int64 [batch, found] leaves, best first; `score` float32 [batch, found], DEAD
    where there are fewer allowed items than beams.

    Args:
        model: a T5.
        linears: the precision.
        levels: the length of the codes.
        ends: whether codes end with the end-of-sequence token, and may have different lengths.
        kind: what a token's score is made of; one of items takes `state` and `mass` too.
    """
    tape = Tape()
    layers = T5Layers(tape, model, linears)
    if levels > len(layers.decoder_position_bias):
        raise ValueError(f"codes have {levels} tokens, the model tells {levels - 1} apart")
    padding, cross = layers.declare_padding(), layers.declare_cross()
    trie, alive = TrieInputs.declare(tape, levels), _declare_alive(tape)
    head = kind(layers, trie)
    limit = tape.input("beams", INT64, [1])
    search = _Search(tape, head, trie, alive, limit, levels=levels, ends=ends)
    beams = search.start()
    past = None
    row_counts: list[str] = []
    for level in range(levels):
        row_counts.append(tape.size(beams.token, 1))
        bias = search.bias(beams, row_counts)
        rows = head.rows(beams.token, root=level == 0)
        states, past = layers.decode(rows, bias, cross, padding, past)
        beams = search.expand(beams, head.said(states), level)
    node, score = search.finish(beams)
    tape.output(node, "node", INT64, ["batch", "found"])
    tape.output(score, "score", FLOAT, ["batch", "found"])
    return tape


def _declare_alive(t: Tape) -> _Alive:
    alive = t.input("alive", BOOL, ["masks", "nodes"])
    row = t.input("alive_row", INT64, ["batch"])
    return _Alive(t.reshape(alive, -1), t.unsqueeze(t.mul(row, t.size(alive, 1)), 1, 2))


class _Search:
    def __init__(
        self,
        tape: Tape,
        head: Head,
        trie: TrieInputs,
        alive: _Alive,
        limit: str,
        *,
        levels: int,
        ends: bool,
    ) -> None:
        self.tape = tape
        self.head = head
        self.layers = head.layers
        self.trie = trie
        self.alive = alive
        self.limit = limit
        self.levels = levels
        self.ends = ends
        self.eos = int(head.layers.config.eos_token_id)
        self._ended_scores: list[str] = []
        self._ended_leaves: list[str] = []

    def start(self) -> _Beams:
        """One beam a request, at the root, about to read the decoder's start token."""
        t = self.tape
        batch = t.op("Shape", "attention_mask", start=0, end=1)
        shape = t.op("Concat", batch, t.ints(1), axis=0)
        start_token = int(self.layers.config.decoder_start_token_id)
        return _Beams(
            node=t.op("Expand", t.integer(0), shape),
            score=t.op("Expand", t.real(0.0), shape),
            ancestors=t.op("Expand", t.real(0.0), t.op("Concat", batch, t.ints(1, 1), axis=0)),
            token=t.op("Expand", t.integer(start_token), shape),
        )

    def bias(self, beams: _Beams, row_counts: list[str]) -> str:
        """[batch, heads, beams, rows]: by how far back a row lies; masked if no ancestor."""
        t = self.tape
        table = self.layers.decoder_position_bias
        parts = []
        for level, count in enumerate(row_counts):
            back = len(row_counts) - 1 - level
            column = t.constant(table[back].reshape(1, -1, 1, 1).astype(np.float32))
            shape = t.op("Concat", t.ints(1, len(table[back]), 1), t.unsqueeze(count, 0), axis=0)
            parts.append(t.op("Expand", column, shape))
        position = t.op("Concat", *parts, axis=3)
        return t.add(position, t.unsqueeze(beams.ancestors, 1))

    def expand(self, beams: _Beams, said: str, level: int) -> _Beams:
        """Replaces beams by the best of their allowed children."""
        t = self.tape
        width = t.op("Gather", self.trie.widths, t.integer(level), axis=0)
        children = self.trie.children(beams.node, width)
        child, token = children.node, children.token
        gain = self.head.gains(said, children)
        place = t.add(child, self.alive.offset)
        allowed = t.op("And", children.exists, t.op("Gather", self.alive.mask, place, axis=0))
        total = t.add(t.unsqueeze(beams.score, 2), gain)
        total = t.op("Where", allowed, total, t.real(DEAD))
        if self.ends:
            total = self._set_aside(child, token, total, level)
        score, chosen = self._best(t.reshape(total, 0, -1))
        node = t.op("GatherElements", t.reshape(child, 0, -1), chosen, axis=1)
        token = t.op("GatherElements", t.reshape(token, 0, -1), chosen, axis=1)
        parent = t.op("Div", chosen, t.size(total, 2))
        return _Beams(node, score, self._inherit(beams.ancestors, parent), token)

    def finish(self, beams: _Beams) -> tuple[str, str]:
        """The leaves that were found, best first, and their scores: both [batch, found]."""
        if not self.ends:
            return beams.node, beams.score
        t = self.tape
        score, chosen = self._best(t.op("Concat", *self._ended_scores, axis=1))
        leaves = t.op("Concat", *self._ended_leaves, axis=1)
        return t.op("GatherElements", leaves, chosen, axis=1), score

    def _set_aside(self, child: str, token: str, total: str, level: int) -> str:
        """Keeps the children that end a code, and takes them out of the running.

        So they do not narrow the search for longer codes: in `transformers`, too, a finished
        hypothesis leaves its beam free.
        """
        t = self.tape
        end = t.op("Equal", token, t.integer(self.eos))
        self._ended_scores.append(t.reshape(t.op("Where", end, total, t.real(DEAD)), 0, -1))
        leaf = child
        for _ in range(self.levels - 1 - level):  # padding: an only child, down to the leaf
            leaf = t.cast(t.op("Gather", self.trie.child_start, leaf, axis=0), INT64)
        self._ended_leaves.append(t.reshape(leaf, 0, -1))
        return t.op("Where", end, t.real(DEAD), total)

    def _best(self, scores: str) -> tuple[str, str]:
        """The best scores of each row, as many as there are beams, and where they stand."""
        t = self.tape
        keep = t.op("Min", self.limit, t.unsqueeze(t.size(scores, 1), 0))
        score, chosen = t.ops("TopK", scores, keep, outputs=2, axis=1)
        return score, chosen

    def _inherit(self, ancestors: str, parent: str) -> str:
        """Each new beam's ancestors are its parent's, and itself."""
        t = self.tape
        index = t.op(
            "Expand",
            t.unsqueeze(parent, 2),
            t.op("Concat", t.op("Shape", parent), t.unsqueeze(t.size(ancestors, 2), 0), axis=0),
        )
        inherited = t.op("GatherElements", ancestors, index, axis=1)
        beams = t.range(t.size(parent, 1))
        same = t.op("Equal", t.unsqueeze(beams, 0), t.unsqueeze(beams, 1))
        own = t.op("Where", same, t.real(0.0), t.real(MASKED))
        shape = t.op("Concat", t.op("Shape", parent), t.op("Shape", beams), axis=0)
        return t.op("Concat", inherited, t.op("Expand", own, shape), axis=2)
