"""A batch of next-item prediction after every prefix of a prompt.

A prompt is some words and then the history, so each of its prefixes from the last word on is a
question: after the words alone, what comes first; after each item, what comes next.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from offline.query_encoder.batches import IGNORE as IGNORE


@dataclass(frozen=True)
class ItemBatch:
    """One step's prompts, and what follows each of their prefixes."""

    words: Tensor
    """int64 [batch, words] token ids, at least one."""
    history: Tensor
    """int64 [batch, items] items, oldest first, padded at the end; may have no items at all."""
    targets: Tensor
    """int64 [batch, items + 1] the item after the words, and after each item; IGNORE where there
    is nothing to learn."""
    weights: Tensor | None = None
    """float32 [batch, items + 1] what each target counts; None where all count alike."""

    def to(self, device: torch.device) -> "ItemBatch":
        """The same on a device."""
        weights = None if self.weights is None else self.weights.to(device)
        return ItemBatch(
            self.words.to(device), self.history.to(device), self.targets.to(device), weights
        )
