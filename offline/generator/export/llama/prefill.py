"""The prompt as an ONNX graph: its keys and values, and what may come first, once per request."""

from offline.generator.export.attention import MASKED
from offline.generator.export.linear import Linears
from offline.generator.export.llama.layers import LlamaLayers, LlamaWeights
from offline.onnx_graph import FLOAT, INT64, OnnxGraphBuilder


def prefill_graph(model: LlamaWeights, linears: Linears) -> OnnxGraphBuilder:
    """Writes the graph of `encode.onnx`.

    Inputs: `input_ids` and `attention_mask` int64 [batch, tokens].

    Outputs: for each layer, `keys_<layer>` and `values_<layer>`, float32 [batch, key heads, tokens,
    width]; and `first` float32 [batch, vocabulary], the log-probabilities of a code's first token.

    Args:
        model: a decoder-only model.
        linears: the precision.
    """
    g = OnnxGraphBuilder()
    layers = LlamaLayers(g, model, linears)
    ids = g.input("input_ids", INT64, ["batch", "tokens"])
    mask = g.input("attention_mask", INT64, ["batch", "tokens"])
    # Padding stands behind a prompt, so whoever looks back only does not see it.
    length = g.size(ids, 1)
    position = g.op("Expand", g.range(length), g.op("Shape", ids))
    last = g.op("Sub", g.op("ReduceSum", mask, g.ints(1), keepdims=1), g.integer(1))
    state, cache = layers.read(layers.embed(ids), position, _causal(g, length), last=last)
    first = g.op("LogSoftmax", layers.logits(g.op("Squeeze", state, g.ints(1))), axis=-1)
    for layer, kept in enumerate(cache):
        g.output(kept.keys, f"keys_{layer}", FLOAT, layers.cache_shape)
        g.output(kept.values, f"values_{layer}", FLOAT, layers.cache_shape)
    g.output(first, "first", FLOAT, ["batch", int(model.config.vocab_size)])
    return g


def _causal(g: OnnxGraphBuilder, length: str) -> str:
    """[1, 1, positions, positions]: MASKED for what lies ahead."""
    positions = g.range(length)
    ahead = g.op("Greater", g.unsqueeze(positions, 0), g.unsqueeze(positions, 1))
    return g.unsqueeze(g.op("Where", ahead, g.real(MASKED), g.real(0.0)), 0, 1)
