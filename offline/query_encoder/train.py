"""Training the query encoder: full softmax over the catalog at every position."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import Progress as ProgressBar
from torch import Tensor

from offline.dataset.schema import Dataset
from offline.query_encoder.batches import Batch, epoch_batches
from offline.query_encoder.config import QueryEncoderConfig
from offline.query_encoder.model import QueryEncoder, QueryModel, principal_components
from offline.training import checkpoint
from offline.training.config import batch_items_for
from offline.training.together import device as own_device
from offline.training.trainer import train
from offline.training.validation import Validation

FloatArray = NDArray[np.float32]


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


@dataclass(frozen=True)
class QueryStart:
    """A query encoder to go on from."""

    encoder: QueryEncoder
    """Of the shape that is trained."""
    item_vectors: FloatArray
    """float32 [items, dimension], by today's items."""


@dataclass(frozen=True)
class _Learner:
    """The query encoder, and the sequences that it learns from."""

    model: QueryModel
    sequences: Sequence[NDArray[np.int32]]
    config: QueryEncoderConfig
    weights: Sequence[NDArray[np.float32]] | None = None
    name: str = "query encoder"

    def batches(self, rng: np.random.Generator) -> list[Batch]:
        """See `offline.training.trainer.Learner`."""
        size = self.config.batch_items or batch_items_for(sum(map(len, self.sequences)))
        longest = self.config.max_history
        return list(epoch_batches(self.sequences, longest, size, rng, self.weights))

    def loss(self, batch: Batch) -> Tensor:
        """See `offline.training.trainer.Learner`."""
        return self.model.loss(batch)


def train_query_encoder(
    dataset: Dataset,
    content_vectors: FloatArray,
    config: QueryEncoderConfig | None = None,
    *,
    start: QueryStart | None = None,
    checkpoint_path: Path | None = None,
    device: str = "auto",
    progress: ProgressBar | None = None,
) -> TrainedQueryEncoder:
    """Trains on the training part of every sequence, and keeps what is best on validation.

    Args:
        dataset: The interactions.
        content_vectors: float32 [items, content dimension], the embeddings of the item texts.
        config: Shape and training.
        start: What training goes on from; from nothing when None.
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
        torch.manual_seed(config.train.seed)
        where = own_device() if device == "auto" else torch.device(device)
        model = _begun(config, content_vectors, start).to(where)
        done = train(
            _Learner(model, dataset.train(), config, dataset.train_weights()),
            Validation.of(dataset.holdout("validation"), model.scores, config.train),
            config.train,
            path=checkpoint_path,
            fingerprint=_fingerprint(dataset, model, content_vectors, config),
            bar=progress,
            trained=start is not None,
        )
    model.cpu()
    with torch.inference_mode():
        vectors = model.table().numpy()
    return TrainedQueryEncoder(
        encoder=model.encoder,
        behavior_vectors=vectors,
        content_vectors=content_vectors,
        interactions=dataset.popularity(),
        config=config,
        best_epoch=done.best_epoch,
        curve=done.curve,
    )


def _begun(
    config: QueryEncoderConfig, content_vectors: FloatArray, start: QueryStart | None
) -> QueryModel:
    seed = config.train.seed
    if start is None:
        return QueryModel(config, principal_components(content_vectors, config.dimension, seed))
    model = QueryModel(config, start.item_vectors)
    checkpoint.restore(model.encoder, checkpoint.state_of(start.encoder))
    return model


def _fingerprint(
    dataset: Dataset, model: QueryModel, content_vectors: FloatArray, config: QueryEncoderConfig
) -> str:
    """Changes with anything that the result depends on."""
    digest = hashlib.sha256(config.model_dump_json().encode())
    weights = () if dataset.weights is None else (dataset.weights,)
    start = model.item_vectors.detach().cpu().numpy()
    for array in (dataset.indptr, dataset.item_index, content_vectors, start, *weights):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
