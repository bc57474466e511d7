"""The encoder as an ONNX graph: what the decoder's layers attend to, once per request."""

import math
from collections.abc import Sequence

import numpy as np

from offline.generator.export.layers import KeysValues, T5Layers, T5Weights
from offline.generator.export.linear import Linears
from offline.generator.items.scores import SEEN_SCALE
from offline.tape import DOUBLE, FLOAT, INT32, INT64, Tape


def encode_graph(model: T5Weights, linears: Linears, *, max_tokens: int) -> Tape:
    """Writes the graph of `encode.onnx`.

    Inputs: `input_ids` and `attention_mask` int64 [batch, tokens].

    Outputs: for each decoder layer, `keys_<layer>` and `values_<layer>`, float32 [batch, heads,
    tokens, width].

    Args:
        model: a T5.
        linears: the precision.
        max_tokens: the most prompt tokens.
    """
    tape = Tape()
    layers = T5Layers(tape, model, linears)
    _output(layers, layers.encode(max_tokens))
    return tape


def encode_items_graph(model: T5Weights, linears: Linears, *, max_tokens: int) -> Tape:
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
    t = Tape()
    layers = T5Layers(t, model, linears)
    ids = t.input("input_ids", INT64, ["batch", "tokens"])
    mask = t.input("attention_mask", INT64, ["batch", "tokens"])
    vectors = t.input("item_vectors", FLOAT, ["positions", int(model.config.d_model)])
    rows = _embed(t, layers, ids, vectors)
    encoded = layers.encode_rows(rows, layers.causal_bias(t.size(ids, 1), max_tokens))
    last = t.op("Sub", t.op("ReduceSum", mask, t.ints(1), keepdims=1), t.integer(1))
    state = t.op("GatherND", encoded, last, batch_dims=1)
    _output(layers, layers.cross(encoded))
    t.output(state, "state", FLOAT, ["batch", int(model.config.d_model)])
    t.output(_masses(t, _scores(t, model, state, vectors)), "mass", FLOAT, ["batch", "nodes"])
    return t


def _output(layers: T5Layers, cross: Sequence[KeysValues]) -> None:
    for layer, attended in enumerate(cross):
        layers.tape.output(attended.keys, f"keys_{layer}", FLOAT, layers.cross_shape)
        layers.tape.output(attended.values, f"values_{layer}", FLOAT, layers.cross_shape)


def _embed(t: Tape, layers: T5Layers, ids: str, vectors: str) -> str:
    """Words by their embeddings and items by their vectors, [batch, tokens, d_model]."""
    size = int(layers.config.vocab_size)
    words = layers.embed(t.op("Min", ids, t.integer(size - 1)))
    item = t.op("Sub", ids, t.integer(size))
    rows = t.op("Gather", vectors, t.op("Max", item, t.integer(0)), axis=0)
    rows = t.mul(rows, t.real(math.sqrt(layers.config.d_model)))
    is_item = t.unsqueeze(t.op("GreaterOrEqual", item, t.integer(0)), 2)
    return t.op("Where", is_item, rows, words)


def _scores(t: Tape, model: T5Weights, state: str, vectors: str) -> str:
    """How likely each item is, [batch, positions], before the decoder says anything."""
    seen = t.input("seen", INT64, ["batch", "seen"])
    weight = t.weight("query.weight", model.arrays["query.weight"].T.copy())
    query = t.add(t.matmul(state, weight), t.weight("query.bias", model.arrays["query.bias"]))
    scores = t.op("Gemm", query, vectors, transB=1)
    count = t.size(scores, 1)
    place = t.op("Where", t.op("Less", seen, t.integer(0)), count, seen)
    shape = t.op("Concat", t.op("Shape", scores, start=0, end=1), t.ints(1), axis=0)
    wider = t.op("Concat", scores, t.op("Expand", t.real(0.0), shape), axis=1)  # for the absent
    again = t.real(SEEN_SCALE * float(model.arrays["seen"]))
    raised = t.add(t.op("GatherElements", wider, place, axis=1), again)
    wider = t.op("ScatterElements", wider, place, raised, axis=1)
    return t.op("Slice", wider, t.ints(0), t.unsqueeze(count, 0), t.ints(1))


def _masses(t: Tape, scores: str) -> str:
    """The logarithm of the summed likelihood below each node, [batch, nodes].

    Leaves in the order of the trie are consecutive below each node, so a sum is a difference of
    two running sums. These are in float64: what a small node holds must not drown in what stands
    before it.
    """
    leaf_item = t.input("leaf_item", INT32, ["leaves"])
    first = t.input("first_leaf", INT32, ["inner_nodes"])
    last = t.input("last_leaf", INT32, ["inner_nodes"])
    leaves = t.op("Gather", scores, leaf_item, axis=1)
    largest = t.op("ReduceMax", leaves, t.ints(1), keepdims=1)
    powers = t.op("Exp", t.cast(t.op("Sub", leaves, largest), DOUBLE))
    running = t.op("CumSum", powers, t.integer(1))
    upto = t.op("Gather", running, last, axis=1)
    before = t.op(
        "Sub", t.op("Gather", running, first, axis=1), t.op("Gather", powers, first, axis=1)
    )
    least = t.constant(np.array(np.finfo(np.float64).tiny))
    total = t.op("Log", t.op("Max", t.op("Sub", upto, before), least))
    inner = t.add(t.cast(total, FLOAT), largest)
    return t.op("Concat", inner, leaves, axis=1)
