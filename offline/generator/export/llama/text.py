"""How a decoder-only model writes text: one token more for each row of a batch, as a graph."""

from offline.generator.export.attention import MASKED, KeysValues, past_bias
from offline.generator.export.linear import Linears
from offline.generator.export.llama.layers import LlamaLayers, LlamaWeights
from offline.onnx_graph import FLOAT, INT64, Dim, OnnxGraphBuilder


def text_graph(model: LlamaWeights, linears: Linears) -> OnnxGraphBuilder:
    """Writes the graph of `text.onnx`: one step, as that of T5 (`t5/text.py`).

    A text goes on from its prompt, whose last token is the first `token` of its row. It was read by
    the prefill as well, and is hidden there; so each step, the first one too, is the same graph.

    Args:
        model: a decoder-only model.
        linears: the precision.
    """
    g = OnnxGraphBuilder()
    layers = LlamaLayers(g, model, linears)
    mask = g.input("attention_mask", INT64, ["batch", "tokens"])
    last = g.op("Sub", g.op("ReduceSum", mask, g.ints(1), keepdims=1), g.integer(1))
    token = g.input("token", INT64, ["batch"])
    written = g.input("written", INT64, ["batch"])
    prompt = [_declared(layers, "", "tokens", layer) for layer in range(model.layers)]
    past = [_declared(layers, "past_", "past", layer) for layer in range(model.layers)]
    bias = g.op("Concat", _prompt_bias(g, mask, last), past_bias(g, past[0].keys, written), axis=3)
    together = [
        KeysValues(
            g.op("Concat", read.keys, own.keys, axis=2),
            g.op("Concat", read.values, own.values, axis=2),
        )
        for read, own in zip(prompt, past, strict=True)
    ]
    position = g.add(last, g.unsqueeze(written, 1))
    rows = layers.embed(g.unsqueeze(token, 1))
    states, extended = layers.read(rows, position, bias, together)
    logits = layers.logits(g.op("Squeeze", states, g.ints(1)))
    g.expose(logits, "logits", FLOAT, ["batch", "words"])
    behind = g.unsqueeze(g.size(mask, 1), 0)
    shape: list[Dim] = ["batch", model.key_heads, "present", model.width]
    for layer, kept in enumerate(extended):
        for name, value in (("keys", kept.keys), ("values", kept.values)):
            own = g.op("Slice", value, behind, g.ints(2**62), g.ints(2))
            g.expose(own, f"present_{name}_{layer}", FLOAT, shape)
    return g


def _declared(layers: LlamaLayers, kind: str, axis: str, layer: int) -> KeysValues:
    shape: list[Dim] = ["batch", layers.model.key_heads, axis, layers.model.width]
    return KeysValues(
        layers.graph.input(f"{kind}keys_{layer}", FLOAT, shape),
        layers.graph.input(f"{kind}values_{layer}", FLOAT, shape),
    )


def _prompt_bias(g: OnnxGraphBuilder, mask: str, last: str) -> str:
    """[batch, 1, 1, tokens]: MASKED from a prompt's last token on."""
    seen = g.op("Less", g.unsqueeze(g.range(g.size(mask, 1)), 0), last)
    return g.unsqueeze(g.op("Where", seen, g.real(0.0), g.real(MASKED)), 1, 2)
