"""T5's layers as functions of its modules, for ways of running them that its own `forward` lacks.

The encoder here is causal: what stands at a position depends on nothing after it, so one pass over
a history answers for every prefix of it. And the decoder reads many short sequences at once, each
with a memory that ends elsewhere. Weights and names are those of `transformers`
(Raffel et al., https://arxiv.org/abs/1910.10683).

Dropout acts on what is added to the residual stream, and nowhere else: on a CPU drawing random
numbers for attention and for the wide layer between took a third of a training step.
"""

from typing import Any, Final

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812
from transformers import T5ForConditionalGeneration
from transformers.models.t5.modeling_t5 import T5Attention

MASKED: Final = -1e9
"""Added to what must not be attended to; finite, so that a row that sees nothing is not NaN."""


def encode_causally(t5: T5ForConditionalGeneration, rows: Tensor) -> Tensor:
    """Runs the encoder, each position seeing itself and those before it.

    Args:
        t5: a T5 whose feed-forward layers are not gated.
        rows: float32 [batch, positions, d_model], what stands at each position.

    Returns:
        float32 [batch, positions, d_model].
    """
    encoder: Any = t5.encoder  # torch types a submodule as one that cannot be indexed
    hidden = drop(rows, t5)
    bias = causal_bias(encoder.block[0].layer[0].SelfAttention, rows.shape[1])
    for block in encoder.block:
        hidden = hidden + drop(_self_attention(block.layer[0], hidden, bias), t5)
        hidden = hidden + drop(_feed_forward(block.layer[1], hidden), t5)
    encoded: Tensor = encoder.final_layer_norm(hidden)
    return encoded


def decode_rows(
    t5: T5ForConditionalGeneration, rows: Tensor, memory: Tensor, visible: Tensor | None
) -> Tensor:
    """Runs the decoder on several sequences for each memory.

    Args:
        t5: a T5.
        rows: float32 [batch, sequences, length, d_model], what each sequence reads.
        memory: float32 [batch, positions, d_model], what `encode_causally` returned.
        visible: bool [batch or 1, sequences, positions], which positions each sequence attends
            to; None for all of them.

    Returns:
        float32 [batch, sequences, length, d_model].
    """
    decoder: Any = t5.decoder
    batch, sequences, length, width = rows.shape
    mask = None
    if visible is not None:
        mask = visible.repeat_interleave(length, dim=1)[:, None]
    hidden = drop(rows.reshape(batch * sequences, length, width), t5)
    bias = causal_bias(decoder.block[0].layer[0].SelfAttention, length)
    for block in decoder.block:
        hidden = hidden + drop(_self_attention(block.layer[0], hidden, bias), t5)
        wide = hidden.view(batch, sequences * length, width)
        cross = block.layer[1]
        mixed = attend(cross.EncDecAttention, cross.layer_norm(wide), memory, mask)
        wide = wide + drop(mixed, t5)
        wide = wide + drop(_feed_forward(block.layer[2], wide), t5)
        hidden = wide.view(-1, length, width)
    states: Tensor = decoder.final_layer_norm(hidden)
    return states.view(batch, sequences, length, width)


def attend(attention: Any, rows: Tensor, memory: Tensor, bias: Tensor | None) -> Tensor:
    """One `T5Attention`, fused, and without scaling, as T5 has it."""
    heads = attention.n_heads

    def split(x: Tensor) -> Tensor:
        return x.view(*x.shape[:2], heads, -1).transpose(1, 2)

    mixed = F.scaled_dot_product_attention(
        split(attention.q(rows)),
        split(attention.k(memory)),
        split(attention.v(memory)),
        attn_mask=bias,
        scale=1.0,
    )
    joined: Tensor = attention.o(mixed.transpose(1, 2).flatten(2))
    return joined


def causal_bias(attention: Any, length: int) -> Tensor:
    """[1, heads, length, length]: T5's position bias, MASKED where a row would look ahead."""
    table = attention.relative_attention_bias
    device = table.weight.device
    positions = torch.arange(length, device=device)
    bucket: Any = T5Attention._relative_position_bucket  # untyped
    buckets = bucket(
        positions[None, :] - positions[:, None],
        bidirectional=False,
        num_buckets=attention.relative_attention_num_buckets,
        max_distance=attention.relative_attention_max_distance,
    )
    ahead = torch.ones(length, length, dtype=torch.bool, device=device).triu(1)
    bias: Tensor = table(buckets).permute(2, 0, 1)[None]
    return bias.masked_fill(ahead, MASKED)


def drop(values: Tensor, t5: T5ForConditionalGeneration) -> Tensor:
    """Dropout, with eight decisions out of each random number of 64 bits.

    Twice as fast on a CPU as torch's, which draws one number a decision. The share is that of the
    configuration to the nearest 256th.
    """
    threshold = round(t5.config.dropout_rate * 256)
    if not t5.training or not threshold:
        return values
    if values.device.type != "cpu":
        return F.dropout(values, t5.config.dropout_rate)
    words = torch.empty(-(-values.numel() // 8), dtype=torch.int64).random_(-(2**63), None)
    kept = words.view(torch.uint8)[: values.numel()].view(values.shape) >= threshold
    return values * kept.to(values.dtype).mul_(256 / (256 - threshold))


def _self_attention(layer: Any, hidden: Tensor, bias: Tensor) -> Tensor:
    normed = layer.layer_norm(hidden)
    return attend(layer.SelfAttention, normed, normed, bias)


def _feed_forward(layer: Any, hidden: Tensor) -> Tensor:
    dense = layer.DenseReluDense
    raised: Tensor = dense.wo(F.relu(dense.wi(layer.layer_norm(hidden))))
    return raised
