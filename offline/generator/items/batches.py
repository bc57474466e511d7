"""Batches of next-item prediction after every prefix of a prompt.

A prompt is some words and then the history, so each of its prefixes from the last word on is a
question: after the words alone, what comes first; after each item, what comes next.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from offline.generator.items.expected import ExpectedItems
from offline.query_encoder.batches import IGNORE as IGNORE
from offline.query_encoder.batches import epoch_batches
from services.generator.prompts import Template

DIRECT_PAIRS: Final = 512
"""Users in a batch of prompts without history."""
RECENT_SHARE: Final = 0.8
"""Of the prompts without history: in these a user's items are targets in proportion to how late
they came, in the others all alike. Tastes change, and what is asked for is what comes next."""
EXPECTED_SHARE: Final = 0.5
"""Of the prompts without history: in these the target is not an item that the user has had, but one
that is expected of them."""


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

    def to(self, device: torch.device) -> "ItemBatch":
        """The same on a device."""
        return ItemBatch(self.words.to(device), self.history.to(device), self.targets.to(device))


@dataclass(frozen=True)
class ItemBatches:
    """Makes the batches of an epoch, which follow from the generator of random numbers alone."""

    sequences: Sequence[NDArray[np.int32]]
    """Each user's training items, oldest first."""
    times: Sequence[NDArray[np.int64]]
    """When each of them was; what happened at the same time has no order, and gets a new one in
    every epoch."""
    sequential: Sequence[Template]
    """What is asked about a history."""
    direct: Sequence[Template]
    """What is asked about a user without one; none where users are not learned by name."""
    words: Callable[[Template, int | None], list[int]]
    """A template's words before the history, as token ids, for a user."""
    max_history: int
    batch_items: int
    """Items in a batch, padding included."""
    direct_share: float
    """Batches without history, as a share of those with one."""
    history_dropout: float
    """Probability of leaving an item out of a history; the two newest are always kept."""
    expected: ExpectedItems | None = None
    """What the query encoder expects of each user, where users are learned by name."""

    def epoch(self, rng: np.random.Generator) -> list[ItemBatch]:
        """The batches of one pass over the sequences, in a random order."""
        varied = [self._varied(*pair, rng) for pair in zip(self.sequences, self.times, strict=True)]
        batches = [
            self._with_history(batch.history, batch.targets, rng)
            for batch in epoch_batches(varied, self.max_history, self.batch_items, rng)
        ]
        if self.direct:
            count = max(1, round(self.direct_share * len(batches)))
            batches += [self._without_history(rng) for _ in range(count)]
        return [batches[i] for i in rng.permutation(len(batches))]

    def _varied(
        self, items: NDArray[np.int32], times: NDArray[np.int64], rng: np.random.Generator
    ) -> NDArray[np.int32]:
        """A sequence with simultaneous items in another order, and some left out."""
        items = items[np.lexsort((rng.random(len(items)), times))]
        kept = rng.random(len(items)) >= self.history_dropout
        kept[-2:] = True
        return items[kept]

    def _with_history(
        self, history: NDArray[np.int64], targets: NDArray[np.int64], rng: np.random.Generator
    ) -> ItemBatch:
        """Adds a prompt's words; after them alone any item of the history is a target."""
        words = self.words(self.sequential[int(rng.integers(len(self.sequential)))], None)
        lengths = (targets != IGNORE).cumsum(axis=1).argmax(axis=1) + 1
        any_item = history[np.arange(len(history)), rng.integers(lengths)]
        return ItemBatch(
            torch.tensor(words).expand(len(history), -1),
            torch.from_numpy(history),
            torch.from_numpy(np.column_stack([any_item, targets])),
        )

    def _without_history(self, rng: np.random.Generator) -> ItemBatch:
        """Prompts that name a user, and an item of each: one of their own, or an expected one."""
        template = self.direct[int(rng.integers(len(self.direct)))]
        known = np.flatnonzero([len(sequence) > 0 for sequence in self.sequences])
        users = rng.choice(known, DIRECT_PAIRS)
        targets = self._own_items(users, rng)
        if self.expected is not None:
            chosen = rng.random(len(users)) < EXPECTED_SHARE
            targets[chosen] = self.expected.draw(users[chosen], rng)
        return ItemBatch(
            torch.tensor([self.words(template, int(user)) for user in users]),
            torch.empty((len(users), 0), dtype=torch.int64),
            torch.from_numpy(targets)[:, None],
        )

    def _own_items(self, users: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
        """An item that each user has had, a new one more often than an old one."""
        lengths = np.array([len(self.sequences[user]) for user in users])
        recent = rng.random(len(users)) > 1 - RECENT_SHARE
        place = np.maximum(rng.random(len(users)), np.where(recent, rng.random(len(users)), 0.0))
        own = [
            self.sequences[user][int(share * length)]
            for user, share, length in zip(users, place, lengths, strict=True)
        ]
        return np.array(own, np.int64)
