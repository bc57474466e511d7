"""The exact scores of given items as one ONNX graph.

The codes of a shortlist share their beginnings. The decoder reads each unique prefix once, all of
them in one pass, each attending to the prefixes that it continues; an item's score is then a sum of
log-probabilities along its way. Nothing is pruned, so the scores are exact.
"""

from offline.generator.export.backbone import Backbone
from offline.generator.export.linear import Linears
from offline.onnx_graph import BOOL, FLOAT, INT64, OnnxGraphBuilder


def rerank_graph(backbone: Backbone, linears: Linears, *, levels: int) -> OnnxGraphBuilder:
    """Writes the graph of `rerank.onnx`.

    Inputs: `attention_mask` int64 [batch, tokens]; what `encode.onnx` returns; the arrays of the
    trie, as in `search_graph`; the fields of the `PrefixTree` of `services.generator.decoding`:
    `token`, `depth` and `node` int64 [batch, rows], `sees` bool [batch, rows, rows], `path` and
    `child` int64 [batch, items, levels].

    Output: `score` float32 [batch, items], the log-probability of each item's code.

    Args:
        backbone: the model.
        linears: the precision.
        levels: the length of the codes.
    """
    g = OnnxGraphBuilder()
    decoder = backbone.decoder(g, linears, levels)
    head = decoder.head
    token = g.input("token", INT64, ["batch", "rows"])
    depth = g.input("depth", INT64, ["batch", "rows"])
    node = g.input("node", INT64, ["batch", "rows"])
    sees = g.input("sees", BOOL, ["batch", "rows", "rows"])
    path = g.input("path", INT64, ["batch", "items", levels])
    child = g.input("child", INT64, ["batch", "items", levels])
    said = decoder.prefixes(token, depth, sees)
    counted = g.op("GreaterOrEqual", child, g.integer(0))
    present = g.op("Max", child, g.integer(0))
    padded = g.op("Equal", head.trie.token_of(present), g.integer(decoder.pad_token))
    counted = g.op("And", counted, g.op("Not", padded))
    gain = head.path_gains(said, node, path, present)
    gain = g.op("Where", counted, gain, g.real(0.0))
    g.output(g.op("ReduceSum", gain, g.ints(2), keepdims=0), "score", FLOAT, ["batch", "items"])
    return g
