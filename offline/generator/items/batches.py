"""Batches of next-item prediction after every prefix of a prompt.

A prompt is some words and then the history, so each of its prefixes from the last word on is a
question: after the words alone, what comes first; after each item, what comes next.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from offline.generator.items.expected import ExpectedItems
from offline.query_encoder.batches import IGNORE as IGNORE
from offline.query_encoder.batches import Batch, epoch_batches
from services.generator.prompts import Template

N = TypeVar("N", np.int32, np.float32)

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
    weights: Tensor | None = None
    """float32 [batch, items + 1] what each target counts; None where all count alike."""

    def to(self, device: torch.device) -> "ItemBatch":
        """The same on a device."""
        weights = None if self.weights is None else self.weights.to(device)
        return ItemBatch(
            self.words.to(device), self.history.to(device), self.targets.to(device), weights
        )


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
    weights: Sequence[NDArray[np.float32]] | None = None
    """What each of the sequences' items counts; None where all count alike. An item that is
    expected counts 1."""

    def epoch(self, rng: np.random.Generator) -> list[ItemBatch]:
        """The batches of one pass over the sequences, in a random order."""
        orders = [self._varied(times, rng) for times in self.times]
        varied = [items[order] for items, order in zip(self.sequences, orders, strict=True)]
        weights = None
        if self.weights is not None:
            weights = [each[order] for each, order in zip(self.weights, orders, strict=True)]
        batches = [
            self._with_history(batch, rng)
            for batch in epoch_batches(varied, self.max_history, self.batch_items, rng, weights)
        ]
        if self.direct:
            count = max(1, round(self.direct_share * len(batches)))
            batches += [self._without_history(rng) for _ in range(count)]
        return [batches[i] for i in rng.permutation(len(batches))]

    def _varied(self, times: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
        """The places of a sequence's items, simultaneous ones in another order, some left out."""
        order = np.lexsort((rng.random(len(times)), times))
        kept = rng.random(len(times)) >= self.history_dropout
        kept[-2:] = True
        return order[kept]

    def _with_history(self, batch: Batch, rng: np.random.Generator) -> ItemBatch:
        """Adds a prompt's words; after them alone any item of the history is a target."""
        history, targets = batch.history, batch.targets
        words = self.words(self.sequential[int(rng.integers(len(self.sequential)))], None)
        lengths = (targets != IGNORE).cumsum(axis=1).argmax(axis=1) + 1
        any_place = np.arange(len(history)), rng.integers(lengths)
        weights = None
        if batch.weights is not None:
            weights = np.column_stack([batch.weights[any_place], batch.weights[:, 1:]])
        return ItemBatch(
            torch.tensor(words).expand(len(history), -1),
            torch.from_numpy(history),
            torch.from_numpy(np.column_stack([history[any_place], targets])),
            None if weights is None else torch.from_numpy(weights),
        )

    def _without_history(self, rng: np.random.Generator) -> ItemBatch:
        """Prompts that name a user, and an item of each: one of their own, or an expected one."""
        template = self.direct[int(rng.integers(len(self.direct)))]
        known = np.flatnonzero([len(sequence) > 0 for sequence in self.sequences])
        users = rng.choice(known, DIRECT_PAIRS)
        places = self._own_places(users, rng)
        targets = _of_users(self.sequences, users, places).astype(np.int64)
        weights = None if self.weights is None else _of_users(self.weights, users, places)
        if self.expected is not None:
            chosen = rng.random(len(users)) < EXPECTED_SHARE
            targets[chosen] = self.expected.draw(users[chosen], rng)
            if weights is not None:
                weights[chosen] = 1.0
        return ItemBatch(
            torch.tensor([self.words(template, int(user)) for user in users]),
            torch.empty((len(users), 0), dtype=torch.int64),
            torch.from_numpy(targets)[:, None],
            None if weights is None else torch.from_numpy(weights)[:, None],
        )

    def _own_places(self, users: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
        """The place of an item that each user has had, a new one more often than an old one."""
        lengths = np.array([len(self.sequences[user]) for user in users])
        recent = rng.random(len(users)) > 1 - RECENT_SHARE
        place = np.maximum(rng.random(len(users)), np.where(recent, rng.random(len(users)), 0.0))
        places: NDArray[np.int64] = (place * lengths).astype(np.int64)
        return places


def _of_users(
    values: Sequence[NDArray[N]], users: NDArray[np.int64], places: NDArray[np.int64]
) -> NDArray[N]:
    """What each user has at a place."""
    return np.array([values[user][place] for user, place in zip(users, places, strict=True)])
