"""The rating family of a model that reads tokens; `offline.generator.items.ratings` says how."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from offline.generator.tokens.examples import IGNORE, Batch, ExampleSource, pad_prompts
from offline.ratings.rated import Rated
from offline.training.families import digest
from offline.training.together import device
from services.generator.decoding.ratings import MOST_SHOWN
from services.generator.prompts import (
    RATING,
    Template,
    rating_text,
    render_ids,
    select,
    user_text,
)


@dataclass(frozen=True)
class RatingDraw:
    """A batch before it is written out: a row of ratings for each prompt, the last in question."""

    rows: Sequence[NDArray[np.int64]]
    template: Template


@dataclass(frozen=True)
class TokenRatings:
    """The family that rates; see `offline.training.families.Family`."""

    model: nn.Module
    """See `offline.generator.tokens.backbones.loss_of`."""
    source: ExampleSource
    """How items are written, and prompts."""
    rated: Rated
    codes: NDArray[np.int32]
    """[values, levels] the ratings as token ids."""
    batch_size: int
    """Prompts in a batch."""

    def batches(self, rng: np.random.Generator, count: int | None) -> list[RatingDraw]:
        """So many batches, or as many as have each rating in question once."""
        ratings = len(self.rated.users)
        batches = -(-ratings // self.batch_size) if count is None else count
        rounds = -(-batches * self.batch_size // ratings)
        asked = np.concatenate([rng.permutation(ratings) for _ in range(rounds)])
        templates = select(self.source.templates, RATING, "seen")
        return [
            RatingDraw(
                [self._row(int(rating), rng) for rating in part],
                templates[int(rng.integers(len(templates)))],
            )
            for part in np.array_split(asked[: batches * self.batch_size], batches)
        ]

    def loss(self, batch: RatingDraw) -> Tensor:
        """The mean loss of the ratings' tokens."""
        loss: Tensor = self.model(*(tensor.to(device()) for tensor in self.write(batch).tensors))
        return loss

    def fingerprint(self) -> str:
        """See `Family`."""
        rated = self.rated
        arrays = (rated.users, rated.items, rated.values, self.codes)
        return digest((self.batch_size, select(self.source.templates, RATING, "seen")), arrays)

    def write(self, batch: RatingDraw) -> Batch:
        """Writes a batch out: prompts, and the code of the last rating of each row."""
        prompts = [self._prompt(row, batch.template) for row in batch.rows]
        last = self.rated.values[[row[-1] for row in batch.rows]]
        labels = self.codes[last].astype(np.int64)[:, None]
        labels[labels == self.source.pad] = IGNORE
        ids, mask = pad_prompts(prompts, self.source.pad)
        return Batch(torch.from_numpy(ids), torch.from_numpy(mask), torch.from_numpy(labels))

    def _row(self, rating: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Some other ratings of the same user, as many as there are by chance, and this one."""
        own = self._by_user[int(self.rated.users[rating])]
        others = rng.permutation(own[own != rating])[:MOST_SHOWN]
        return np.append(others[: rng.integers(len(others) + 1)], rating)

    def _prompt(self, row: NDArray[np.int64], template: Template) -> list[int]:
        items, values = self.rated.items[row].tolist(), self.rated.values[row].tolist()
        texts = [self.source.code_texts[item] for item in items]
        told = zip(texts[:-1], values[:-1], strict=True)
        return render_ids(
            template,
            self.source.encode,
            dataset=self.source.dataset,
            user=user_text(None),
            history=[f"{text} {rating_text(value)}" for text, value in told],
            max_tokens=self.source.max_tokens,
            item=texts[-1],
        )

    @cached_property
    def _by_user(self) -> list[NDArray[np.int64]]:
        users = self.rated.users
        order = np.argsort(users, kind="stable")
        ends = np.cumsum(np.bincount(users))
        return np.split(order, ends[:-1])
