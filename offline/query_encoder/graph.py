"""The encoder as it is served: one query, after the whole of a history.

The same numbers as `QueryEncoder` gives at the last item, with what serving does not need left out:
the last block reads all items and computes one. It is written with ONNX Runtime's own operators for
rotation and attention, since what a tracer makes of them is a hundred small operators, which take
as long as the products do.
"""

import math
from typing import Any, Final, cast

import onnx
from numpy.typing import NDArray
from torch import Tensor, nn

from offline.onnx_graph import FLOAT, INT32, INT64, OnnxGraphBuilder
from offline.query_encoder.model import Block, QueryEncoder, rotation

_RUNTIME: Final = "com.microsoft"


def query_graph(encoder: QueryEncoder, longest: int) -> onnx.ModelProto:
    """Writes the graph.

    It takes `history`, float32 [users, items, dimension], padded at the end, and `lengths`, int64
    [users]; it gives `query`, float32 [users, dimension].

    Args:
        encoder: trained.
        longest: items of a history, at most.
    """
    g, dimension = OnnxGraphBuilder(), encoder.head.in_features
    history = g.input("history", FLOAT, ["users", "items", dimension])
    lengths = g.input("lengths", INT64, ["users"])
    *earlier, last = cast("list[Block]", list(encoder.blocks))
    hidden = g.mul(history, g.real(math.sqrt(dimension)))
    for block in earlier:
        hidden = _all(g, block, hidden, longest)
    hidden = _one(g, last, hidden, lengths, longest)
    query = _linear(g, _normed(g, hidden, encoder.norm), encoder.head)
    g.output(g.op("Squeeze", query, g.ints(1)), "query", FLOAT, ["users", dimension])
    return g.model("query_encoder")


def _all(g: OnnxGraphBuilder, block: Block, hidden: str, longest: int) -> str:
    """A block after every item; float32 [users, items, dimension] in and out."""
    qkv = _linear(g, _normed(g, hidden, block.attention_norm), block.qkv)
    q, k, v = g.ops("Split", qkv, outputs=3, axis=-1, num_outputs=3)
    start = g.ints(0)
    q, k = (_turned(g, block, x, start, longest) for x in (q, k))
    causal = {"num_heads": block.heads, "unidirectional": 1}
    mixed = g.op("MultiHeadAttention", q, k, v, domain=_RUNTIME, **causal)
    return _joined(g, block, hidden, mixed)


def _one(g: OnnxGraphBuilder, block: Block, hidden: str, lengths: str, longest: int) -> str:
    """A block after the last item of each history; float32 [users, 1, dimension]."""
    dimension = block.out.in_features
    last = g.unsqueeze(g.op("Sub", lengths, g.integer(1)), 1)
    normed = _normed(g, hidden, block.attention_norm)
    weight, bias = _array(block.qkv.weight), _array(block.qkv.bias)
    q = _product(g, _row(g, normed, last), weight[:dimension], bias[:dimension])
    kv = _product(g, normed, weight[dimension:], bias[dimension:])
    k, v = g.ops("Split", kv, outputs=2, axis=-1, num_outputs=2)
    q = _turned(g, block, q, last, longest)
    k = _turned(g, block, k, g.ints(0), longest)
    inputs = (q, k, v, "", g.cast(lengths, INT32))  # what is padding is not looked at
    mixed = g.op("MultiHeadAttention", *inputs, domain=_RUNTIME, num_heads=block.heads)
    return _joined(g, block, _row(g, hidden, last), mixed)


def _joined(g: OnnxGraphBuilder, block: Block, hidden: str, mixed: str) -> str:
    """What attention mixed, added to what came in, and then the feed-forward layer."""
    hidden = g.add(hidden, _linear(g, mixed, block.out))
    norm, first, _, second, _ = block.feed_forward
    raised = g.op("Gelu", _linear(g, _normed(g, hidden, norm), first), domain=_RUNTIME)
    return g.add(hidden, _linear(g, raised, second))


def _turned(g: OnnxGraphBuilder, block: Block, x: str, positions: str, longest: int) -> str:
    """See `rotate`; the positions are int64 [users, items], or [1] of the first."""
    tables = rotation(longest, block.out.in_features // block.heads)
    cos, sin = (g.constant(_array(table)) for table in tables)
    heads = {"num_heads": block.heads}
    return g.op("RotaryEmbedding", x, positions, cos, sin, domain=_RUNTIME, **heads)


def _row(g: OnnxGraphBuilder, rows: str, at: str) -> str:
    """One row of each user, float32 [users, 1, dimension]."""
    return g.unsqueeze(g.op("GatherND", rows, at, batch_dims=1), 1)


def _normed(g: OnnxGraphBuilder, x: str, norm: nn.Module) -> str:
    layer = cast("nn.LayerNorm", norm)
    weights = (g.constant(_array(layer.weight)), g.constant(_array(layer.bias)))
    return g.op("LayerNormalization", x, *weights, axis=-1, epsilon=layer.eps)


def _linear(g: OnnxGraphBuilder, x: str, layer: nn.Module) -> str:
    linear = cast("nn.Linear", layer)
    return _product(g, x, _array(linear.weight), _array(linear.bias))


def _product(g: OnnxGraphBuilder, x: str, weight: NDArray[Any], bias: NDArray[Any]) -> str:
    return g.add(g.matmul(x, g.constant(weight.T.copy())), g.constant(bias))


def _array(tensor: Tensor) -> NDArray[Any]:
    array: NDArray[Any] = tensor.detach().cpu().numpy()
    return array
