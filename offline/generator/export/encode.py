"""The encoder as an ONNX graph: what the decoder's layers attend to, once per request."""

from offline.generator.export.layers import T5Layers, T5Weights
from offline.generator.export.linear import Linears
from offline.tape import FLOAT, Tape


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
    for layer, cross in enumerate(layers.encode(max_tokens)):
        tape.output(cross.keys, f"keys_{layer}", FLOAT, layers.cross_shape)
        tape.output(cross.values, f"values_{layer}", FLOAT, layers.cross_shape)
    return tape
