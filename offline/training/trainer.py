"""The training loop: epochs, validation, the best model, and a checkpoint after every epoch.

Deterministic by the seed (bit for bit on one machine's CPU with as many threads), and resumable:
killed at any moment, it continues after the last whole epoch to the same result. Under `torchrun`
each process computes its share of the batches, and gradients are averaged.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import numpy as np
import torch
from rich.progress import Progress as ProgressBar
from torch import Tensor, nn

from offline.training import checkpoint, deadline
from offline.training.checkpoint import Progress
from offline.training.config import TrainingConfig
from offline.training.together import average_gradients, rank, together, world
from offline.training.validation import Validation

Batch = TypeVar("Batch")


class Learner(Protocol[Batch]):
    """A model, and what it learns from."""

    @property
    def model(self) -> nn.Module:
        """What learns."""

    @property
    def name(self) -> str:
        """What the progress bar calls it."""

    def batches(self, rng: np.random.Generator) -> list[Batch]:
        """The batches of one epoch."""

    def loss(self, batch: Batch) -> Tensor:
        """The mean loss of a batch."""


def train(
    learner: Learner[Batch],
    validation: Validation | None,
    config: TrainingConfig,
    *,
    path: Path | None = None,
    fingerprint: str = "",
    bar: ProgressBar | None = None,
    trained: bool = False,
) -> Progress:
    """Trains a model in place, and leaves it as it was best on validation, or at last without one.

    Args:
        learner: what learns, on the device where it is to be trained.
        validation: what it is judged by.
        config: how.
        path: where to keep the state between epochs; nowhere when None.
        fingerprint: of everything that the result depends on beside the configuration.
        bar: to show epochs and validation on.
        trained: whether the model is that of an earlier training: then it is validated as it comes,
            as of epoch 0, and kept where no epoch makes it better.

    Returns:
        The history of the training.

    Raises:
        CheckpointError: the checkpoint is of another training.
        OutOfTime: `deadline.limited` says so before an epoch; the checkpoint has those before.
    """
    loop = _Loop(learner, validation, config, bar or ProgressBar(disable=True))
    with together():
        done = loop.run(trained, path, f"{config.model_dump_json()} {fingerprint}")
    checkpoint.restore(learner.model, done.best)
    learner.model.eval()
    return done


class _Loop(Generic[Batch]):
    def __init__(
        self,
        learner: Learner[Batch],
        validation: Validation | None,
        config: TrainingConfig,
        bar: ProgressBar,
    ) -> None:
        self._learner = learner
        self._model = learner.model
        self._validation = validation
        self._config = config
        self._bar = bar
        learned = checkpoint.state_of(learner.model)
        self._names, self._parameters = list(learned), list(learned.values())
        self._optimizer = _optimizer(learner.model, config)
        self._average: list[Tensor] = []
        device = self._parameters[0].device.type
        bf16 = config.precision == "bf16" or (config.precision == "auto" and device == "cuda")
        self._autocast = torch.autocast(device, torch.bfloat16, enabled=bf16)

    def run(self, trained: bool, path: Path | None, fingerprint: str) -> Progress:
        """Trains what the checkpoint leaves to do."""
        done, config = Progress(), self._config
        if path is not None:
            done = checkpoint.load(path, self._model, self._optimizer, fingerprint)
            device = self._parameters[0].device
            self._average = [done.average[name].to(device) for name in self._names if done.average]
        title = f"Training the {self._learner.name}"
        task = self._bar.add_task(title, total=config.epochs, completed=done.epoch)
        if trained and not done.epoch:
            done = self._validated(done)
        while done.epoch < config.epochs and not self._is_stale(done):
            if path is not None:
                deadline.check()
            done = self._epoch(done, lambda share: self._bar.advance(task, share))
            if done.epoch % config.evaluate_every == 0 or done.epoch == config.epochs:
                done = self._validated(done)
                note = f"{title} (validation NDCG@10 {done.curve[done.epoch]:.4f})"
                self._bar.update(task, description=note)
            if path is not None and rank() == 0:
                checkpoint.save(path, done, self._model, self._optimizer, fingerprint)
        self._bar.update(task, completed=config.epochs)
        return done

    def _is_stale(self, done: Progress) -> bool:
        later = [epoch for epoch in done.curve if epoch > done.best_epoch]
        return len(later) >= self._config.patience

    def _epoch(self, done: Progress, advance: Callable[[float], object]) -> Progress:
        config, step = self._config, done.step
        # Seeded by the epoch, so that a resumed training draws what an unbroken one draws.
        torch.manual_seed(config.seed * 1_000_003 + done.epoch * world() + rank())
        batches = self._learner.batches(np.random.default_rng([config.seed, done.epoch]))
        batches = batches[: max(1, len(batches) // world()) * world()]
        own = batches[rank() :: world()] or batches
        self._model.train()
        for i, batch in enumerate(own):
            position = (done.epoch + i / len(own)) / config.epochs
            rate = config.learning_rate * _schedule(position, step, config.warmup_steps)
            self._step(batch, rate)
            step += 1
            advance(1 / len(own))
        average = dict(zip(self._names, self._average, strict=False))
        return replace(done, epoch=done.epoch + 1, step=step, average=average)

    def _step(self, batch: Batch, rate: float) -> None:
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self._optimizer.zero_grad()
        with self._autocast:
            loss = self._learner.loss(batch)
        loss.backward()  # type: ignore[no-untyped-call]
        average_gradients(self._parameters)
        nn.utils.clip_grad_norm_(self._parameters, self._config.clip)
        self._optimizer.step()
        self._follow()

    @torch.no_grad()
    def _follow(self) -> None:
        """Moves the running average towards the weights."""
        if not self._config.average:
            return
        if not self._average:
            self._average = [parameter.detach().clone() for parameter in self._parameters]
        share = 1.0 - self._config.average
        torch._foreach_lerp_(self._average, list[Tensor](self._parameters), share)

    def _validated(self, done: Progress) -> Progress:
        """Asks the validation users, and notes what the model was like if it was never better."""
        own = [parameter.detach().clone() for parameter in self._parameters]
        self._put(self._average)
        self._model.eval()
        ndcg = 0.0 if self._validation is None else self._validation.ndcg()
        done = done.validated(ndcg, self._model)
        self._put(own)
        return done

    @torch.no_grad()
    def _put(self, values: Sequence[Tensor]) -> None:
        for parameter, value in zip(self._parameters, values, strict=False):
            parameter.copy_(value)


def _optimizer(model: nn.Module, config: TrainingConfig) -> torch.optim.Optimizer:
    """AdamW without weight decay on vectors and on tables of item vectors."""
    named = list(checkpoint.state_of(model).items())
    free = [p for name, p in named if p.ndim <= 1 or name.endswith("item_vectors")]
    decayed = [p for name, p in named if p.ndim > 1 and not name.endswith("item_vectors")]
    groups = [
        {"params": decayed, "weight_decay": config.weight_decay},
        {"params": free, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, betas=(0.9, 0.98))


def _schedule(position: float, step: int, warmup_steps: int) -> float:
    """Share of the peak learning rate: linear warm-up by steps, a cosine over the training."""
    warmup = min(1.0, (step + 1) / warmup_steps) if warmup_steps else 1.0
    return warmup * (0.02 + 0.98 * 0.5 * (1.0 + math.cos(math.pi * position)))
