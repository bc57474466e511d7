"""Training a generator that reads whole items."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.progress import Progress
from tokenizers import Tokenizer
from torch import Tensor

from offline.dataset import Dataset
from offline.generator.config import ItemTrainConfig
from offline.generator.items.batches import ItemBatch, ItemBatches
from offline.generator.items.expected import ExpectedItems
from offline.generator.items.model import ItemT5
from offline.generator.items.scores import exact_scores
from offline.training.config import batch_items_for
from offline.training.together import device
from offline.training.trainer import train
from offline.training.validation import Validation
from services.generator.prompts import (
    DIRECT,
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


@dataclass(frozen=True)
class ItemLearner:
    """The generator and its prompts; see `offline.training.trainer.Learner`."""

    model: ItemT5
    source: ItemBatches
    words: Sequence[int]
    """Of the prompt that serves, which validation asks."""
    name: str = "generator"

    def batches(self, rng: np.random.Generator) -> list[ItemBatch]:
        """The batches of one epoch."""
        return self.source.epoch(rng)

    def loss(self, batch: ItemBatch) -> Tensor:
        """The mean loss of a batch."""
        return self.model.loss(batch)

    def scores(self, histories: Sequence[NDArray[np.int32]]) -> NDArray[np.float32]:
        """The log-probability of every item after each history."""
        return exact_scores(self.model, self.words, histories, self.source.max_history)


def train_items(
    model: ItemT5,
    data: Dataset,
    prompts: ItemPrompts,
    config: ItemTrainConfig,
    *,
    max_history: int,
    direct_share: float,
    history_dropout: float,
    expected: ExpectedItems | None = None,
    start: Callable[[ItemT5], None] | None = None,
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
        direct_share: batches without history, as a share of those with one.
        history_dropout: probability of leaving an item of a history out.
        expected: what users by name are told beside their own items.
        start: gives the model what it goes on from; from nothing when None.
        path: where the state is kept between epochs; nowhere when None.
        bar: to show epochs and validation on.

    Returns:
        Validation NDCG@10, filtered, by epoch.
    """
    check_item_prompts(prompts.templates)
    named = direct_share > 0 and prompts.user_tokens > 0
    source = ItemBatches(
        sequences=data.train(),
        times=data.train_times(),
        sequential=select(prompts.templates, SEQUENTIAL, "seen"),
        direct=select(prompts.templates, DIRECT, "seen") if named else (),
        words=prompts.words,
        max_history=max_history,
        batch_items=config.batch_items or batch_items_for(sum(map(len, data.train()))),
        direct_share=direct_share,
        history_dropout=history_dropout,
        expected=expected if named else None,
        weights=data.train_weights(),
    )
    _begin(model, source, prompts, start)
    learner = ItemLearner(model.to(device()), source, prompts.words(prompts.serving, None))
    done = train(
        learner,
        Validation.of(data.holdout("validation"), learner.scores, config.loop),
        config.loop,
        path=path,
        fingerprint=_fingerprint(model, source),
        bar=bar,
        trained=start is not None,
    )
    model.cpu()
    return done.curve


def _begin(
    model: ItemT5,
    source: ItemBatches,
    prompts: ItemPrompts,
    start: Callable[[ItemT5], None] | None,
) -> None:
    """Users start as what is expected of them, unless there is something better to go on from."""
    if source.expected is not None:
        tokens = [prompts.token_of(user) for user in range(len(source.sequences))]
        model.start_users(tokens, source.expected.vectors(model.item_vectors.detach().numpy()))
    if start is not None:
        start(model)


def _fingerprint(model: ItemT5, source: ItemBatches) -> str:
    """Changes with anything that the result depends on beside the loop's configuration."""
    facts = (source.max_history, source.batch_items, source.direct_share, source.history_dropout)
    asked = (source.sequential, source.direct)
    digest = hashlib.sha256(repr((model.item_share, facts, asked)).encode())
    arrays = [model.tree.tokens.cpu().numpy(), model.item_vectors.detach().cpu().numpy()]
    if source.expected is not None:
        arrays += [source.expected.items, source.expected.chances]
    for array in (*arrays, *source.sequences, *source.times, *(source.weights or ())):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
