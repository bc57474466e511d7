"""The encoder as an ONNX graph: what the decoder's layers attend to, once per request."""

import math
from collections.abc import Sequence

import numpy as np

from offline.generator.export.attention import KeysValues
from offline.generator.export.linear import Linears
from offline.generator.export.t5.layers import T5Layers, T5Weights
from offline.generator.items.model import SEEN_SCALE
from offline.onnx_graph import DOUBLE, FLOAT, INT32, INT64, OnnxGraphBuilder


def encode_graph(model: T5Weights, linears: Linears, *, max_tokens: int) -> OnnxGraphBuilder:
    """Writes the graph of `encode.onnx`.

    Inputs: `input_ids` and `attention_mask` int64 [batch, tokens].

    Outputs: for each decoder layer, `keys_<layer>` and `values_<layer>`, float32 [batch, heads,
    tokens, width].

    Args:
        model: a T5.
        linears: the precision.
        max_tokens: the most prompt tokens.
    """
    graph = OnnxGraphBuilder()
    layers = T5Layers(graph, model, linears)
    _output(layers, layers.encode(max_tokens))
    return graph


def encode_items_graph(model: T5Weights, linears: Linears, *, max_tokens: int) -> OnnxGraphBuilder:
    """Writes the graph of `encode.onnx` for a model that reads whole items.

    Inputs: `input_ids` and `attention_mask` int64 [batch, tokens], where ids from the size of the
    vocabulary on are items, by position in the catalog; `seen` int64 [batch, seen], positions of
    what each history holds, -1 where there are fewer; `item_vectors` float32 [positions, d_model],
    of unit norm; and of the trie `leaf_item` int32 [leaves], `first_leaf` and `last_leaf` int32
    [inner nodes].

    Outputs: as `encode_graph`, and `state` float32 [batch, d_model], the encoder's last state, and
    `mass` float32 [batch, nodes], the logarithm of the summed likelihood of the items below each
    node of the trie.

    Args:
        model: the T5 of an `ItemT5`, with its `query` and `seen`.
        linears: the precision.
        max_tokens: the most positions of a prompt.
    """
    g = OnnxGraphBuilder()
    layers = T5Layers(g, model, linears)
    ids = g.input("input_ids", INT64, ["batch", "tokens"])
    mask = g.input("attention_mask", INT64, ["batch", "tokens"])
    vectors = g.input("item_vectors", FLOAT, ["positions", int(model.config.d_model)])
    rows = _embed(g, layers, ids, vectors)
    encoded = layers.encode_rows(rows, layers.causal_bias(g.size(ids, 1), max_tokens))
    last = g.op("Sub", g.op("ReduceSum", mask, g.ints(1), keepdims=1), g.integer(1))
    state = g.op("GatherND", encoded, last, batch_dims=1)
    _output(layers, layers.cross(encoded))
    g.output(state, "state", FLOAT, ["batch", int(model.config.d_model)])
    g.output(_masses(g, _scores(g, model, state, vectors)), "mass", FLOAT, ["batch", "nodes"])
    return g


def _output(layers: T5Layers, cross: Sequence[KeysValues]) -> None:
    for layer, attended in enumerate(cross):
        layers.graph.output(attended.keys, f"keys_{layer}", FLOAT, layers.cross_shape)
        layers.graph.output(attended.values, f"values_{layer}", FLOAT, layers.cross_shape)


def _embed(g: OnnxGraphBuilder, layers: T5Layers, ids: str, vectors: str) -> str:
    """Words by their embeddings and items by their vectors, [batch, tokens, d_model]."""
    size = int(layers.config.vocab_size)
    words = layers.embed(g.op("Min", ids, g.integer(size - 1)))
    item = g.op("Sub", ids, g.integer(size))
    rows = g.op("Gather", vectors, g.op("Max", item, g.integer(0)), axis=0)
    rows = g.mul(rows, g.real(math.sqrt(layers.config.d_model)))
    is_item = g.unsqueeze(g.op("GreaterOrEqual", item, g.integer(0)), 2)
    return g.op("Where", is_item, rows, words)


def _scores(g: OnnxGraphBuilder, model: T5Weights, state: str, vectors: str) -> str:
    """How likely each item is, [batch, positions], before the decoder says anything."""
    seen = g.input("seen", INT64, ["batch", "seen"])
    weight = g.weight("query.weight", model.arrays["query.weight"].T.copy())
    query = g.add(g.matmul(state, weight), g.weight("query.bias", model.arrays["query.bias"]))
    scores = g.op("Gemm", query, vectors, transB=1)
    count = g.size(scores, 1)
    place = g.op("Where", g.op("Less", seen, g.integer(0)), count, seen)
    shape = g.op("Concat", g.op("Shape", scores, start=0, end=1), g.ints(1), axis=0)
    wider = g.op("Concat", scores, g.op("Expand", g.real(0.0), shape), axis=1)  # for the absent
    again = g.real(SEEN_SCALE * float(model.arrays["seen"]))
    raised = g.add(g.op("GatherElements", wider, place, axis=1), again)
    wider = g.op("ScatterElements", wider, place, raised, axis=1)
    return g.op("Slice", wider, g.ints(0), g.unsqueeze(count, 0), g.ints(1))


def _masses(g: OnnxGraphBuilder, scores: str) -> str:
    """The logarithm of the summed likelihood below each node, [batch, nodes].

    Leaves in the order of the trie are consecutive below each node, so a sum is a difference of
    two running sums. These are in float64: what a small node holds must not drown in what stands
    before it.
    """
    leaf_item = g.input("leaf_item", INT32, ["leaves"])
    first = g.input("first_leaf", INT32, ["inner_nodes"])
    last = g.input("last_leaf", INT32, ["inner_nodes"])
    leaves = g.op("Gather", scores, leaf_item, axis=1)
    largest = g.op("ReduceMax", leaves, g.ints(1), keepdims=1)
    powers = g.op("Exp", g.cast(g.op("Sub", leaves, largest), DOUBLE))
    running = g.op("CumSum", powers, g.integer(1))
    upto = g.op("Gather", running, last, axis=1)
    before = g.op(
        "Sub", g.op("Gather", running, first, axis=1), g.op("Gather", powers, first, axis=1)
    )
    least = g.constant(np.array(np.finfo(np.float64).tiny))
    total = g.op("Log", g.op("Max", g.op("Sub", upto, before), least))
    inner = g.add(g.cast(total, FLOAT), largest)
    return g.op("Concat", inner, leaves, axis=1)
