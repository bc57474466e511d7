"""The indexes that the candidate service searches, and how much of exact search they find."""

import os
from pathlib import Path
from typing import Final, Literal

import faiss
import numpy as np
from rich.progress import Progress

from core.manifest import IndexKind, IndexSection
from offline.build.files import FACTS, read_json, write_json
from offline.dataset.schema import Dataset
from services.candidate.index.approximate import ApproximateIndex
from services.candidate.index.flat import Vector, VectorIndex
from services.candidate.index.space import SpaceName, build_index, kind_for
from services.candidate.retrieval.encoders import OnnxQueryEncoder

NEIGHBORS: Final = 100
QUERIES: Final = 1_000
"""Over which recall is measured."""
_ENCODED_AT_ONCE: Final = 100


def build_indexes(
    dataset: Path,
    embeddings: Path,
    retrieval: Path,
    *,
    kind: Literal["auto"] | IndexKind,
    seed: int,
    out: Path,
) -> None:
    """An index for each space, of one kind or of that which suits the size of the catalog.

    The queries over which an approximate kind is compared are real ones: items for the content
    space, and what the query encoder makes of training histories for the behavior space.
    """
    content = _vectors(embeddings, SpaceName.CONTENT)
    behavior = _vectors(retrieval, SpaceName.BEHAVIOR)
    chosen = kind_for(len(content)) if kind == "auto" else kind
    facts = {}
    for name, vectors in ((SpaceName.CONTENT, content), (SpaceName.BEHAVIOR, behavior)):
        index = _build(chosen, name, vectors)
        section = IndexSection(kind=chosen)
        if isinstance(index, ApproximateIndex):
            index.write(out / f"{name.value}.faiss")
            rng = np.random.default_rng(seed)
            if name is SpaceName.CONTENT:
                queries = vectors[np.sort(rng.permutation(len(vectors))[:QUERIES])]
            else:
                queries = _encoded(Dataset.load(dataset), retrieval, vectors, rng)
            section = IndexSection(
                kind=chosen, recall_at_100=recall(index, queries), queries=len(queries)
            )
        facts[name.value] = section.model_dump()
    write_json(out / FACTS, facts)


def recall(index: VectorIndex, queries: Vector, count: int = NEIGHBORS) -> float:
    """Of the nearest by exact search, the share that an index finds; the mean over queries.

    Args:
        index: to compare.
        queries: float32 [queries, dimension].
        count: how many of the nearest; all where there are fewer.
    """
    vectors = index.vectors.whole()
    count = min(count, len(vectors))
    _, best = faiss.knn(queries, vectors, count, metric=faiss.METRIC_INNER_PRODUCT)
    found = [index.search(query, count).items for query in queries]
    shares = [np.isin(ours, exact).mean() for ours, exact in zip(found, best, strict=True)]
    return float(np.mean(shares))


def _build(kind: IndexKind, name: SpaceName, vectors: Vector) -> VectorIndex:
    with Progress() as progress:
        task = progress.add_task(f"Indexing {name.value} ({kind})", total=len(vectors))
        index = build_index(
            kind,
            vectors,
            threads=len(os.sched_getaffinity(0)),
            advance=lambda count: progress.advance(task, count),
        )
        progress.update(task, completed=len(vectors))
    return index


def _encoded(data: Dataset, retrieval: Path, vectors: Vector, rng: np.random.Generator) -> Vector:
    """The query after each of some training histories, float32 [queries, dimension]."""
    longest = read_json(retrieval / FACTS)["max_history"]
    sequences = [sequence for sequence in data.train() if len(sequence)]
    histories = [
        vectors[sequences[user][-longest:]] for user in rng.permutation(len(sequences))[:QUERIES]
    ]
    encoder = OnnxQueryEncoder(retrieval / "query_encoder.onnx", threads=1)
    return np.concatenate(
        [
            encoder.encode_batch(histories[start : start + _ENCODED_AT_ONCE])
            for start in range(0, len(histories), _ENCODED_AT_ONCE)
        ]
    )


def _vectors(stage: Path, name: SpaceName) -> Vector:
    vectors: Vector = np.load(
        stage / f"{name.value}_vectors.npy", mmap_mode="r", allow_pickle=False
    )
    return vectors
