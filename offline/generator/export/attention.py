"""Attention as one ONNX operator, and what may be attended to."""

from dataclasses import dataclass
from typing import Final

from offline.onnx_graph import FLOAT, INT64, OnnxGraphBuilder

MASKED: Final = -1e9
"""Added to what must not be attended to; finite, so that a row that sees nothing is not NaN."""


@dataclass(frozen=True)
class KeysValues:
    """Keys and values of attention, in the shape that the backbone keeps them in."""

    keys: str
    values: str


def attend(
    g: OnnxGraphBuilder, query: str, attended: KeysValues, bias: str, *, heads: int, scale: float
) -> str:
    """What rows gather from what they attend to, [batch, rows, heads · width].

    Args:
        g: the graph to write into.
        query: [batch, rows, heads · width].
        attended: [batch, heads, attended, width], or [batch, attended, heads · width].
        bias: [batch or 1, heads or 1, rows, attended] added to the products.
        heads: how many.
        scale: what the products are multiplied with.
    """
    return g.op(
        "MultiHeadAttention",
        query,
        attended.keys,
        attended.values,
        "",
        "",
        bias,
        domain="com.microsoft",
        num_heads=heads,
        scale=scale,
    )


def padding_bias(g: OnnxGraphBuilder) -> str:
    """Declares the input `attention_mask`; [batch, 1, 1, tokens] MASKED behind a prompt."""
    mask = g.input("attention_mask", INT64, ["batch", "tokens"])
    absent = g.op("Sub", g.real(1.0), g.cast(mask, FLOAT))
    return g.mul(g.unsqueeze(absent, 1, 2), g.real(MASKED))


def past_bias(g: OnnxGraphBuilder, past: str, written: str) -> str:
    """What a step of text may see of what was written before, and of itself.

    Args:
        g: the graph to write into.
        past: keys, [batch, heads, past, width], each row's on the right.
        written: int64 [batch] how many each row has.

    Returns:
        [batch, 1, 1, past + 1]: MASKED left of a row's first.
    """
    before = g.size(past, 2)
    back = g.op("Sub", before, g.range(g.add(before, g.integer(1))))  # past, …, 1, 0
    absent = g.op("Greater", g.unsqueeze(back, 0), g.unsqueeze(written, 1))
    return g.unsqueeze(g.op("Where", absent, g.real(MASKED), g.real(0.0)), 1, 2)
