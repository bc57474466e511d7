"""Training a generator that reads tokens."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.progress import Progress
from torch import Tensor, nn
from transformers import PreTrainedModel

from offline.generator.config import TokenTrainConfig
from offline.generator.tokens.backbones import loss_of
from offline.generator.tokens.examples import ExampleSource, Window
from offline.training.together import device
from offline.training.trainer import train


@dataclass(frozen=True)
class Draw:
    """A batch before it is written out: that is done when its turn comes."""

    windows: Sequence[Window]
    seed: int
    """Of the prompts' wording, and of what is left out of histories."""


@dataclass(frozen=True)
class TokenLearner:
    """The generator and its examples; see `offline.training.trainer.Learner`."""

    model: nn.Module
    """See `loss_of`."""
    source: ExampleSource
    batch_size: int
    name: str = "generator"

    def batches(self, rng: np.random.Generator) -> list[Draw]:
        """The batches of one epoch."""
        drawn = self.source.epoch(rng, self.batch_size)
        return [Draw(windows, int(rng.integers(2**63))) for windows in drawn]

    def loss(self, batch: Draw) -> Tensor:
        """The mean loss of a batch's target tokens."""
        written = self.source.collate(batch.windows, np.random.default_rng(batch.seed))
        loss: Tensor = self.model(*(tensor.to(device()) for tensor in written.tensors))
        return loss


def train_tokens(
    model: PreTrainedModel,
    source: ExampleSource,
    config: TokenTrainConfig,
    *,
    path: Path | None = None,
    bar: Progress | None = None,
) -> None:
    """Trains a model in place, and leaves it on the CPU as it was after the last epoch.

    Args:
        model: untrained, or a checkpoint to go on from.
        source: what it learns from.
        config: how it learns.
        path: where the state is kept between epochs; nowhere when None.
        bar: to show epochs on.

    Raises:
        CheckpointError: the state is of another training.
    """
    loss = loss_of(model).to(device())
    learner = TokenLearner(loss, source, config.batch_size)
    fingerprint = _fingerprint(source, config)
    # Scoring every item token by token would take longer than training: nobody is validated on.
    train(learner, None, config.loop, path=path, fingerprint=fingerprint, bar=bar)
    nn.Module.to(model, "cpu")  # transformers wraps its own `to` untyped


def _fingerprint(source: ExampleSource, config: TokenTrainConfig) -> str:
    """Changes with anything that the result depends on beside the loop's configuration."""
    facts = (source.dataset, source.max_history, source.max_tokens, source.user_tokens)
    drawn = (source.direct_share, source.history_dropout, source.targets)
    batches = (source.prompts, config.batch_size)
    digest = hashlib.sha256(
        repr((facts, drawn, batches, source.templates, source.code_texts)).encode()
    )
    for array in (source.codes, *source.sequences):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
