"""Training a generator that reads whole items."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.progress import Progress
from tokenizers import Tokenizer

from offline.dataset import Dataset
from offline.generator.config import FamilyShares, ItemTrainConfig
from offline.generator.items.expected import ExpectedItems
from offline.generator.items.families import DirectItems, Sequences, SequentialItems
from offline.generator.items.model import ItemT5
from offline.generator.items.ratings import RatingItems
from offline.generator.items.scores import exact_scores
from offline.ratings.rated import Rated
from offline.training.config import batch_items_for
from offline.training.families import Family, FamilyLearner, digest
from offline.training.together import device
from offline.training.trainer import train
from offline.training.validation import Validation
from services.generator.prompts import (
    DIRECT,
    RATING,
    SEQUENTIAL,
    Template,
    check_item_prompts,
    render,
    select,
    user_text,
)


@dataclass(frozen=True)
class ItemPrompts:
    """How prompts are written before the history."""

    templates: Sequence[Template]
    tokenizer: Tokenizer
    dataset: str
    user_tokens: int
    """Tokens of the vocabulary that stand for users; 0 where users are not learned by name."""

    def words(self, template: Template, user: int | None) -> list[int]:
        """A template's words, as token ids."""
        name = user_text(user, self.user_tokens)
        text = render(template, dataset=self.dataset, user=name, history=())
        ids: list[int] = self.tokenizer.encode(text).ids
        return ids

    def token_of(self, user: int) -> int:
        """The token that stands for a user."""
        (token,) = self.tokenizer.encode(user_text(user, self.user_tokens)).ids
        return int(token)

    @property
    def serving(self) -> Template:
        """What is asked about a history when served."""
        return select(self.templates, SEQUENTIAL, "seen")[0]


def train_items(
    model: ItemT5,
    data: Dataset,
    prompts: ItemPrompts,
    config: ItemTrainConfig,
    *,
    max_history: int,
    shares: FamilyShares,
    history_dropout: float,
    expected: ExpectedItems | None = None,
    rated: Rated | None = None,
    start: Callable[[ItemT5], None] | None = None,
    more: Sequence[tuple[Family[Any], float]] = (),
    path: Path | None = None,
    bar: Progress | None = None,
) -> dict[int, float]:
    """Trains a model in place, and leaves it on the CPU as it was best on validation.

    Args:
        model: untrained.
        data: what it learns from, and what it is validated by.
        prompts: how it is asked.
        config: how it learns.
        max_history: newest items of a history that are read.
        shares: how much of the training each family is.
        history_dropout: probability of leaving an item of a history out.
        expected: what users by name are told beside their own items.
        rated: the ratings to learn from, where the model is to rate.
        start: gives the model what it goes on from; from nothing when None.
        more: other families, each with its share.
        path: where the state is kept between epochs; nowhere when None.
        bar: to show epochs and validation on.

    Returns:
        Validation NDCG@10, filtered, by epoch.
    """
    check_item_prompts(prompts.templates)
    first = _sequential(model, data, prompts, config, max_history, history_dropout)
    direct = _direct(model, first.sequences, prompts, expected) if shares.direct else None
    _begin(model, direct, prompts, start)
    others = [*_others(model, prompts, shares, direct, rated), *more]
    learner = FamilyLearner(model.to(device()), first, others)
    words = prompts.words(prompts.serving, None)

    def scores(histories: Sequence[NDArray[np.int32]]) -> NDArray[np.float32]:
        return exact_scores(model, words, histories, max_history)

    done = train(
        learner,
        Validation.of(data.holdout("validation"), scores, config.loop),
        config.loop,
        path=path,
        fingerprint=_fingerprint(model, learner),
        bar=bar,
        trained=start is not None,
    )
    model.cpu()
    return done.curve


def _sequential(
    model: ItemT5,
    data: Dataset,
    prompts: ItemPrompts,
    config: ItemTrainConfig,
    max_history: int,
    history_dropout: float,
) -> SequentialItems:
    sequences = Sequences(data.train(), data.train_times(), data.train_weights())
    return SequentialItems(
        model=model,
        sequences=sequences,
        templates=select(prompts.templates, SEQUENTIAL, "seen"),
        words=prompts.words,
        max_history=max_history,
        batch_items=config.batch_items or batch_items_for(sum(map(len, sequences.items))),
        history_dropout=history_dropout,
    )


def _direct(
    model: ItemT5, sequences: Sequences, prompts: ItemPrompts, expected: ExpectedItems | None
) -> DirectItems | None:
    """The family that asks by name, where users have names."""
    if not prompts.user_tokens:
        return None
    asked = select(prompts.templates, DIRECT, "seen")
    return DirectItems(model, sequences, asked, prompts.words, expected)


def _others(
    model: ItemT5,
    prompts: ItemPrompts,
    shares: FamilyShares,
    direct: DirectItems | None,
    rated: Rated | None,
) -> list[tuple[Family[Any], float]]:
    """The families beside the sequential one, with their shares."""
    others: list[tuple[Family[Any], float]] = []
    if direct is not None:
        others.append((direct, shares.direct))
    if rated is not None:
        asked = select(prompts.templates, RATING, "seen")
        others.append((RatingItems(model, rated, asked, prompts.words), shares.rating_share))
    return others


def _begin(
    model: ItemT5,
    direct: DirectItems | None,
    prompts: ItemPrompts,
    start: Callable[[ItemT5], None] | None,
) -> None:
    """Users start as what is expected of them, unless there is something better to go on from."""
    if direct is not None and direct.expected is not None:
        tokens = [prompts.token_of(user) for user in range(len(direct.sequences.items))]
        model.start_users(tokens, direct.expected.vectors(model.item_vectors.detach().numpy()))
    if start is not None:
        start(model)


def _fingerprint(model: ItemT5, learner: FamilyLearner) -> str:
    """Changes with anything that the result depends on beside the loop's configuration."""
    arrays = (model.tree.tokens.cpu().numpy(), model.item_vectors.detach().cpu().numpy())
    return digest((model.item_share, learner.fingerprint()), arrays)
