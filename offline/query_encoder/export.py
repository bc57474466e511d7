"""The trained query encoder as the files that serving reads."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from offline.parity import ParityError
from offline.query_encoder.graph import query_graph
from offline.query_encoder.model import QueryEncoder
from offline.query_encoder.projection import fit_projection
from offline.query_encoder.train import TrainedQueryEncoder
from services.candidate.index.space import Space, SpaceName
from services.candidate.retrieval.encoders import OnnxQueryEncoder

GRAPH = "query_encoder.onnx"
PROJECTION = "behavior_projection.npy"
MAX_ERROR = 1e-4


@dataclass(frozen=True)
class QueryEncoderExport:
    """What was exported: the manifest's description of the query encoder."""

    dimension: int
    max_history: int
    """Newest items of a history that are read."""
    max_error: float
    """The largest difference of a logit between torch and ONNX Runtime, over the probes."""


def export_query_encoder(trained: TrainedQueryEncoder, directory: Path) -> QueryEncoderExport:
    """Writes the graph, the behavior space and the projection for new items.

    `query_encoder.onnx` is what `query_graph` writes: its `history` is the behavior vectors of at
    most `max_history` items, and the inner product of its `query` with an item's behavior vector is
    the logit of that item. Beside it: `behavior_vectors.npy`, and `behavior_projection.npy`, which
    makes a behavior vector of a new item's content vector (see `fit_projection`).

    Raises:
        ParityError: a logit differs from the torch model's by more than 1e-4.
    """
    vectors = trained.behavior_vectors
    longest = trained.config.max_history
    onnx.save(query_graph(trained.encoder, longest), directory / GRAPH)
    error = require_equal(trained.encoder, vectors, longest, directory / GRAPH)
    Space.write(directory, SpaceName.BEHAVIOR, vectors)
    projection = fit_projection(trained.content_vectors, vectors, trained.interactions)
    np.save(directory / PROJECTION, projection, allow_pickle=False)
    return QueryEncoderExport(vectors.shape[1], longest, error)


def require_equal(
    encoder: QueryEncoder, table: NDArray[np.float32], longest: int, path: Path
) -> float:
    """Compares logits on random histories of all lengths, alone and padded in one batch.

    Args:
        encoder: in evaluation mode.
        table: float32 [items, dimension], the behavior vectors.
        longest: items of a history, at most.
        path: of the graph.

    Returns:
        The largest difference.

    Raises:
        ParityError: it is more than 1e-4.
    """
    generator = np.random.default_rng(0)
    lengths = sorted({1, 2, 3, longest // 2 + 1, longest})
    histories = [table[generator.integers(len(table), size=length)] for length in lengths]
    with torch.inference_mode():
        expected = np.stack([_alone(encoder, history) for history in histories])
    graph = OnnxQueryEncoder(path, threads=1)
    batch = graph.encode_batch(histories)
    alone = np.stack([graph.encode(history) for history in histories])
    error = float(max(np.abs((queries - expected) @ table.T).max() for queries in (batch, alone)))
    if not error <= MAX_ERROR:  # a NaN fails too
        raise ParityError(
            f"the exported query encoder differs from the torch model: a logit by {error:.2g}, "
            f"more than {MAX_ERROR}"
        )
    return error


def _alone(encoder: QueryEncoder, history: NDArray[np.float32]) -> NDArray[np.float32]:
    query: NDArray[np.float32] = encoder(torch.from_numpy(history[None]))[0, -1].numpy()
    return query
