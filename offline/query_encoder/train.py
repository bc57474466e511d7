"""Training the query encoder: full softmax over the catalog at every position.

Deterministic by the seed (bit for bit on one machine's CPU with as many threads), and resumable:
killed at any moment, it continues after the last whole epoch to the same result.
"""

import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import Progress as ProgressBar
from rich.progress import TaskID
from torch import nn

from offline.dataset.schema import Dataset
from offline.metrics import ndcg, ranks_from_scores
from offline.query_encoder import checkpoint
from offline.query_encoder.batches import epoch_batches
from offline.query_encoder.checkpoint import Progress
from offline.query_encoder.config import QueryEncoderConfig
from offline.query_encoder.model import QueryEncoder, QueryModel, principal_components

FloatArray = NDArray[np.float32]

_MAX_NORM = 1.0
_USERS_AT_ONCE = 1024
"""Validation scores of so many users are held at a time."""


@dataclass(frozen=True)
class TrainedQueryEncoder:
    """The encoder and the item vectors that were best on validation.

    Attributes:
        encoder: In evaluation mode, on the CPU.
        behavior_vectors: float32 [items, dimension], of unit norm.
        content_vectors: float32 [items, content dimension], what the item vectors started from.
        interactions: int64 [items], how often each item occurs in the training sequences.
        config: How it was trained.
        best_epoch: The epoch it is from, counted from 1.
        curve: Validation NDCG@10, filtered, by epoch.
    """

    encoder: QueryEncoder
    behavior_vectors: FloatArray
    content_vectors: FloatArray
    interactions: NDArray[np.int64]
    config: QueryEncoderConfig
    best_epoch: int
    curve: dict[int, float]


def train_query_encoder(
    dataset: Dataset,
    content_vectors: FloatArray,
    config: QueryEncoderConfig | None = None,
    *,
    checkpoint_path: Path | None = None,
    device: str = "auto",
    progress: ProgressBar | None = None,
) -> TrainedQueryEncoder:
    """Trains on the training part of every sequence, and keeps what is best on validation.

    Args:
        dataset: The interactions.
        content_vectors: float32 [items, content dimension], the embeddings of the item texts.
        config: Shape and training.
        checkpoint_path: Where to keep the state between epochs; nowhere when None.
        device: `cpu`, `cuda`, or `auto` for a GPU where there is one.
        progress: A bar to show epochs and validation on.

    Raises:
        ValueError: there is nothing to train on, or the vectors are not those of the items.
        CheckpointError: the checkpoint is of another training.
    """
    config = config or QueryEncoderConfig()
    if len(content_vectors) != len(dataset.items):
        raise ValueError(f"{len(content_vectors)} vectors for {len(dataset.items)} items")
    if not any(len(sequence) > 1 for sequence in dataset.train()):
        raise ValueError("no user has two training interactions: there is nothing to train on")
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        model = QueryModel(config, principal_components(content_vectors, config)).to(_pick(device))
        run = _Run(model, dataset, config, progress)
        done = run.train(checkpoint_path, _fingerprint(dataset, content_vectors, config))
    model.load_state_dict(done.best)
    model.eval().cpu()
    with torch.inference_mode():
        vectors = model.table().numpy()
    return TrainedQueryEncoder(
        encoder=model.encoder,
        behavior_vectors=vectors,
        content_vectors=content_vectors,
        interactions=np.bincount(np.concatenate(dataset.train()), minlength=len(vectors)),
        config=config,
        best_epoch=done.best_epoch,
        curve=done.curve,
    )


class _Run:
    """One training run: the epochs, their validations, and the checkpoint between them."""

    def __init__(
        self,
        model: QueryModel,
        dataset: Dataset,
        config: QueryEncoderConfig,
        progress: ProgressBar | None,
    ) -> None:
        self._model = model
        self._sequences = dataset.train()
        self._validation = dataset.holdout("validation")
        self._config = config
        self._bar = progress or ProgressBar(disable=True)
        matrices = [p for p in model.encoder.parameters() if p.ndim > 1]
        others = [p for p in model.encoder.parameters() if p.ndim <= 1]
        self._optimizer = torch.optim.AdamW(
            [
                {"params": matrices, "weight_decay": config.weight_decay},
                {"params": [*others, model.item_vectors], "weight_decay": 0.0},
            ],
            betas=(0.9, 0.98),
        )

    def train(self, path: Path | None, fingerprint: str) -> Progress:
        """Trains what the checkpoint leaves to do, and returns the best model."""
        done = Progress()
        if path is not None:
            done = checkpoint.load(path, self._model, self._optimizer, fingerprint)
        epochs = self._config.epochs
        task = self._bar.add_task("Training the query encoder", total=epochs, completed=done.epoch)
        while done.epoch < epochs:
            # Seeded by the epoch, so that a resumed training draws what an unbroken one draws.
            torch.manual_seed(self._config.seed * 1_000_003 + done.epoch)
            generator = np.random.default_rng([self._config.seed, done.epoch])
            step = self._epoch(done, generator, task)
            done = replace(done, epoch=done.epoch + 1, step=step)
            if done.epoch % self._config.evaluate_every == 0 or done.epoch == epochs:
                done = done.validated(self._validate(), self._model)
                self._show(task, done)
            if path is not None:
                checkpoint.save(path, done, self._model, self._optimizer, fingerprint)
        return done

    def _epoch(self, done: Progress, generator: np.random.Generator, task: TaskID) -> int:
        config, step = self._config, done.step
        batches = list(
            epoch_batches(self._sequences, config.max_history, config.batch_items, generator)
        )
        for i, batch in enumerate(batches):
            position = (done.epoch + i / len(batches)) / config.epochs
            for group in self._optimizer.param_groups:
                group["lr"] = config.learning_rate * _schedule(position, step, config.warmup_steps)
            self._optimizer.zero_grad()
            self._model.loss(batch).backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(self._model.parameters(), _MAX_NORM)
            self._optimizer.step()
            step += 1
            self._bar.advance(task, 1 / len(batches))
        return step

    def _validate(self) -> float:
        """NDCG@10 on the validation targets, seen items left out; 0 without any user to ask."""
        histories, targets = self._validation.histories, self._validation.targets
        if not len(targets):
            return 0.0
        self._model.eval()
        ranks = [
            ranks_from_scores(
                self._model.scores(histories[part]), targets[part], seen=histories[part]
            )
            for part in _slices(len(targets), _USERS_AT_ONCE)
        ]
        self._model.train()
        return ndcg(np.concatenate(ranks), 10)

    def _show(self, task: TaskID, done: Progress) -> None:
        text = f"Training the query encoder (validation NDCG@10 {done.curve[done.epoch]:.4f})"
        self._bar.update(task, description=text)


def _pick(device: str) -> str:
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return device


def _schedule(position: float, step: int, warmup_steps: int) -> float:
    """Share of the peak learning rate: linear warm-up by steps, a cosine over the training."""
    warmup = min(1.0, (step + 1) / warmup_steps) if warmup_steps else 1.0
    return warmup * (0.02 + 0.98 * 0.5 * (1.0 + math.cos(math.pi * position)))


def _fingerprint(dataset: Dataset, content_vectors: FloatArray, config: QueryEncoderConfig) -> str:
    """Changes with anything that the result depends on."""
    digest = hashlib.sha256(json.dumps(asdict(config), sort_keys=True).encode())
    for array in (dataset.indptr, dataset.item_index, content_vectors):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _slices(total: int, size: int) -> Iterator[slice]:
    return (slice(start, start + size) for start in range(0, total, size))
