"""The exact scores of given items as one ONNX graph.

The codes of a shortlist share their beginnings. The decoder reads each unique prefix once, all of
them in one pass, each attending to the prefixes that it continues; an item's score is then a sum of
log-probabilities along its way. Nothing is pruned, so the scores are exact.
"""

import numpy as np

from offline.generator.export.heads import Head, TokenHead, TrieInputs
from offline.generator.export.layers import MASKED, T5Layers, T5Weights
from offline.generator.export.linear import Linears
from offline.onnx_graph import BOOL, FLOAT, INT64, OnnxGraphBuilder


def rerank_graph(
    model: T5Weights, linears: Linears, *, levels: int, kind: type[Head] = TokenHead
) -> OnnxGraphBuilder:
    """Writes the graph of `rerank.onnx`.

    Inputs: `attention_mask` int64 [batch, tokens]; what `encode.onnx` returns; the arrays of the
    trie, as in `search_graph`; the fields of the `PrefixTree` of `services.generator.decoding`:
    `token`, `depth` and `node` int64 [batch, rows], `sees` bool [batch, rows, rows], `path` and
    `child` int64 [batch, items, levels].

    Output: `score` float32 [batch, items], the log-probability of each item's code.

    Args:
        model: a T5.
        linears: the precision.
        levels: the length of the codes.
        kind: what a token's score is made of.
    """
    g = OnnxGraphBuilder()
    layers = T5Layers(g, model, linears)
    padding, cross = layers.declare_padding(), layers.declare_cross()
    head = kind(layers, TrieInputs.declare(g, levels))
    token = g.input("token", INT64, ["batch", "rows"])
    depth = g.input("depth", INT64, ["batch", "rows"])
    node = g.input("node", INT64, ["batch", "rows"])
    sees = g.input("sees", BOOL, ["batch", "rows", "rows"])
    path = g.input("path", INT64, ["batch", "items", levels])
    child = g.input("child", INT64, ["batch", "items", levels])
    bias = _bias(g, layers, depth, sees, levels)
    states, _ = layers.decode(head.rows(token, root=True), bias, cross, padding)
    counted = g.op("GreaterOrEqual", child, g.integer(0))
    present = g.op("Max", child, g.integer(0))
    padded = g.op("Equal", head.trie.token_of(present), g.integer(int(layers.config.pad_token_id)))
    counted = g.op("And", counted, g.op("Not", padded))
    gain = head.path_gains(head.said(states), node, path, present)
    gain = g.op("Where", counted, gain, g.real(0.0))
    g.output(g.op("ReduceSum", gain, g.ints(2), keepdims=0), "score", FLOAT, ["batch", "items"])
    return g


def _bias(g: OnnxGraphBuilder, layers: T5Layers, depth: str, sees: str, levels: int) -> str:
    """[batch, heads, rows, rows]: by difference in depth; masked where a row must not look."""
    back = g.op("Sub", g.unsqueeze(depth, 2), g.unsqueeze(depth, 1))
    near = g.op("Clip", back, g.integer(0), g.integer(levels - 1))  # others are masked anyway
    table = g.constant(layers.decoder_position_bias[:levels].astype(np.float32))
    bias = g.op("Transpose", g.op("Gather", table, near, axis=0), perm=[0, 3, 1, 2])
    return g.op("Where", g.unsqueeze(sees, 1), bias, g.real(MASKED))
