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

from offline.query_encoder.model import Block, QueryEncoder, rotation
from offline.tape import FLOAT, INT32, INT64, Tape

_RUNTIME: Final = "com.microsoft"


def query_graph(encoder: QueryEncoder, longest: int) -> onnx.ModelProto:
    """Writes the graph.

    It takes `history`, float32 [users, items, dimension], padded at the end, and `lengths`, int64
    [users]; it gives `query`, float32 [users, dimension].

    Args:
        encoder: trained.
        longest: items of a history, at most.
    """
    t, dimension = Tape(), encoder.head.in_features
    history = t.input("history", FLOAT, ["users", "items", dimension])
    lengths = t.input("lengths", INT64, ["users"])
    *earlier, last = cast("list[Block]", list(encoder.blocks))
    hidden = t.mul(history, t.real(math.sqrt(dimension)))
    for block in earlier:
        hidden = _all(t, block, hidden, longest)
    hidden = _one(t, last, hidden, lengths, longest)
    query = _linear(t, _normed(t, hidden, encoder.norm), encoder.head)
    t.output(t.op("Squeeze", query, t.ints(1)), "query", FLOAT, ["users", dimension])
    return t.model("query_encoder")


def _all(t: Tape, block: Block, hidden: str, longest: int) -> str:
    """A block after every item; float32 [users, items, dimension] in and out."""
    qkv = _linear(t, _normed(t, hidden, block.attention_norm), block.qkv)
    q, k, v = t.ops("Split", qkv, outputs=3, axis=-1, num_outputs=3)
    start = t.ints(0)
    q, k = (_turned(t, block, x, start, longest) for x in (q, k))
    causal = {"num_heads": block.heads, "unidirectional": 1}
    mixed = t.op("MultiHeadAttention", q, k, v, domain=_RUNTIME, **causal)
    return _joined(t, block, hidden, mixed)


def _one(t: Tape, block: Block, hidden: str, lengths: str, longest: int) -> str:
    """A block after the last item of each history; float32 [users, 1, dimension]."""
    dimension = block.out.in_features
    last = t.unsqueeze(t.op("Sub", lengths, t.integer(1)), 1)
    normed = _normed(t, hidden, block.attention_norm)
    weight, bias = _array(block.qkv.weight), _array(block.qkv.bias)
    q = _product(t, _row(t, normed, last), weight[:dimension], bias[:dimension])
    kv = _product(t, normed, weight[dimension:], bias[dimension:])
    k, v = t.ops("Split", kv, outputs=2, axis=-1, num_outputs=2)
    q = _turned(t, block, q, last, longest)
    k = _turned(t, block, k, t.ints(0), longest)
    inputs = (q, k, v, "", t.cast(lengths, INT32))  # what is padding is not looked at
    mixed = t.op("MultiHeadAttention", *inputs, domain=_RUNTIME, num_heads=block.heads)
    return _joined(t, block, _row(t, hidden, last), mixed)


def _joined(t: Tape, block: Block, hidden: str, mixed: str) -> str:
    """What attention mixed, added to what came in, and then the feed-forward layer."""
    hidden = t.add(hidden, _linear(t, mixed, block.out))
    norm, first, _, second, _ = block.feed_forward
    raised = t.op("Gelu", _linear(t, _normed(t, hidden, norm), first), domain=_RUNTIME)
    return t.add(hidden, _linear(t, raised, second))


def _turned(t: Tape, block: Block, x: str, positions: str, longest: int) -> str:
    """See `rotate`; the positions are int64 [users, items], or [1] of the first."""
    tables = rotation(longest, block.out.in_features // block.heads)
    cos, sin = (t.constant(_array(table)) for table in tables)
    heads = {"num_heads": block.heads}
    return t.op("RotaryEmbedding", x, positions, cos, sin, domain=_RUNTIME, **heads)


def _row(t: Tape, rows: str, at: str) -> str:
    """One row of each user, float32 [users, 1, dimension]."""
    return t.unsqueeze(t.op("GatherND", rows, at, batch_dims=1), 1)


def _normed(t: Tape, x: str, norm: nn.Module) -> str:
    layer = cast("nn.LayerNorm", norm)
    weights = (t.constant(_array(layer.weight)), t.constant(_array(layer.bias)))
    return t.op("LayerNormalization", x, *weights, axis=-1, epsilon=layer.eps)


def _linear(t: Tape, x: str, layer: nn.Module) -> str:
    linear = cast("nn.Linear", layer)
    return _product(t, x, _array(linear.weight), _array(linear.bias))


def _product(t: Tape, x: str, weight: NDArray[Any], bias: NDArray[Any]) -> str:
    return t.add(t.matmul(x, t.constant(weight.T.copy())), t.constant(bias))


def _array(tensor: Tensor) -> NDArray[Any]:
    array: NDArray[Any] = tensor.detach().cpu().numpy()
    return array
