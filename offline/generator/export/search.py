"""The whole constrained beam search as one ONNX graph.

Level by level of the trie, one call decodes the beams of all requests, looks up the children of
each beam's node, drops those without an allowed leaf, and keeps the best. The trie is an input, so
the catalog may change without a new export.

Two things keep it fast. Beams are rows of their request: attention to the prompt is one product
with keys that are computed once. And the cache of the decoder is never reordered: every row that
was ever decoded stays where it is, and a beam attends to its ancestors through a mask, which is the
only thing that follows the beams around.

A request may want several lists, each with a mask of its own. What a beam means depends on its
tokens alone, so a beam that several lists keep is decoded once, and each list keeps as many beams
as it would keep alone.

Log-probabilities only fall along a way, so the best beam that a list gave up bounds the scores of
all items that the list missed: that is its third output.
"""

from dataclasses import dataclass

from offline.generator.export.attention import MASKED
from offline.generator.export.backbone import Backbone, Decoder
from offline.generator.export.heads import DEAD
from offline.generator.export.linear import Linears
from offline.onnx_graph import BOOL, FLOAT, INT64, OnnxGraphBuilder


@dataclass(frozen=True)
class _Beams:
    """The beams at one level: those of all lists of a request, each once."""

    node: str
    """int64 [batch, beams] where each stands in the trie."""
    score: str
    """[batch, lists, beams] sums of log-probabilities; DEAD where a list did not keep the beam."""
    ancestors: str
    """[batch, beams, rows] 0 for the decoded rows that a beam descends from, MASKED for others."""
    token: str
    """int64 [batch, beams] the last token of each."""


@dataclass(frozen=True)
class _Alive:
    """What a list allows."""

    mask: str
    """bool, the masks of all nodes, one after the other."""
    offset: str
    """int64 [batch, lists, 1, 1] where each list's mask begins."""
    lists: str
    """int64 [2] requests, and lists of each."""


def search_graph(
    backbone: Backbone, linears: Linears, *, levels: int, ends: bool
) -> OnnxGraphBuilder:
    """Writes the graph of `generate.onnx`.

    Inputs: `attention_mask` int64 [batch, tokens]; what `encode.onnx` returns; `trie_token` int32
    [nodes]; `trie_child_start` int32 [nodes + 1]; `trie_widths` int64 [levels]; `alive` bool
    [masks, nodes]; `alive_row` int64 [batch, lists], the mask of each list; `beams` int64 [1] of
    each list; `results` int64 [1], how many leaves each list returns at most.

    Outputs: `node` int64 [batch, lists, found] leaves, best first; `score` float32 [batch, lists,
    found], DEAD where there are fewer allowed items; `missed` float32 [batch, lists], what no leaf
    that the search did not come to can score more than; DEAD where it came to all.

    Args:
        backbone: the model.
        linears: the precision.
        levels: the length of the codes.
        ends: whether codes end with the end-of-sequence token, and may have different lengths.
    """
    graph = OnnxGraphBuilder()
    decoder = backbone.decoder(graph, linears, levels)
    search = _Search(decoder, _declare_alive(graph), levels=levels, ends=ends)
    beams, past = search.start(), None
    for level in range(levels - 1):
        said, past = decoder.step(beams.token, beams.ancestors, past)
        beams = search.expand(beams, said, level)
    said, _ = decoder.step(beams.token, beams.ancestors, past)
    node, score, missed = search.finish(beams, said)
    graph.output(node, "node", INT64, ["batch", "lists", "found"])
    graph.output(score, "score", FLOAT, ["batch", "lists", "found"])
    graph.output(missed, "missed", FLOAT, ["batch", "lists"])
    return graph


def _declare_alive(g: OnnxGraphBuilder) -> _Alive:
    alive = g.input("alive", BOOL, ["masks", "nodes"])
    row = g.input("alive_row", INT64, ["batch", "lists"])
    offset = g.unsqueeze(g.mul(row, g.size(alive, 1)), 2, 3)
    return _Alive(g.reshape(alive, -1), offset, g.op("Shape", row))


class _Search:
    def __init__(self, decoder: Decoder, alive: _Alive, *, levels: int, ends: bool) -> None:
        self.graph = g = decoder.graph
        self.head = decoder.head
        self.trie = decoder.head.trie
        self.start_token = decoder.start_token
        self.eos = decoder.eos_token
        self.alive = alive
        self.beams = g.input("beams", INT64, [1])
        self.results = g.input("results", INT64, [1])
        self.levels = levels
        self.ends = ends
        self._ended: list[tuple[str, str]] = []
        """Scores [batch, lists, children] and leaves [batch, children] of codes that have ended."""
        self._pruned: list[str] = []
        """[batch, lists, 0 or 1] the best score that each level gave up."""

    def start(self) -> _Beams:
        """One beam a request, at the root, where every code begins."""
        g = self.graph
        batch = g.op("Shape", "attention_mask", start=0, end=1)
        shape = g.op("Concat", batch, g.ints(1), axis=0)
        return _Beams(
            node=g.op("Expand", g.integer(0), shape),
            score=g.op("Expand", g.real(0.0), g.op("Concat", self.alive.lists, g.ints(1), axis=0)),
            ancestors=g.op("Expand", g.real(0.0), g.op("Concat", batch, g.ints(1, 1), axis=0)),
            token=g.op("Expand", g.integer(self.start_token), shape),
        )

    def expand(self, beams: _Beams, said: str, level: int) -> _Beams:
        """Replaces the beams of each list by the best of their allowed children."""
        g = self.graph
        child, token, total, width = self._children(beams, said, level)
        place, score = self._together(self._best(total))
        return _Beams(
            node=g.op("GatherElements", child, place, axis=1),
            score=score,
            ancestors=self._inherit(beams.ancestors, g.op("Div", place, width)),
            token=g.op("GatherElements", token, place, axis=1),
        )

    def finish(self, beams: _Beams, said: str) -> tuple[str, str, str]:
        """The leaves that each list found, best first, their scores, and what it missed."""
        g = self.graph
        child, _, total, _ = self._children(beams, said, self.levels - 1)
        if self.ends:
            child = g.op("Concat", *(leaves for _, leaves in self._ended), axis=1)
            total = g.op("Concat", *(scores for scores, _ in self._ended), axis=2)
        score, place = g.ops("TopK", total, self._at_most(self.results, total), outputs=2, axis=2)
        leaf = g.op("GatherElements", child, g.reshape(place, 0, -1), axis=1)
        none = g.op("Expand", g.real(DEAD), g.op("Concat", self.alive.lists, g.ints(1), axis=0))
        missed = g.op("Concat", none, *self._pruned, axis=2)
        return (
            g.op("Reshape", leaf, g.op("Shape", place)),
            score,
            g.op("ReduceMax", missed, g.ints(2), keepdims=0),
        )

    def _children(self, beams: _Beams, said: str, level: int) -> tuple[str, str, str, str]:
        """What may follow the beams: nodes and tokens [batch, children], scores [batch, lists,
        children], DEAD where a list does not allow it, and how many children a beam has."""
        g = self.graph
        width = g.op("Gather", self.trie.widths, g.integer(level), axis=0)
        children = self.trie.children(beams.node, width)
        gain = self.head.gains(said, children)
        place = g.add(g.unsqueeze(children.node, 1), self.alive.offset)
        allowed = g.op("Gather", self.alive.mask, place, axis=0)
        allowed = g.op("And", g.unsqueeze(children.exists, 1), allowed)
        total = g.add(g.unsqueeze(beams.score, 3), g.unsqueeze(gain, 1))
        total = g.op("Where", allowed, total, g.real(DEAD))
        child, token = g.reshape(children.node, 0, -1), g.reshape(children.token, 0, -1)
        total = g.reshape(total, 0, 0, -1)
        if self.ends:
            total = self._set_aside(child, token, total, level)
        return child, token, total, width

    def _set_aside(self, child: str, token: str, total: str, level: int) -> str:
        """Keeps the children that end a code, and takes them out of the running.

        So they do not narrow the search for longer codes: in `transformers`, too, a finished
        hypothesis leaves its beam free.
        """
        g = self.graph
        end = g.unsqueeze(g.op("Equal", token, g.integer(self.eos)), 1)
        leaf = child
        for _ in range(self.levels - 1 - level):  # padding: an only child, down to the leaf
            leaf = g.cast(g.op("Gather", self.trie.child_start, leaf, axis=0), INT64)
        self._ended.append((g.op("Where", end, total, g.real(DEAD)), leaf))
        return g.op("Where", end, g.real(DEAD), total)

    def _best(self, scores: str) -> str:
        """The scores [batch, lists, children] of those that a list keeps, as many as it has beams,
        and DEAD for others; notes the best of these."""
        g = self.graph
        more = g.add(self.beams, g.ints(1))
        score, place = g.ops("TopK", scores, self._at_most(more, scores), outputs=2, axis=2)
        self._pruned.append(g.op("Slice", score, self.beams, more, g.ints(2)))
        kept = (g.ints(0), self.beams, g.ints(2))
        score, place = g.op("Slice", score, *kept), g.op("Slice", place, *kept)
        none = g.op("Expand", g.real(DEAD), g.op("Shape", scores))
        return g.op("ScatterElements", none, place, score, axis=2)

    def _together(self, kept: str) -> tuple[str, str]:
        """What the lists of a request keep, each once: places [batch, beams], best first, and the
        scores [batch, lists, beams]."""
        g = self.graph
        best = g.op("ReduceMax", kept, g.ints(1), keepdims=0)
        some = g.cast(g.op("Greater", best, g.real(DEAD / 2)), INT64)
        most = g.op("ReduceMax", g.op("ReduceSum", some, g.ints(1), keepdims=0), keepdims=1)
        _, place = g.ops("TopK", best, g.op("Max", most, g.ints(1)), outputs=2, axis=1)
        shape = g.op("Concat", self.alive.lists, g.op("Shape", place, start=1, end=2), axis=0)
        of_each = g.op("Expand", g.unsqueeze(place, 1), shape)
        return place, g.op("GatherElements", kept, of_each, axis=2)

    def _at_most(self, limit: str, scores: str) -> str:
        return self.graph.op("Min", limit, self.graph.op("Shape", scores, start=2, end=3))

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
