"""How a user rates items: the expected value over a small trie, whose leaves are the ratings.

A prompt shows what the user has rated, each item with its rating, and then the item in question.
The graphs are those that score items: they take the trie of the ratings for the catalog's, and for
a model that reads whole items the learned vectors of the ratings beside those of the items that the
prompts show. So the answer is a softmax over the leaves, and exact.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from core.bundle import Bundle
from core.catalog import ItemArray
from core.errors import BundleError
from services.generator.catalog.coded import CodedCatalog
from services.generator.decoding.arrays import Prompts
from services.generator.decoding.graphs import Graphs, trie_arrays
from services.generator.decoding.trie import PrefixTree, Trie
from services.generator.prompts import RATING, Template, select

RATING_CODES: Final = "rating_codes.npy"
"""The bundle's file of the codes of ratings, int32 [values, levels] token ids."""
RATING_VECTORS: Final = "rating_vectors.npy"
"""The bundle's file of the ratings' vectors, float32 [values, d_model], where the model reads whole
items."""
MOST_SHOWN: Final = 31
"""Ratings of a user that a prompt shows, at most: the newest."""
_PROMPTS_AT_ONCE: Final = 256


@dataclass(frozen=True)
class RatedItems:
    """What a user has rated, oldest first."""

    items: ItemArray
    values: NDArray[np.int64]
    """Which of the values that a rating may have, by place."""

    def without(self, item: int) -> "RatedItems":
        """What is left when an item is not told of: the newest that a prompt shows."""
        kept = np.flatnonzero(self.items != item)[-MOST_SHOWN:]
        return RatedItems(self.items[kept], self.values[kept])


NOTHING_RATED: Final = RatedItems(np.empty(0, np.int32), np.empty(0, np.int64))


@dataclass(frozen=True)
class RatingParts:
    """What a bundle's generator knows of ratings."""

    template: Template
    """What is asked."""
    values: NDArray[np.float64]
    """[values] that a rating may have, ascending."""
    codes: NDArray[np.int32]
    """[values, levels] token ids."""
    vectors: NDArray[np.float32] | None
    """[values, d_model]; None where the model reads tokens."""
    trie: Trie
    leaves: PrefixTree
    """The way to all leaves, in the order of the values."""

    @classmethod
    def of(
        cls,
        template: Template,
        values: Sequence[float],
        codes: NDArray[np.int32],
        vectors: NDArray[np.float32] | None,
    ) -> "RatingParts":
        """Makes the trie.

        Raises:
            BundleError: the arrays are not of these values.
        """
        counts = {len(values), len(codes), len(codes if vectors is None else vectors)}
        if len(counts) > 1:
            raise BundleError(
                f"the manifest has {len(values)} ratings, {RATING_CODES} has {len(codes)}, and "
                f"{RATING_VECTORS} another number"
            )
        trie = Trie.build(codes)
        leaves = trie.prefixes(np.arange(len(codes), dtype=np.int32))
        return cls(template, np.array(values), codes, vectors, trie, leaves)

    @classmethod
    def read(cls, bundle: Bundle, templates: Sequence[Template]) -> "RatingParts | None":
        """Reads those of a bundle; None where its model has not learned ratings.

        Raises:
            BundleError: its files do not belong together.
        """
        section = bundle.manifest.generator
        if not section.ratings:
            return None
        codes = np.asarray(bundle.array(RATING_CODES.removesuffix(".npy"), np.int32))
        vectors = None
        if section.inputs == "items":
            vectors = np.asarray(bundle.array(RATING_VECTORS.removesuffix(".npy"), np.float32))
        template = select(templates, RATING, "seen")[0]
        return cls.of(template, section.ratings, codes, vectors)

    def places(self, ratings: NDArray[np.floating]) -> NDArray[np.int64]:
        """The place of the value that is nearest to each of some ratings."""
        distances = np.abs(ratings[:, None] - self.values)
        places: NDArray[np.int64] = distances.argmin(axis=1)
        return places

    def expected(
        self,
        graphs: Graphs,
        prompts: Sequence[Sequence[int]],
        snapshot: CodedCatalog,
        *,
        vocabulary: int,
        pad: int,
    ) -> NDArray[np.float64]:
        """The expected rating after each prompt, [prompts].

        Args:
            graphs: of the model.
            prompts: token ids; from `vocabulary` on, items by their positions.
            snapshot: what the positions refer to.
            vocabulary: how many tokens the model knows.
            pad: the token that fills prompts up.
        """
        padded = (
            Prompts.of(prompts[start : start + _PROMPTS_AT_ONCE], pad)
            for start in range(0, len(prompts), _PROMPTS_AT_ONCE)
        )
        return np.concatenate([self._expected(graphs, p, snapshot, vocabulary) for p in padded])

    def _expected(
        self, graphs: Graphs, prompts: Prompts, snapshot: CodedCatalog, vocabulary: int
    ) -> NDArray[np.float64]:
        vectors = None
        if self.vectors is not None and snapshot.vectors is not None:
            # Of all items only those that the prompts show: a table of them is a small one.
            shown = prompts.input_ids >= vocabulary
            items, places = np.unique(prompts.input_ids[shown] - vocabulary, return_inverse=True)
            prompts.input_ids[shown] = vocabulary + len(self.values) + places
            vectors = np.concatenate([self.vectors, snapshot.vectors[items]])
        encoded = graphs.encode_over(prompts, trie_arrays(self.trie, vectors))
        scores = graphs.rerank(encoded, [self.leaves] * len(prompts.input_ids)).astype(np.float64)
        powers = np.exp(scores - scores.max(axis=1, keepdims=True))
        expected: NDArray[np.float64] = powers @ self.values / powers.sum(axis=1)
        return expected
