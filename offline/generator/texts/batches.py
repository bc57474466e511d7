"""Prompts of several texts, padded, and what is to be written."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from offline.query_encoder.batches import IGNORE as IGNORE


@dataclass(frozen=True)
class TextBatch:
    """One step's prompts and texts."""

    ids: Tensor
    """int64 [batch, tokens] padded with 0 at the end."""
    lengths: Tensor
    """int64 [batch] tokens of each prompt."""
    labels: Tensor
    """int64 [batch, length] the texts, their end tokens included; IGNORE behind them."""

    @classmethod
    def of(cls, prompts: Sequence[Sequence[int]], texts: Sequence[Sequence[int]]) -> "TextBatch":
        """Pads prompts and texts."""
        lengths = torch.tensor([len(prompt) for prompt in prompts])
        return cls(_padded(prompts, 0), lengths, _padded(texts, IGNORE))

    def to(self, device: torch.device) -> "TextBatch":
        """The same on a device."""
        return TextBatch(self.ids.to(device), self.lengths.to(device), self.labels.to(device))


def _padded(rows: Sequence[Sequence[int]], value: int) -> Tensor:
    padded = torch.full((len(rows), max(map(len, rows))), value)
    for place, row in enumerate(rows):
        padded[place, : len(row)] = torch.tensor(row, dtype=torch.int64)
    return padded
