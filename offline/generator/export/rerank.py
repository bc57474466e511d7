"""The exact scores of given items as one ONNX graph.

The codes of a shortlist share their beginnings. The decoder reads each unique prefix once, all of
them in one pass, each attending to the prefixes that it continues; an item's score is then a sum of
log-probabilities along its way. Nothing is pruned, so the scores are exact.
"""

import numpy as np

from offline.generator.export.heads import Head, TokenHead, TrieInputs
from offline.generator.export.layers import MASKED, T5Layers, T5Weights
from offline.generator.export.linear import Linears
from offline.tape import BOOL, FLOAT, INT64, Tape


def rerank_graph(
    model: T5Weights, linears: Linears, *, levels: int, kind: type[Head] = TokenHead
) -> Tape:
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
    t = Tape()
    layers = T5Layers(t, model, linears)
    padding, cross = layers.declare_padding(), layers.declare_cross()
    head = kind(layers, TrieInputs.declare(t, levels))
    token = t.input("token", INT64, ["batch", "rows"])
    depth = t.input("depth", INT64, ["batch", "rows"])
    node = t.input("node", INT64, ["batch", "rows"])
    sees = t.input("sees", BOOL, ["batch", "rows", "rows"])
    path = t.input("path", INT64, ["batch", "items", levels])
    child = t.input("child", INT64, ["batch", "items", levels])
    bias = _bias(t, layers, depth, sees, levels)
    states, _ = layers.decode(head.rows(token, root=True), bias, cross, padding)
    counted = t.op("GreaterOrEqual", child, t.integer(0))
    present = t.op("Max", child, t.integer(0))
    padded = t.op("Equal", head.trie.token_of(present), t.integer(int(layers.config.pad_token_id)))
    counted = t.op("And", counted, t.op("Not", padded))
    gain = head.path_gains(head.said(states), node, path, present)
    gain = t.op("Where", counted, gain, t.real(0.0))
    t.output(t.op("ReduceSum", gain, t.ints(2), keepdims=0), "score", FLOAT, ["batch", "items"])
    return t


def _bias(t: Tape, layers: T5Layers, depth: str, sees: str, levels: int) -> str:
    """[batch, heads, rows, rows]: by difference in depth; masked where a row must not look."""
    back = t.op("Sub", t.unsqueeze(depth, 2), t.unsqueeze(depth, 1))
    near = t.op("Clip", back, t.integer(0), t.integer(levels - 1))  # others are masked anyway
    table = t.constant(layers.decoder_position_bias[:levels].astype(np.float32))
    bias = t.op("Transpose", t.op("Gather", table, near, axis=0), perm=[0, 3, 1, 2])
    return t.op("Where", t.unsqueeze(sees, 1), bias, t.real(MASKED))
