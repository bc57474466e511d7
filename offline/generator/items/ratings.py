"""The rating family of a model that reads whole items.

A prompt shows what a user has rated, each item with its rating behind it, and then the item in
question. So how kindly somebody rates is read from their other ratings, and nothing is learned by
heart of users: who comes later is told apart as well, and of somebody without ratings the answer is
what is expected of anybody. One pass over a row learns all of its ratings, each after those before
it.

The values that a rating may have are the leaves of a second, small trie. A leaf has a learned
vector and a token, as an item has; what scores items after a history scores ratings after an item:
the state by the inner product with the vectors, and what the decoder says of the tokens. The
prediction is the expected value over the leaves. The likeliest value would be a worse one: it
ignores how sure the model is.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from offline.generator.items.batches import IGNORE
from offline.generator.items.model import ItemT5
from offline.generator.items.t5_layers import encode_causally
from offline.ratings.rated import Rated
from offline.training.families import digest
from services.generator.decoding.ratings import MOST_SHOWN
from services.generator.prompts import Template

RATINGS_AT_ONCE: Final = 1024
"""Ratings in a batch, padding included."""


@dataclass(frozen=True)
class RatingBatch:
    """One step's prompts: rows of rated items, each of which is in question after those before."""

    words: Tensor
    """int64 [batch, words] token ids, at least one."""
    items: Tensor
    """int64 [batch, items], padded at the end."""
    values: Tensor
    """int64 [batch, items] how each is rated, see `Rated`; IGNORE in padding."""


@dataclass(frozen=True)
class RatingItems:
    """The family that rates; see `offline.training.families.Family`."""

    model: ItemT5
    rated: Rated
    templates: Sequence[Template]
    words: Callable[[Template, None], list[int]]
    most: int = MOST_SHOWN + 1
    """Ratings in a row."""

    def batches(self, rng: np.random.Generator, count: int | None) -> list[RatingBatch]:
        """So many batches, or one pass over the ratings."""
        made: list[RatingBatch] = []
        while not made or len(made) < (count or 0):
            made += [self._batch(rows, rng) for rows in self._groups(rng)]
        return made[:count]

    def loss(self, batch: RatingBatch) -> Tensor:
        """The mean negative log-probability of the ratings."""
        device = self.model.item_vectors.device
        words, items, values = (t.to(device) for t in (batch.words, batch.items, batch.values))
        logits = rating_logits(self.model, words, items, values.clamp(min=0))
        return F.cross_entropy(logits.flatten(0, 1), values.flatten(), ignore_index=IGNORE)

    def fingerprint(self) -> str:
        """See `Family`."""
        rated = self.rated
        return digest((self.templates, self.most), (rated.users, rated.items, rated.values))

    def _groups(self, rng: np.random.Generator) -> list[list[NDArray[np.int64]]]:
        """Every rating once, in rows of one user's in any order; rows of like length together."""
        users = self.rated.users
        order = np.lexsort((rng.random(len(users)), users))
        starts = np.flatnonzero(np.diff(users[order], prepend=-1))
        rows = [
            row[start : start + self.most]
            for row in np.split(order, starts[1:])
            for start in range(0, len(row), self.most)
        ]
        lengths = np.array([len(row) for row in rows])
        groups: list[list[NDArray[np.int64]]] = []
        for place in np.lexsort((rng.random(len(rows)), lengths)):
            longer = lengths[place]
            if not groups or (len(groups[-1]) + 1) * longer > RATINGS_AT_ONCE:
                groups.append([])
            groups[-1].append(rows[place])
        return [groups[i] for i in rng.permutation(len(groups))]

    def _batch(self, rows: list[NDArray[np.int64]], rng: np.random.Generator) -> RatingBatch:
        shape = len(rows), max(map(len, rows))
        items, values = np.zeros(shape, np.int64), np.full(shape, IGNORE)
        for i, row in enumerate(rows):
            items[i, : len(row)] = self.rated.items[row]
            values[i, : len(row)] = self.rated.values[row]
        words = self.words(self.templates[int(rng.integers(len(self.templates)))], None)
        return RatingBatch(
            torch.tensor(words).expand(len(rows), -1),
            torch.from_numpy(items),
            torch.from_numpy(values),
        )


def rating_logits(model: ItemT5, words: Tensor, items: Tensor, values: Tensor) -> Tensor:
    """How likely each rating of each item is, up to a constant, float32 [batch, items, values].

    Args:
        model: that rates.
        words: int64 [batch, words] of the prompts.
        items: int64 [batch, items] what is rated, one after another.
        values: int64 [batch, items] how; what is said of an item knows those before it.
    """
    if model.rating_vectors is None:
        raise ValueError("the model does not rate")
    table, tokens = model.table(), model.rating_tokens.to(items.device)
    shown = F.embedding(items, table) * math.sqrt(table.shape[1])
    pairs = torch.stack([shown, model.t5.shared(tokens[values])], dim=2).flatten(1, 2)
    memory = encode_causally(model.t5, torch.cat([model.t5.shared(words), pairs[:, :-1]], dim=1))
    places = torch.arange(words.shape[1], memory.shape[1], 2, device=items.device)
    states = memory[:, places]
    before = torch.arange(memory.shape[1], device=items.device) <= places[:, None]
    start = items.new_empty((*items.shape, 0))
    said = model.decode(start, states, memory, before[None])[:, :, 0]
    by_vector = F.linear(model.query(states), model.rating_vectors)
    return by_vector + F.linear(said, model.t5.shared.weight[tokens])
