"""From token states to one vector: pooling, dense layers, the first dimensions, unit norm."""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from offline.embeddings.config import Pooling


class Head(nn.Module):
    """What comes after a transformer.

    Args:
        pooling: how token states become one vector.
        dense: layers after it.
        dimension: so many numbers are kept, the first ones, as a model that was trained for it
            allows (A. Kusupati et al., "Matryoshka Representation Learning", NeurIPS 2022); None
            for all of them.
    """

    def __init__(
        self, pooling: Pooling, dense: Sequence[nn.Module] = (), dimension: int | None = None
    ) -> None:
        super().__init__()
        self.pooling = pooling
        self.dense = nn.Sequential(*dense)
        self.dimension = dimension

    def forward(self, states: Tensor, attention_mask: Tensor) -> Tensor:
        """The vectors of texts.

        Args:
            states: float32 [texts, tokens, width], or [texts, width] where a model has pooled.
            attention_mask: int64 [texts, tokens], 1 for a token and 0 for padding.

        Returns:
            float32 [texts, dimension], of unit norm.
        """
        pooled = self._pool(states, attention_mask) if states.dim() == 3 else states
        return F.normalize(self.dense(pooled)[:, : self.dimension], dim=-1)

    def _pool(self, states: Tensor, attention_mask: Tensor) -> Tensor:
        if self.pooling == "cls":
            return states[:, 0]
        if self.pooling == "mean":
            weights = attention_mask.unsqueeze(-1).to(states.dtype)
            return (states * weights).sum(1) / weights.sum(1).clamp(min=1.0)
        # The last real token: its position, not the last column, which may be padding.
        # Clipped as floats, because opset 11 clips no integers.
        last = attention_mask.sum(1).sub(1).to(states.dtype).clamp(min=0.0).to(attention_mask.dtype)
        index = last[:, None, None].expand(-1, 1, states.shape[-1])
        return states.gather(1, index).squeeze(1)
