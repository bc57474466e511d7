"""The encoder as it is served: one query, after the whole of a history.

The same numbers as `QueryEncoder` gives at the last item, with what serving does not need left out:
the last block reads all items and computes one, and what depends on positions alone is constant.
That is half of the work.
"""

import math
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from offline.query_encoder.model import Block, QueryEncoder, rotate, rotation

_NEVER = -1e9
"""Added to the logit of an item that must not be looked at."""


class LastQuery(nn.Module):
    """Histories to the query after each of them.

    Args:
        encoder: trained.
        longest: items of a history, at most.
    """

    cos: Tensor
    sin: Tensor
    future: Tensor

    def __init__(self, encoder: QueryEncoder, longest: int) -> None:
        super().__init__()
        self.encoder = encoder
        self._blocks = cast("list[Block]", list(encoder.blocks))
        head = encoder.head.out_features // self._blocks[0].heads
        cos, sin = rotation(longest, head)
        self.register_buffer("cos", cos)
        self.register_buffer("sin", sin)
        self.register_buffer("future", torch.full((longest, longest), _NEVER).triu(1))

    def forward(self, history: Tensor, lengths: Tensor) -> Tensor:
        """Encodes histories.

        Args:
            history: float32 [users, items, dimension], padded at the end.
            lengths: int64 [users].

        Returns:
            float32 [users, dimension].
        """
        hidden = history * math.sqrt(history.shape[-1])
        *earlier, last = self._blocks
        for block in earlier:
            hidden = self._all(block, hidden)
        query: Tensor = self.encoder.head(self.encoder.norm(self._one(last, hidden, lengths)))
        return query.squeeze(1)

    def _all(self, block: Block, hidden: Tensor) -> Tensor:
        items = hidden.shape[1]
        qkv = _heads(block.qkv(block.attention_norm(hidden)), 3 * block.heads)
        q, k, v = qkv.chunk(3, dim=1)
        cos, sin = self.cos[:items], self.sin[:items]
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        mixed = _attend(q, k, v, self.future[:items, :items])
        return block.joined(hidden, mixed)

    def _one(self, block: Block, hidden: Tensor, lengths: Tensor) -> Tensor:
        """What a block makes of the last item of each history; float32 [users, 1, dimension]."""
        items, dimension = hidden.shape[1:]
        normed, at = block.attention_norm(hidden), lengths - 1
        rows = at[:, None, None].expand(-1, 1, dimension)
        weight, bias = block.qkv.weight, block.qkv.bias
        q = F.linear(normed.gather(1, rows), weight[:dimension], bias[:dimension])
        q = rotate(_heads(q, block.heads), self.cos[at][:, None, None], self.sin[at][:, None, None])
        kv = F.linear(normed, weight[dimension:], bias[dimension:])
        k, v = _heads(kv, 2 * block.heads).chunk(2, dim=1)
        k = rotate(k, self.cos[:items], self.sin[:items])
        padding = (torch.arange(items, device=at.device) > at[:, None]) * _NEVER
        mixed = _attend(q, k, v, padding[:, None, None])
        return block.joined(hidden.gather(1, rows), mixed)


def _heads(x: Tensor, heads: int) -> Tensor:
    """[users, items, heads * numbers] as [users, heads, items, numbers]."""
    return x.view(*x.shape[:2], heads, x.shape[2] // heads).transpose(1, 2)


def _attend(q: Tensor, k: Tensor, v: Tensor, never: Tensor) -> Tensor:
    logits = (q / math.sqrt(q.shape[-1])) @ k.transpose(-1, -2) + never
    return logits.softmax(-1) @ v
