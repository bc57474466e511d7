"""The families of a model that reads whole items: what it is asked, and how it is to answer.

Each is an `offline.training.families.Family`, whose batches follow from the generator of random
numbers alone.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from offline.generator.items.batches import IGNORE, ItemBatch
from offline.generator.items.expected import ExpectedItems
from offline.generator.items.model import ItemT5
from offline.query_encoder.batches import Batch, epoch_batches
from offline.training.families import digest
from services.generator.prompts import Template

N = TypeVar("N", np.int32, np.float32)
Words: TypeAlias = Callable[[Template, int | None], list[int]]
"""A template's words before the history or the item, as token ids, for a user."""

DIRECT_PAIRS: Final = 512
"""Users in a batch of prompts without history."""
RECENT_SHARE: Final = 0.8
"""Of the prompts without history: in these a user's items are targets in proportion to how late
they came, in the others all alike. Tastes change, and what is asked for is what comes next."""
EXPECTED_SHARE: Final = 0.5
"""Of the prompts without history: in these the target is not an item that the user has had, but one
that is expected of them."""


@dataclass(frozen=True)
class Sequences:
    """What users did, which is learned from."""

    items: Sequence[NDArray[np.int32]]
    """Each user's training items, oldest first."""
    times: Sequence[NDArray[np.int64]]
    """When each of them was; what happened at the same time has no order, and gets a new one in
    every epoch."""
    weights: Sequence[NDArray[np.float32]] | None = None
    """What each of the items counts; None where all count alike."""

    def arrays(self) -> list[NDArray[Any]]:
        """All of them."""
        return [*self.items, *self.times, *(self.weights or ())]


@dataclass(frozen=True)
class SequentialItems:
    """The family that goes on from a history; see `offline.training.families.Family`."""

    model: ItemT5
    sequences: Sequences
    templates: Sequence[Template]
    words: Words
    max_history: int
    batch_items: int
    """Items in a batch, padding included."""
    history_dropout: float
    """Probability of leaving an item out of a history; the two newest are always kept."""

    def batches(self, rng: np.random.Generator, count: int | None = None) -> list[ItemBatch]:
        """The batches of one pass over the sequences."""
        whole = self.sequences
        orders = [self._varied(times, rng) for times in whole.times]
        varied = [items[order] for items, order in zip(whole.items, orders, strict=True)]
        weights = None
        if whole.weights is not None:
            weights = [each[order] for each, order in zip(whole.weights, orders, strict=True)]
        made = epoch_batches(varied, self.max_history, self.batch_items, rng, weights)
        return [self._with_words(batch, rng) for batch in made][:count]

    def loss(self, batch: ItemBatch) -> Tensor:
        """The mean loss of the codes of what came next."""
        return self.model.loss(batch)

    def fingerprint(self) -> str:
        """See `Family`."""
        facts = (self.templates, self.max_history, self.batch_items, self.history_dropout)
        return digest(facts, self.sequences.arrays())

    def _varied(self, times: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
        """The places of a sequence's items, simultaneous ones in another order, some left out."""
        order = np.lexsort((rng.random(len(times)), times))
        kept = rng.random(len(times)) >= self.history_dropout
        kept[-2:] = True
        return order[kept]

    def _with_words(self, batch: Batch, rng: np.random.Generator) -> ItemBatch:
        """Adds a prompt's words; after them alone any item of the history is a target."""
        history, targets = batch.history, batch.targets
        words = self.words(self.templates[int(rng.integers(len(self.templates)))], None)
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


@dataclass(frozen=True)
class DirectItems:
    """The family that recommends to a user by name; see `offline.training.families.Family`."""

    model: ItemT5
    sequences: Sequences
    templates: Sequence[Template]
    words: Words
    expected: ExpectedItems | None = None
    """What the query encoder expects of each user. An item that is expected counts 1."""

    def batches(self, rng: np.random.Generator, count: int | None) -> list[ItemBatch]:
        """So many batches, or one."""
        return [self._batch(rng) for _ in range(count or 1)]

    def loss(self, batch: ItemBatch) -> Tensor:
        """The mean loss of the codes of the users' items."""
        return self.model.loss(batch)

    def fingerprint(self) -> str:
        """See `Family`."""
        expected = self.expected
        told = () if expected is None else (expected.items, expected.chances)
        return digest(self.templates, [*self.sequences.arrays(), *told])

    def _batch(self, rng: np.random.Generator) -> ItemBatch:
        """Prompts that name a user, and an item of each: one of their own, or an expected one."""
        template = self.templates[int(rng.integers(len(self.templates)))]
        items, given = self.sequences.items, self.sequences.weights
        known = np.flatnonzero([len(sequence) > 0 for sequence in items])
        users = rng.choice(known, DIRECT_PAIRS)
        places = self._own_places(users, rng)
        targets = _of_users(items, users, places).astype(np.int64)
        weights = None if given is None else _of_users(given, users, places)
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
        lengths = np.array([len(self.sequences.items[user]) for user in users])
        recent = rng.random(len(users)) > 1 - RECENT_SHARE
        place = np.maximum(rng.random(len(users)), np.where(recent, rng.random(len(users)), 0.0))
        places: NDArray[np.int64] = (place * lengths).astype(np.int64)
        return places


def _of_users(
    values: Sequence[NDArray[N]], users: NDArray[np.int64], places: NDArray[np.int64]
) -> NDArray[N]:
    """What each user has at a place."""
    return np.array([values[user][place] for user, place in zip(users, places, strict=True)])
