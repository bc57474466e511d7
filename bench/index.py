"""The vector index: what it finds of exact search, and what it adds to FAISS' own time.

    python -m bench.index --help

Vectors are made up in clusters, since those of real items are, and random ones have no near
neighbors to find. The index is searched as it is served, mapped from its file. Beside every search
by ours goes the same search by the FAISS index inside, of the same query and with the same
parameters, in the same thread: whatever else the machine does meets both.
"""

import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Final, Literal

import faiss
import numpy as np
import typer
from numpy.typing import NDArray
from rich.progress import Progress

from bench.lib.report import publish, run
from bench.lib.timing import timed
from core.catalog import Mask
from offline.build.indexes import recall
from services.candidate.index.flat import Vector, VectorIndex, exact
from services.candidate.index.hnsw import HnswIndex
from services.candidate.index.ivf import IvfIndex

ITEMS: Final = 1_000_000
DIMENSION: Final = 128
COUNT: Final = 100
CALLERS: Final = 8
"""Threads, where many search at once."""
SHARES: Final = (0.5, 0.1, 0.01, 0.001)
"""Of the items that a filter lets pass."""

TABLE: Final = (
    ("{vectors:,} vectors of 128 numbers", ""),
    ("recall@100 against exact search", "{recall_at_100_1m:.3f}"),
    ("the least under filters that pass 50%, 10%, 1%, .1%, of any items or of whole clusters",
     "{recall_filtered_min:.3f}"),
    ("search, one caller: p50 and p99, and FAISS alone, ms",
     "{search_p50_ms_1_callers:.2f}, {search_p99_ms_1_callers:.2f}; "
     "{faiss_p50_ms_1_callers:.2f}, {faiss_p99_ms_1_callers:.2f}"),
    ("the same from 8 threads",
     "{search_p50_ms_8_callers:.2f}, {search_p99_ms_8_callers:.2f}; "
     "{faiss_p50_ms_8_callers:.2f}, {faiss_p99_ms_8_callers:.2f}"),
    ("times FAISS, the worse of both: p50, p99",
     "{latency_ratio_vs_faiss_p50:.2f}, {latency_ratio_vs_faiss_p99:.2f}"),
    ("bytes an item: index; with the mapped vector",
     "{index_bytes_per_item:.0f}, {bytes_per_item:.0f}"),
    ("building, seconds", "{build_seconds:.0f}"),
)  # fmt: skip

_CLUSTER: Final = 500
_SPREAD: Final = 0.8
_QUERIES: Final = 1_000
_FILTERED_QUERIES: Final = 100
_ROUNDS: Final = 3

_KINDS: Final[dict[str, type[HnswIndex] | type[IvfIndex]]] = {"hnsw": HnswIndex, "ivfpq": IvfIndex}


@dataclass(frozen=True)
class Cloud:
    """Vectors in clusters, and queries from the same clusters."""

    vectors: Vector
    cluster: NDArray[np.int64]
    """Of each vector."""
    queries: Vector

    @classmethod
    def of(cls, items: int, queries: int = _QUERIES, seed: int = 0) -> "Cloud":
        """Draws float32 [items, 128] and [queries, 128], of unit norm."""
        rng = np.random.default_rng(seed)
        centers = rng.standard_normal((max(1, items // _CLUSTER), DIMENSION), np.float32)
        cluster = rng.integers(len(centers), size=items + queries)
        vectors = rng.standard_normal((items + queries, DIMENSION), np.float32)
        vectors *= _SPREAD
        vectors += centers[cluster]
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return cls(vectors[:items], cluster[:items], vectors[items:])

    def filters(self, seed: int = 0) -> dict[str, Mask]:
        """Filters by name, which pass any items, or whole clusters: like one genre."""
        rng = np.random.default_rng(seed)
        clusters = int(self.cluster.max()) + 1
        masks = {}
        for share in SHARES:
            masks[f"{share:.1%}"] = rng.random(len(self.vectors)) < share
            passing = rng.permutation(clusters)[: max(1, round(share * clusters))]
            masks[f"{share:.1%} in clusters"] = np.isin(self.cluster, passing)
        return masks


def measure_index(
    items: int = ITEMS,
    kind: Literal["hnsw", "ivfpq"] = "hnsw",
    *,
    queries: int = _QUERIES,
) -> dict[str, float]:
    """Builds an index over made-up vectors and measures it.

    Args:
        items: how many vectors.
        kind: of index.
        queries: over which recall and latencies are measured.

    Returns:
        Figures by name; ratios are of quantiles, ours by FAISS', the worse of one caller and many.
    """
    cloud = Cloud.of(items, queries)
    with tempfile.TemporaryDirectory() as directory:
        index, figures = _served(kind, cloud.vectors, Path(directory))
        figures["vectors"] = items
        figures["recall_at_100_1m"] = recall(index, cloud.queries, COUNT)
        return figures | _latencies(index, cloud.queries) | _filtered(index, cloud)


def _served(
    kind: Literal["hnsw", "ivfpq"], vectors: Vector, directory: Path
) -> tuple[HnswIndex | IvfIndex, dict[str, float]]:
    """The index as a process has it: everything mapped from files."""
    np.save(directory / "vectors.npy", vectors, allow_pickle=False)
    began = time.perf_counter()
    with Progress(transient=True) as progress:
        task = progress.add_task(f"Indexing ({kind})", total=len(vectors))
        _KINDS[kind].build(
            vectors,
            threads=faiss.omp_get_max_threads(),
            advance=lambda count: progress.advance(task, count),
        ).write(directory / "vectors.faiss")
    figures = {"build_seconds": time.perf_counter() - began}
    index_bytes = (directory / "vectors.faiss").stat().st_size / len(vectors)
    figures["index_bytes_per_item"] = index_bytes
    figures["bytes_per_item"] = index_bytes + vectors.itemsize * vectors.shape[1]
    mapped = np.load(directory / "vectors.npy", mmap_mode="r", allow_pickle=False)
    return _KINDS[kind].read(directory / "vectors.faiss", mapped), figures


def _latencies(index: HnswIndex | IvfIndex, queries: Vector) -> dict[str, float]:
    figures: dict[str, float] = {}
    for callers in (1, CALLERS):
        ours, theirs = _paired(index, queries, callers)
        for percent in (50, 99):
            mine, faiss_own = (float(np.percentile(t, percent)) for t in (ours, theirs))
            figures[f"search_p{percent}_ms_{callers}_callers"] = mine
            figures[f"faiss_p{percent}_ms_{callers}_callers"] = faiss_own
            ratio = f"latency_ratio_vs_faiss_p{percent}"
            figures[ratio] = max(figures.get(ratio, 0.0), mine / faiss_own)
    return figures


def _paired(
    index: HnswIndex | IvfIndex, queries: Vector, callers: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Milliseconds of every search, ours and FAISS' own, by threads that take turns at each."""
    ours: list[float] = []
    theirs: list[float] = []
    barrier = threading.Barrier(callers)

    def call(number: int) -> None:
        faiss.omp_set_num_threads(1)  # as ours does: holds for this thread
        own: list[float] = []
        other: list[float] = []
        barrier.wait()
        for turn in range(_ROUNDS):
            for at, query in enumerate(queries[number::callers]):
                pair: list[tuple[list[float], Callable[[], object]]] = [
                    (own, partial(index.search, query, COUNT)),
                    (other, partial(index.propose, query, COUNT, None, 1.0)),
                ]
                for times, search in pair if (at + turn) % 2 else reversed(pair):
                    times.append(timed(search)[1])
        ours.extend(own)
        theirs.extend(other)

    threads = [threading.Thread(target=call, args=(number,)) for number in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return np.array(ours), np.array(theirs)


def _filtered(index: VectorIndex, cloud: Cloud) -> dict[str, float]:
    """Recall under filters against exact search under the same."""
    queries = cloud.queries[:_FILTERED_QUERIES]
    figures, lowest = {}, 1.0
    for name, allowed in cloud.filters().items():
        shares = []
        for query in queries:
            best = exact(cloud.vectors, query, COUNT, allowed, int(allowed.sum())).items
            found = index.search(query, COUNT, allowed).items
            shares.append(np.isin(best, found).mean())
        mean = float(np.mean(shares))
        figures[f"recall_filtered_{name.replace(' ', '_').replace('%', '_percent')}"] = mean
        lowest = min(lowest, mean)
    return {**figures, "recall_filtered_min": lowest}


def main(
    vectors: Annotated[int, typer.Option(help="In the index.", min=1_000)] = ITEMS,
    kind: Annotated[Literal["hnsw", "ivfpq"], typer.Option(help="Of the index.")] = "hnsw",
) -> None:
    """Measure the vector index."""
    figures = measure_index(vectors, kind)
    publish(
        "index", figures, TABLE, precision="float32 vectors", caches="warm", vectors=vectors,
        index=kind,
    )  # fmt: skip


if __name__ == "__main__":
    run(main)
