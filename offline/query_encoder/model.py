"""A causal transformer over item vectors, in the manner of SASRec, with its item table.

SASRec (https://arxiv.org/abs/1808.09781) with what later work found to matter: full softmax
instead of sampled negatives, item vectors of unit norm, so that popularity does not hide in their
length and one index answers both inner products and cosines, and rotary positions
(https://arxiv.org/abs/2104.09864), which depend on distance alone.

The transformer reads item *vectors*, not item numbers: a catalog may grow after training, and a
new item needs a vector only.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from offline.query_encoder.batches import IGNORE, Batch
from offline.query_encoder.config import QueryEncoderConfig
from offline.training.blocks import block_rows, recomputed, weighted_mean

_ROTARY_BASE = 100.0
"""Histories are short: the slowest rotation still turns visibly within one."""


class QueryEncoder(nn.Module):
    """Item vectors to queries: after every prefix of a history, a vector to compare items with."""

    def __init__(self, config: QueryEncoderConfig) -> None:
        super().__init__()
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.dimension)
        self.head = nn.Linear(config.dimension, config.dimension)
        self.apply(_initialize)
        nn.init.eye_(self.head.weight)

    def forward(self, history: Tensor) -> Tensor:
        """Encodes histories, padded at the end; what follows an item has no part in its query.

        Args:
            history: float32 [users, items, dimension], item vectors of unit norm, oldest first.

        Returns:
            float32 [users, items, dimension]; at `[:, t]` the query after item `t`. Its inner
            product with an item's vector is a logit of the item coming next.
        """
        hidden = self.dropout(history * math.sqrt(history.shape[-1]))
        for block in self.blocks:
            hidden = block(hidden)
        queries: Tensor = self.head(self.norm(hidden))
        return queries


class Block(nn.Module):
    """Causal self-attention and a feed-forward layer, both normalized before."""

    def __init__(self, config: QueryEncoderConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.drop = config.dropout
        self.attention_norm = nn.LayerNorm(config.dimension)
        self.qkv = nn.Linear(config.dimension, 3 * config.dimension)
        self.out = nn.Linear(config.dimension, config.dimension)
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(config.dimension),
            nn.Linear(config.dimension, 4 * config.dimension),
            nn.GELU(),
            nn.Linear(4 * config.dimension, config.dimension),
            nn.Dropout(config.dropout),
        )

    def forward(self, hidden: Tensor) -> Tensor:
        """One block; float32 [users, items, dimension] in and out."""
        users, items, _ = hidden.shape
        qkv = self.qkv(self.attention_norm(hidden))
        q, k, v = qkv.view(users, items, 3, self.heads, -1).permute(2, 0, 3, 1, 4).unbind()
        cos, sin = rotation(items, q.shape[-1], hidden.device)
        mixed = F.scaled_dot_product_attention(
            rotate(q, cos, sin),
            rotate(k, cos, sin),
            v,
            is_causal=True,
            dropout_p=self.drop if self.training else 0.0,
        )
        mixed = self.out(mixed.transpose(1, 2).flatten(2))
        hidden = hidden + F.dropout(mixed, self.drop, self.training)
        output: Tensor = hidden + self.feed_forward(hidden)
        return output


class QueryModel(nn.Module):
    """The encoder with its item table: one vector of unit norm for each item.

    Args:
        config: the encoder's shape.
        initial: float32 [items, dimension], where the item vectors start from.
    """

    def __init__(self, config: QueryEncoderConfig, initial: NDArray[np.float32]) -> None:
        super().__init__()
        self.max_history = config.max_history
        self.encoder = QueryEncoder(config)
        self.item_vectors = nn.Parameter(torch.from_numpy(initial))

    def table(self) -> Tensor:
        """The item vectors, float32 [items, dimension], of unit norm."""
        return F.normalize(self.item_vectors, dim=-1)

    def loss(self, batch: Batch) -> Tensor:
        """Mean cross entropy of the targets against the whole catalog, by their weights."""
        table = self.table()
        history = torch.from_numpy(batch.history).to(table.device)
        targets = torch.from_numpy(batch.targets).to(table.device)
        queries = self.encoder(F.embedding(history, table))
        known = targets != IGNORE
        asked, wanted = queries[known], targets[known]
        rows = block_rows(len(table))
        losses = [
            recomputed(_losses, *part, table, again=len(asked) > rows)
            for part in zip(torch.split(asked, rows), torch.split(wanted, rows), strict=True)
        ]
        weights = None if batch.weights is None else torch.from_numpy(batch.weights[:, 1:])
        return weighted_mean(torch.cat(losses), weights, known)

    @torch.inference_mode()
    def scores(self, histories: Sequence[NDArray[np.int32]]) -> NDArray[np.float32]:
        """The logit of every item after every history, float32 [histories, items]."""
        table, rows = self.table(), []
        for start in range(0, len(histories), 64):
            tails = [history[-self.max_history :] for history in histories[start : start + 64]]
            padded = nn.utils.rnn.pad_sequence(
                [torch.from_numpy(tail.astype(np.int64)) for tail in tails], batch_first=True
            )
            queries = self.encoder(F.embedding(padded.to(table.device), table))
            last = queries[range(len(tails)), [len(tail) - 1 for tail in tails]]
            rows.append((last @ table.T).cpu().numpy())
        return np.concatenate(rows)


def _losses(queries: Tensor, targets: Tensor, table: Tensor) -> Tensor:
    """The cross entropy of each target against the whole catalog."""
    return F.cross_entropy(queries @ table.T, targets, reduction="none")


def principal_components(
    vectors: NDArray[np.float32], dimension: int, seed: int
) -> NDArray[np.float32]:
    """Item vectors to start from: the embeddings' principal components, of unit variance.

    A little noise tells apart what the embeddings don't, and fills the dimensions that they lack.

    Args:
        vectors: float32 [items, content dimension].
        dimension: numbers of a vector to start from.
        seed: of the noise.

    Returns:
        float32 [items, dimension].
    """
    centered = vectors.astype(np.float64) - vectors.mean(axis=0, dtype=np.float64)
    _, _, axes = np.linalg.svd(centered, full_matrices=False)
    # The sign of an axis is arbitrary: fix it, so that it does not depend on the library.
    axes *= np.sign(axes[np.arange(len(axes)), np.abs(axes).argmax(axis=1)])[:, None]
    noise = np.random.default_rng(seed).normal(size=(len(vectors), dimension))
    start = 0.01 * noise
    components = centered @ axes[:dimension].T
    start[:, : components.shape[1]] += components / (components.std() or 1.0)
    return start.astype(np.float32)


def rotation(
    positions: int, numbers: int, device: torch.device | None = None
) -> tuple[Tensor, Tensor]:
    """The cosines and sines that `rotate` takes, each float32 [positions, numbers / 2]."""
    half = numbers // 2
    speed = _ROTARY_BASE ** (-torch.arange(half, device=device) / half)
    angle = torch.arange(positions, device=device)[:, None] * speed
    return angle.cos(), angle.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turns pairs of numbers by an angle that grows with the position; the shape of `x`."""
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1)


def _initialize(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)
