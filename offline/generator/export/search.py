"""The whole constrained beam search as one ONNX graph.

Level by level of the trie, one call decodes the beams of all requests, looks up the children of
each beam's node, drops those without an allowed leaf, and keeps the best. The trie is an input, so
the catalog may change without a new export.

Two things keep it fast. Beams are rows of their request: attention to the prompt is one product
with keys that are computed once. And the cache of the decoder is never reordered: every row that
was ever decoded stays where it is, and a beam attends to its ancestors through a mask, which is the
only thing that follows the beams around.
"""

from dataclasses import dataclass

from offline.generator.export.attention import MASKED
from offline.generator.export.backbone import Backbone, Decoder
from offline.generator.export.heads import DEAD
from offline.generator.export.linear import Linears
from offline.onnx_graph import BOOL, FLOAT, INT64, OnnxGraphBuilder


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
    backbone: Backbone, linears: Linears, *, levels: int, ends: bool
) -> OnnxGraphBuilder:
    """Writes the graph of `generate.onnx`.

    Inputs: `attention_mask` int64 [batch, tokens]; what `encode.onnx` returns; `trie_token` int32
    [nodes]; `trie_child_start` int32 [nodes + 1]; `trie_widths` int64 [levels]; `alive` bool
    [masks, nodes]; `alive_row` int64 [batch], the mask of each request; `beams` int64 [1].

    Outputs: `node` int64 [batch, found] leaves, best first; `score` float32 [batch, found], DEAD
    where there are fewer allowed items than beams.

    Args:
        backbone: the model.
        linears: the precision.
        levels: the length of the codes.
        ends: whether codes end with the end-of-sequence token, and may have different lengths.
    """
    graph = OnnxGraphBuilder()
    decoder = backbone.decoder(graph, linears, levels)
    alive = _declare_alive(graph)
    limit = graph.input("beams", INT64, [1])
    search = _Search(decoder, alive, limit, levels=levels, ends=ends)
    beams = search.start()
    past = None
    for level in range(levels):
        said, past = decoder.step(beams.token, beams.ancestors, past)
        beams = search.expand(beams, said, level)
    node, score = search.finish(beams)
    graph.output(node, "node", INT64, ["batch", "found"])
    graph.output(score, "score", FLOAT, ["batch", "found"])
    return graph


def _declare_alive(g: OnnxGraphBuilder) -> _Alive:
    alive = g.input("alive", BOOL, ["masks", "nodes"])
    row = g.input("alive_row", INT64, ["batch"])
    return _Alive(g.reshape(alive, -1), g.unsqueeze(g.mul(row, g.size(alive, 1)), 1, 2))


class _Search:
    def __init__(
        self, decoder: Decoder, alive: _Alive, limit: str, *, levels: int, ends: bool
    ) -> None:
        self.graph = decoder.graph
        self.head = decoder.head
        self.trie = decoder.head.trie
        self.start_token = decoder.start_token
        self.eos = decoder.eos_token
        self.alive = alive
        self.limit = limit
        self.levels = levels
        self.ends = ends
        self._ended_scores: list[str] = []
        self._ended_leaves: list[str] = []

    def start(self) -> _Beams:
        """One beam a request, at the root, where every code begins."""
        g = self.graph
        batch = g.op("Shape", "attention_mask", start=0, end=1)
        shape = g.op("Concat", batch, g.ints(1), axis=0)
        return _Beams(
            node=g.op("Expand", g.integer(0), shape),
            score=g.op("Expand", g.real(0.0), shape),
            ancestors=g.op("Expand", g.real(0.0), g.op("Concat", batch, g.ints(1, 1), axis=0)),
            token=g.op("Expand", g.integer(self.start_token), shape),
        )

    def expand(self, beams: _Beams, said: str, level: int) -> _Beams:
        """Replaces beams by the best of their allowed children."""
        g = self.graph
        width = g.op("Gather", self.trie.widths, g.integer(level), axis=0)
        children = self.trie.children(beams.node, width)
        child, token = children.node, children.token
        gain = self.head.gains(said, children)
        place = g.add(child, self.alive.offset)
        allowed = g.op("And", children.exists, g.op("Gather", self.alive.mask, place, axis=0))
        total = g.add(g.unsqueeze(beams.score, 2), gain)
        total = g.op("Where", allowed, total, g.real(DEAD))
        if self.ends:
            total = self._set_aside(child, token, total, level)
        score, chosen = self._best(g.reshape(total, 0, -1))
        node = g.op("GatherElements", g.reshape(child, 0, -1), chosen, axis=1)
        token = g.op("GatherElements", g.reshape(token, 0, -1), chosen, axis=1)
        parent = g.op("Div", chosen, g.size(total, 2))
        return _Beams(node, score, self._inherit(beams.ancestors, parent), token)

    def finish(self, beams: _Beams) -> tuple[str, str]:
        """The leaves that were found, best first, and their scores: both [batch, found]."""
        if not self.ends:
            return beams.node, beams.score
        g = self.graph
        score, chosen = self._best(g.op("Concat", *self._ended_scores, axis=1))
        leaves = g.op("Concat", *self._ended_leaves, axis=1)
        return g.op("GatherElements", leaves, chosen, axis=1), score

    def _set_aside(self, child: str, token: str, total: str, level: int) -> str:
        """Keeps the children that end a code, and takes them out of the running.

        So they do not narrow the search for longer codes: in `transformers`, too, a finished
        hypothesis leaves its beam free.
        """
        g = self.graph
        end = g.op("Equal", token, g.integer(self.eos))
        self._ended_scores.append(g.reshape(g.op("Where", end, total, g.real(DEAD)), 0, -1))
        leaf = child
        for _ in range(self.levels - 1 - level):  # padding: an only child, down to the leaf
            leaf = g.cast(g.op("Gather", self.trie.child_start, leaf, axis=0), INT64)
        self._ended_leaves.append(g.reshape(leaf, 0, -1))
        return g.op("Where", end, g.real(DEAD), total)

    def _best(self, scores: str) -> tuple[str, str]:
        """The best scores of each row, as many as there are beams, and where they stand."""
        g = self.graph
        keep = g.op("Min", self.limit, g.unsqueeze(g.size(scores, 1), 0))
        score, chosen = g.ops("TopK", scores, keep, outputs=2, axis=1)
        return score, chosen

    def _inherit(self, ancestors: str, parent: str) -> str:
        """Each new beam's ancestors are its parent's, and itself."""
        g = self.graph
        index = g.op(
            "Expand",
            g.unsqueeze(parent, 2),
            g.op("Concat", g.op("Shape", parent), g.unsqueeze(g.size(ancestors, 2), 0), axis=0),
        )
        inherited = g.op("GatherElements", ancestors, index, axis=1)
        beams = g.range(g.size(parent, 1))
        same = g.op("Equal", g.unsqueeze(beams, 0), g.unsqueeze(beams, 1))
        own = g.op("Where", same, g.real(0.0), g.real(MASKED))
        shape = g.op("Concat", g.op("Shape", parent), g.op("Shape", beams), axis=0)
        return g.op("Concat", inherited, g.op("Expand", own, shape), axis=2)
