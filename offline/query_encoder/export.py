"""The trained query encoder as the files that serving reads."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from offline.parity import ParityError, quiet_tracer
from offline.query_encoder.last_query import LastQuery
from offline.query_encoder.model import QueryEncoder
from offline.query_encoder.projection import fit_projection
from offline.query_encoder.train import TrainedQueryEncoder
from services.candidate.encoders import OnnxQueryEncoder
from services.candidate.space import Space, SpaceName

GRAPH = "query_encoder.onnx"
PROJECTION = "behavior_projection.npy"
MAX_ERROR = 1e-4

_OPSET = 17


@dataclass(frozen=True)
class QueryEncoderExport:
    """What was exported: the manifest's description of the query encoder."""

    dimension: int
    max_history: int
    max_error: float
    """The largest difference of a logit between torch and ONNX Runtime, over the probes."""


def export_query_encoder(trained: TrainedQueryEncoder, directory: Path) -> QueryEncoderExport:
    """Writes the graph, the behavior space and the projection for new items.

    `query_encoder.onnx` takes `history`, float32 [users, items, dimension], the behavior vectors
    of at most `max_history` items, padded at the end, and `lengths`, int64 [users]; it gives
    `query`, float32 [users, dimension], whose inner product with an item's behavior vector is the
    logit of that item. Beside it: `behavior_vectors.npy`, and `behavior_projection.npy`, which
    makes a behavior vector of a new item's content vector (`projection.project`).

    Raises:
        ParityError: a logit differs from the torch model's by more than 1e-4.
    """
    vectors = trained.behavior_vectors
    _export_graph(trained, directory / GRAPH)
    error = _largest_error(trained, directory / GRAPH)
    if not error <= MAX_ERROR:  # a NaN fails too
        raise ParityError(
            f"the exported query encoder differs from the torch model: a logit by {error:.2g}, "
            f"more than {MAX_ERROR}"
        )
    Space.write(directory, SpaceName.BEHAVIOR, vectors)
    projection = fit_projection(trained.content_vectors, vectors, trained.interactions)
    np.save(directory / PROJECTION, projection, allow_pickle=False)
    return QueryEncoderExport(vectors.shape[1], trained.config.max_history, error)


def _export_graph(trained: TrainedQueryEncoder, path: Path) -> None:
    dimension = trained.behavior_vectors.shape[1]
    served = LastQuery(trained.encoder, trained.config.max_history).eval()
    with torch.no_grad(), quiet_tracer():
        torch.onnx.export(
            served,
            (torch.zeros(2, 3, dimension), torch.tensor([3, 2])),
            str(path),
            input_names=["history", "lengths"],
            output_names=["query"],
            dynamic_axes={
                "history": {0: "users", 1: "items"},
                "lengths": {0: "users"},
                "query": {0: "users"},
            },
            opset_version=_OPSET,
            dynamo=False,  # see the text encoder's export
        )


def _largest_error(trained: TrainedQueryEncoder, path: Path) -> float:
    """Compares logits on random histories of all lengths, alone and padded in one batch."""
    generator = np.random.default_rng(0)
    table, longest = trained.behavior_vectors, trained.config.max_history
    lengths = sorted({1, 2, 3, longest // 2 + 1, longest})
    histories = [table[generator.integers(len(table), size=length)] for length in lengths]
    with torch.inference_mode():
        expected = np.stack([_alone(trained.encoder, history) for history in histories])
    graph = OnnxQueryEncoder(path, threads=1)
    batch = graph.encode_batch(histories)
    alone = np.stack([graph.encode(history) for history in histories])
    return float(max(np.abs((queries - expected) @ table.T).max() for queries in (batch, alone)))


def _alone(encoder: QueryEncoder, history: NDArray[np.float32]) -> NDArray[np.float32]:
    query: NDArray[np.float32] = encoder(torch.from_numpy(history[None]))[0, -1].numpy()
    return query
