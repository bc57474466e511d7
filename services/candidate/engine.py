"""The candidate engine: shortlists and similarity over positions and arrays, without any RPC.

Its methods block, change nothing, and may be called from several threads at once.
"""

from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from runtime.bundle import Bundle
from runtime.catalog import Catalog, Change, Delete, ItemArray, Mask, Upsert
from runtime.errors import BundleError, InvalidRequest
from services.candidate.changes import ChangeSet, PlacedItem
from services.candidate.encoders import (
    OnnxQueryEncoder,
    OnnxTextEncoder,
    QueryEncoder,
    TextEncoder,
)
from services.candidate.index import FlatIndex, Neighbors, Vector, VectorIndex, ranked
from services.candidate.transitions import Transitions

NOTHING: ItemArray = np.empty(0, np.int32)


class SpaceName(Enum):
    """A space of item vectors."""

    CONTENT = "content"
    """Embeddings of the item texts: what an item is."""
    BEHAVIOR = "behavior"
    """The query encoder's item vectors: how an item is used."""


class Source(Enum):
    """What a shortlist was made from."""

    HISTORY = "history"
    POPULARITY = "popularity"


@dataclass(frozen=True)
class Shortlist:
    """Items to recommend from, best first."""

    items: ItemArray
    scores: NDArray[np.float64]
    source: Source


@dataclass(frozen=True)
class Space:
    """Item vectors of unit norm, float32 [items, dimension], and their index."""

    vectors: Vector
    index: VectorIndex

    @classmethod
    def read(cls, bundle: Bundle, name: SpaceName) -> "Space":
        """Reads `<name>_vectors.npy` and `<name>.faiss`.

        Raises:
            BundleError: the two do not belong to each other or to the catalog.
        """
        # A plain view of the mapped file: slicing numpy's own memmap class is several times slower.
        vectors = np.asarray(bundle.array(f"{name.value}_vectors", np.float32))
        index = FlatIndex.read(bundle.file(f"{name.value}.faiss"))
        if (
            not vectors.shape
            == (bundle.manifest.items, index.dimension)
            == (len(index), index.dimension)
        ):
            raise BundleError(
                f"{name.value}.faiss holds {len(index)} vectors of {index.dimension} numbers, "
                f"{name.value}_vectors.npy {vectors.shape}, the catalog {bundle.manifest.items}"
            )
        return cls(vectors, index)

    @staticmethod
    def write(directory: Path, name: SpaceName, vectors: Vector) -> None:
        """Writes what `read` reads."""
        np.save(directory / f"{name.value}_vectors.npy", vectors, allow_pickle=False)
        FlatIndex.build(vectors).write(directory / f"{name.value}.faiss")


@dataclass(frozen=True)
class Weights:
    """How much each source counts in the retrieval score; chosen on validation."""

    behavior: float
    transitions: float


class CandidateEngine:
    """Searches one version of the catalog, and never changes; `applied` makes the next.

    Args:
        catalog: the items.
        sequence: of the last change that is in it; 0 for the bundle's own items.
        content: the space of item texts.
        behavior: the space of the query encoder.
        query_encoder: turns the vectors of a history into a query for the behavior space.
        text_encoder: turns a text into a vector of the content space.
        transitions: what people went on to.
        weights: of the two sources of a shortlist.
        max_history: newest items of a history that the query encoder reads.
    """

    def __init__(
        self,
        *,
        catalog: Catalog,
        sequence: int = 0,
        content: Space,
        behavior: Space,
        query_encoder: QueryEncoder,
        text_encoder: TextEncoder,
        transitions: Transitions,
        weights: Weights,
        max_history: int,
    ) -> None:
        self.catalog = catalog
        self.sequence = sequence
        self._spaces = {SpaceName.CONTENT: content, SpaceName.BEHAVIOR: behavior}
        self._query_encoder = query_encoder
        self._text_encoder = text_encoder
        self._transitions = transitions
        self._weights = weights
        self._max_history = max_history
        # One more interaction for everyone, so that an item without any still has a logarithm.
        popularity = catalog.popularity
        self._log_popularity = np.log((popularity + 1.0) / (popularity + 1.0).sum())

    @classmethod
    def load(
        cls, bundle: Bundle, *, threads: int = 1, weights: Weights | None = None
    ) -> "CandidateEngine":
        """Loads the engine of a bundle.

        Args:
            bundle: a verified bundle.
            threads: how many work on one call of an encoder; 1 under a pool of threads.
            weights: of the sources of a shortlist, instead of the bundle's.

        Raises:
            BundleError: its parts do not belong together.
        """
        section = bundle.manifest.candidate
        return cls(
            catalog=bundle.catalog,
            content=Space.read(bundle, SpaceName.CONTENT),
            behavior=Space.read(bundle, SpaceName.BEHAVIOR),
            query_encoder=OnnxQueryEncoder(bundle.file("query_encoder.onnx"), threads=threads),
            text_encoder=OnnxTextEncoder(
                bundle.file("text_encoder.onnx"),
                bundle.file("text_tokenizer.json"),
                prefix=section.text_prefix,
                threads=threads,
            ),
            transitions=Transitions.read(bundle),
            weights=weights or Weights(section.behavior_weight, section.transition_weight),
            max_history=section.max_history,
        )

    def applied(self, change_set: ChangeSet) -> "CandidateEngine":
        """Makes the next version, which shares with this one all that stays the same.

        The last change of each item counts. An item that is replaced moves to a new position.
        """
        last = {change.item_id: change for change in change_set.changes}
        placed = [change for change in last.values() if isinstance(change, PlacedItem)]
        changes: list[Change] = [Delete(item_id) for item_id in last]
        changes += [Upsert(item.item) for item in placed]
        content, behavior = (self._spaces[name] for name in SpaceName)
        if placed:
            content = content.extended(np.stack([item.content for item in placed]))
            behavior = behavior.extended(np.stack([item.behavior for item in placed]))
        return CandidateEngine(
            catalog=self.catalog.apply(changes),
            sequence=change_set.sequence,
            content=content,
            behavior=behavior,
            query_encoder=self._query_encoder,
            text_encoder=self._text_encoder,
            transitions=self._transitions,
            weights=self._weights,
            max_history=self._max_history,
        )

    def vectors(self, space: SpaceName) -> Vector:
        """The item vectors of a space, float32 [items, dimension], of unit norm."""
        return self._spaces[space].vectors

    def search(
        self,
        history: ItemArray,
        count: int,
        *,
        allowed: Mask | None = None,
        excluded: ItemArray = NOTHING,
        include_seen: bool = False,
    ) -> Shortlist:
        """Shortlists the items that are likely to come after a history.

        The score of an item is `w_b * (query · vector) + w_t * log transition probability`, a
        log-probability up to a constant of the history, and the list is that of all allowed items
        by this score (exactly, where the index is exact): whatever transitions do not reach has
        the same transition probability, so among those items the index's best are the best.

        Args:
            history: positions, oldest first; when empty, popularity decides.
            count: how many items; there are fewer only where fewer are left.
            allowed: bool [items], or None for all.
            excluded: items to leave out.
            include_seen: whether items of the history may be in the shortlist.
        """
        left = self._without(allowed, excluded if include_seen else _both(excluded, history))
        if not len(history):
            best = self._most_popular(count, left)
            return Shortlist(best.items, best.scores, Source.POPULARITY)
        behavior = self._spaces[SpaceName.BEHAVIOR]
        query = self._query(history)
        reached, probability = self._transitions.after(history)
        near = behavior.index.search(query, count, left).items
        pool = np.union1d(near, reached if left is None else reached[left[reached]])
        scores = self._weights.behavior * (behavior.vectors[pool] @ query).astype(np.float64)
        scores += self._weights.transitions * self._transitions.log_probability(
            pool, reached, probability
        )
        best = _first(ranked(pool, scores), count)
        return Shortlist(best.items, best.scores, Source.HISTORY)

    def similar_to_items(
        self,
        items: ItemArray,
        count: int,
        space: SpaceName = SpaceName.CONTENT,
        *,
        allowed: Mask | None = None,
        excluded: ItemArray = NOTHING,
    ) -> Neighbors:
        """The items nearest to the mean of some items' vectors, which are left out, by cosine.

        Args:
            items: positions, at least one; one that occurs twice counts twice.
            count: how many items; there are fewer only where fewer are left.
            space: which vectors to compare.
            allowed: bool [items], or None for all.
            excluded: items to leave out.
        """
        mean = self._spaces[space].vectors[items].mean(axis=0, dtype=np.float64)
        return self._nearest(mean, count, space, self._without(allowed, _both(excluded, items)))

    def similar_to_text(
        self,
        text: str,
        count: int,
        *,
        allowed: Mask | None = None,
        excluded: ItemArray = NOTHING,
    ) -> Neighbors:
        """The items whose texts are nearest to a text, by cosine."""
        vector = self._text_encoder.encode(text).astype(np.float64)
        return self._nearest(vector, count, SpaceName.CONTENT, self._without(allowed, excluded))

    def similar_to_vector(
        self,
        vector: Vector,
        count: int,
        space: SpaceName = SpaceName.CONTENT,
        *,
        allowed: Mask | None = None,
        excluded: ItemArray = NOTHING,
    ) -> Neighbors:
        """The items nearest to a vector, by cosine; its length does not matter.

        Raises:
            InvalidRequest: it has not the space's dimension, is zero, or is not finite.
        """
        dimension = self._spaces[space].index.dimension
        if len(vector) != dimension:
            raise InvalidRequest(
                f"the vector has {len(vector)} numbers; the {space.value} space has {dimension}",
                reason="WRONG_DIMENSION",
                dimension=str(dimension),
            )
        if not np.isfinite(vector).all():
            raise InvalidRequest("the vector holds NaN or infinity", reason="NOT_FINITE")
        if not vector.any():
            raise InvalidRequest("the vector is zero: it has no direction", reason="ZERO_VECTOR")
        left = self._without(allowed, excluded)
        return self._nearest(vector.astype(np.float64), count, space, left)

    def _query(self, history: ItemArray) -> Vector:
        vectors = self._spaces[SpaceName.BEHAVIOR].vectors
        return self._query_encoder.encode(vectors[history[-self._max_history :]])

    def _nearest(
        self, query: NDArray[np.float64], count: int, space: SpaceName, allowed: Mask | None
    ) -> Neighbors:
        # In double precision, where the square of no float32 but zero vanishes or overflows.
        norm = np.linalg.norm(query)
        unit = (query / norm if norm else query).astype(np.float32)
        return self._spaces[space].index.search(unit, count, allowed)

    def _most_popular(self, count: int, allowed: Mask | None) -> Neighbors:
        items = np.arange(len(self._log_popularity), dtype=np.int32)
        if allowed is not None:
            items = items[allowed]
        return _first(ranked(items, self._log_popularity[items]), count)

    def _without(self, allowed: Mask | None, left_out: ItemArray) -> Mask | None:
        live = self.catalog.live
        if allowed is None and not live.all():
            allowed = live
        if not len(left_out):
            return allowed
        mask = live.copy() if allowed is None else allowed & live
        mask[left_out] = False
        return mask


def _both(first: ItemArray, second: ItemArray) -> ItemArray:
    return np.concatenate([first, second])


def _first(neighbors: Neighbors, count: int) -> Neighbors:
    return Neighbors(neighbors.items[:count], neighbors.scores[:count])
