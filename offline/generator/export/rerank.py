"""The exact scores of given items as one ONNX graph.

The codes of a shortlist share their beginnings. The decoder reads each unique prefix once, all of
them in one pass, each attending to the prefixes that it continues; an item's score is then a sum of
log-probabilities along its way. Nothing is pruned, so the scores are exact.
"""

import numpy as np

from offline.generator.export.layers import MASKED, T5Layers, T5Weights
from offline.generator.export.linear import Linears
from offline.tape import BOOL, FLOAT, INT64, Tape


def rerank_graph(model: T5Weights, linears: Linears, *, levels: int) -> Tape:
    """Writes the graph of `rerank.onnx`.

    Inputs: `attention_mask` int64 [batch, tokens]; what `encode.onnx` returns; the fields of
    `services.generator.trie.PrefixTree`: `token` and `depth` int64 [batch, rows], `sees` bool
    [batch, rows, rows], `path` and `target` int64 [batch, items, levels].

    Output: `score` float32 [batch, items], the log-probability of each item's code.

    Args:
        model: a T5.
        linears: the precision.
        levels: the length of the codes.
    """
    t = Tape()
    layers = T5Layers(t, model, linears)
    padding, cross = layers.declare_padding(), layers.declare_cross()
    token = t.input("token", INT64, ["batch", "rows"])
    depth = t.input("depth", INT64, ["batch", "rows"])
    sees = t.input("sees", BOOL, ["batch", "rows", "rows"])
    path = t.input("path", INT64, ["batch", "items", levels])
    target = t.input("target", INT64, ["batch", "items", levels])
    bias = _bias(t, layers, depth, sees, levels)
    log_probabilities, _ = layers.decode(token, bias, cross, padding)
    score = _sum_along(t, log_probabilities, path, target, int(layers.config.pad_token_id))
    t.output(score, "score", FLOAT, ["batch", "items"])
    return t


def _bias(t: Tape, layers: T5Layers, depth: str, sees: str, levels: int) -> str:
    """[batch, heads, rows, rows]: by difference in depth; masked where a row must not look."""
    back = t.op("Sub", t.unsqueeze(depth, 2), t.unsqueeze(depth, 1))
    near = t.op("Clip", back, t.integer(0), t.integer(levels - 1))  # others are masked anyway
    table = t.constant(layers.decoder_position_bias[:levels].astype(np.float32))
    bias = t.op("Transpose", t.op("Gather", table, near, axis=0), perm=[0, 3, 1, 2])
    return t.op("Where", t.unsqueeze(sees, 1), bias, t.real(MASKED))


def _sum_along(t: Tape, log_probabilities: str, path: str, target: str, pad: int) -> str:
    """Adds up each item's log-probabilities; padding adds nothing."""
    vocabulary = t.size(log_probabilities, 2)
    place = t.reshape(t.add(t.mul(path, vocabulary), target), 0, -1)
    gain = t.op("GatherElements", t.reshape(log_probabilities, 0, -1), place, axis=1)
    gain = t.op("Reshape", gain, t.op("Shape", target))
    gain = t.op("Where", t.op("Equal", target, t.integer(pad)), t.real(0.0), gain)
    return t.op("ReduceSum", gain, t.ints(2), keepdims=0)
