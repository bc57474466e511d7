"""Training a generator that reads tokens."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import Progress
from torch import Tensor, nn
from transformers import PreTrainedModel

from offline.generator.config import TokenTrainConfig
from offline.generator.tokens.backbones import loss_of
from offline.generator.tokens.examples import ExampleSource, Window
from offline.training.families import Family, FamilyLearner, digest
from offline.training.together import device
from offline.training.trainer import train


@dataclass(frozen=True)
class Draw:
    """A batch before it is written out: that is done when its turn comes."""

    windows: Sequence[Window]
    seed: int
    """Of the prompts' wording, and of what is left out of histories."""


@dataclass(frozen=True)
class TokenItems:
    """The families whose answer is an item, in one prompt after another; see `Family`."""

    model: nn.Module
    """See `loss_of`."""
    source: ExampleSource
    batch_size: int

    def batches(self, rng: np.random.Generator, count: int | None = None) -> list[Draw]:
        """The batches of one pass over the sequences."""
        drawn = self.source.epoch(rng, self.batch_size)
        return [Draw(windows, int(rng.integers(2**63))) for windows in drawn][:count]

    def loss(self, batch: Draw) -> Tensor:
        """The mean loss of a batch's target tokens."""
        written = self.source.collate(batch.windows, np.random.default_rng(batch.seed))
        loss: Tensor = self.model(*(tensor.to(device()) for tensor in written.tensors))
        return loss

    def fingerprint(self) -> str:
        """See `Family`."""
        source = self.source
        facts = (source.dataset, source.max_history, source.max_tokens, source.targets)
        drawn = (source.direct_share, source.history_dropout, source.user_tokens)
        batches = (source.prompts, self.batch_size)
        asked = (source.templates, source.code_texts)
        return digest((facts, drawn, batches, asked), (source.codes, *source.sequences))


def train_tokens(
    model: PreTrainedModel,
    source: ExampleSource,
    config: TokenTrainConfig,
    *,
    others: Sequence[tuple[Family[Any], float]] = (),
    path: Path | None = None,
    bar: Progress | None = None,
) -> None:
    """Trains a model in place, and leaves it on the CPU as it was after the last epoch.

    Args:
        model: untrained, or a checkpoint to go on from.
        source: what it learns from.
        config: how it learns.
        others: families beside those whose answer is an item, each with its share; see
            `FamilyLearner`.
        path: where the state is kept between epochs; nowhere when None.
        bar: to show epochs on.

    Raises:
        CheckpointError: the state is of another training.
    """
    loss = loss_of(model).to(device())
    learner = FamilyLearner(loss, TokenItems(loss, source, config.batch_size), others)
    # Scoring every item token by token would take longer than training: nobody is validated on.
    train(learner, None, config.loop, path=path, fingerprint=learner.fingerprint(), bar=bar)
    nn.Module.to(model, "cpu")  # transformers wraps its own `to` untyped
