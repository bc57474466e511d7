"""A made-up catalog and engine: random vectors, encoders that need no model."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.catalog import Catalog, CatalogItem, ItemArray
from services.candidate.index.flat import Vector
from services.candidate.index.space import Space
from services.candidate.retrieval.engine import CandidateEngine
from services.candidate.retrieval.shortlist import SourceWeights
from services.candidate.retrieval.transitions import Transitions

CONTENT, BEHAVIOR = 6, 4
GENRES = ("Comedy", "Drama", "War")


class MeanQueryEncoder:
    """Three times the mean of the history, newest item counted twice."""

    def encode(self, history: Vector) -> Vector:
        query: Vector = 3.0 * np.concatenate([history, history[-1:]]).mean(axis=0)
        return query


class LetterTextEncoder:
    """Counts letters: a deterministic vector for any text."""

    def encode(self, text: str) -> Vector:
        vector = np.bincount([ord(c) % CONTENT for c in text], minlength=CONTENT).astype(np.float32)
        scaled: Vector = unit(vector[None])[0]
        return scaled

    def encode_batch(self, texts: Sequence[str]) -> Vector:
        return np.stack([self.encode(text) for text in texts])


@dataclass(frozen=True)
class World:
    """Everything that an engine is made of, for oracles to read."""

    content: Vector
    behavior: Vector
    transitions: Transitions
    weights: SourceWeights
    popularity: NDArray[np.int64]
    max_history: int
    engine: CandidateEngine

    @property
    def items(self) -> int:
        return len(self.content)


def unit(vectors: Vector) -> Vector:
    result: Vector = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return result


def random_transitions(rng: np.random.Generator, items: int, window: int = 3) -> Transitions:
    dense = rng.random((items, items)).astype(np.float32) * (rng.random((items, items)) < 0.2)
    rows, columns = np.nonzero(dense)
    indptr = np.searchsorted(rows, np.arange(items + 1)).astype(np.int64)
    return Transitions(
        indptr, columns.astype(np.int32), dense[rows, columns], window=window, decay=0.8
    )


def make_world(
    seed: int = 0,
    items: int = 30,
    max_history: int = 5,
    weights: SourceWeights = SourceWeights(behavior=0.9, transitions=0.4),  # noqa: B008 - immutable
) -> World:
    rng = np.random.default_rng(seed)
    content = unit(rng.normal(size=(items, CONTENT)).astype(np.float32))
    behavior = unit(rng.normal(size=(items, BEHAVIOR)).astype(np.float32))
    transitions = random_transitions(rng, items)
    popularity = rng.integers(0, 6, items)
    engine = CandidateEngine(
        catalog=_catalog(popularity),
        content=Space.of(content),
        behavior=Space.of(behavior),
        query_encoder=MeanQueryEncoder(),
        text_encoder=LetterTextEncoder(),
        transitions=transitions,
        weights=weights,
        max_history=max_history,
    )
    return World(content, behavior, transitions, weights, popularity, max_history, engine)


def make_catalog(world: World) -> Catalog:
    """Item i has the id `i<i>`, one genre, and the year 1990 + i."""
    return world.engine.catalog


def _catalog(popularity: NDArray[np.int64]) -> Catalog:
    return Catalog(
        [
            CatalogItem(
                item_id=f"i{i}",
                title=f"Film {i}",
                text=f"Film {i}",
                attributes={"genre": (GENRES[i % 3],), "year": (1990.0 + i,)},
                popularity=int(count),
            )
            for i, count in enumerate(popularity)
        ]
    )


def positions(*items: int) -> ItemArray:
    return np.array(items, dtype=np.int32)
