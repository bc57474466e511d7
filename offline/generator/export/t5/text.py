"""How a T5 writes text: one token more for each row of a batch, as an ONNX graph."""

import numpy as np

from offline.generator.export.attention import KeysValues, padding_bias, past_bias
from offline.generator.export.linear import Linear, Linears
from offline.generator.export.t5.layers import WORDS, T5Layers, T5Weights
from offline.onnx_graph import FLOAT, INT64, Dim, OnnxGraphBuilder


def text_graph(
    model: T5Weights, linears: Linears, *, max_tokens: int, from_state: bool
) -> OnnxGraphBuilder:
    """Writes the graph of `text.onnx`: one step of the decoder.

    The rows of a batch may belong to different calls and stand at different steps. What each has
    written before stands on the right, so that distances are the same for all, and a row's padding
    on the left is masked.

    Inputs: `attention_mask` int64 [batch, tokens]; what `encode.onnx` returns; `token` int64
    [batch], the last token of each row, at first the start token; `written` int64 [batch], how
    many tokens each row has read before; and for each layer `past_keys_<layer>` and
    `past_values_<layer>`, float32 [batch, heads, past, width].

    Outputs: `logits` float32 [batch, words], and `present_keys_<layer>` and
    `present_values_<layer>`, which are `past` with this step behind it.

    Args:
        model: a T5.
        linears: the precision.
        max_tokens: that a text has at most.
        from_state: whether the start token is added to the encoder's last state, `state`.
    """
    g = OnnxGraphBuilder()
    layers = T5Layers(g, model, linears)
    padding = padding_bias(g)
    cross = layers.declare_cross()
    token = g.input("token", INT64, ["batch"])
    written = g.input("written", INT64, ["batch"])
    past = _declare_past(layers)
    rows = layers.embed(g.unsqueeze(token, 1))
    if from_state:
        rows = g.add(rows, _state_at_start(g, written, int(model.config.d_model)))
    bias = _bias(layers, past[0], written, max_tokens)
    states, present = layers.decode(rows, bias, cross, padding, past, by_head=True)
    logits = linears.product(g, g.op("Squeeze", states, g.ints(1)), _head(model))
    g.expose(logits, "logits", FLOAT, ["batch", "words"])
    shape: list[Dim] = ["batch", layers.heads, "present", layers.width]
    for layer, attended in enumerate(present):
        g.expose(attended.keys, f"present_keys_{layer}", FLOAT, shape)
        g.expose(attended.values, f"present_values_{layer}", FLOAT, shape)
    return g


def _declare_past(layers: T5Layers) -> list[KeysValues]:
    shape: list[Dim] = ["batch", layers.heads, "past", layers.width]
    return [
        KeysValues(
            layers.graph.input(f"past_keys_{layer}", FLOAT, shape),
            layers.graph.input(f"past_values_{layer}", FLOAT, shape),
        )
        for layer in range(layers.decoder_layers)
    ]


def _state_at_start(g: OnnxGraphBuilder, written: str, width: int) -> str:
    """[batch, 1, d_model] what the first row of a text is told beside its token."""
    state = g.input("state", FLOAT, ["batch", width])
    starts = g.cast(g.op("Equal", written, g.integer(0)), FLOAT)
    return g.unsqueeze(g.mul(state, g.unsqueeze(starts, 1)), 1)


def _bias(layers: T5Layers, past: KeysValues, written: str, max_tokens: int) -> str:
    """[batch, heads, 1, past + 1]: by how far a token lies back; MASKED left of a row's first."""
    g = layers.graph
    before = g.size(past.keys, 2)
    back = g.op("Sub", before, g.range(g.add(before, g.integer(1))))  # past, …, 1, 0
    table = g.constant(layers.bias_back(max_tokens).astype(np.float32))
    by_distance = g.op("Transpose", g.op("Gather", table, back, axis=0), perm=[1, 0])
    return g.add(g.unsqueeze(by_distance, 0, 2), past_bias(g, past.keys, written))


def _head(model: T5Weights) -> Linear:
    return model.linear(WORDS if f"{WORDS}.weight" in model.arrays else "lm_head")
