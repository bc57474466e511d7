"""The candidate engine: shortlists and similarity over positions and arrays, without any RPC.

Its methods block, change nothing, and may be called from several threads at once.
"""

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from core.bundle import Bundle
from core.catalog import Catalog, ItemArray, Mask
from core.codes import ItemCode
from core.persistent import PersistentSequence
from core.popularity import ItemPopularity
from services.candidate.changes import ChangeSet
from services.candidate.index.flat import Neighbors, Vector
from services.candidate.index.space import Space, SpaceName
from services.candidate.retrieval.encoders import (
    OnnxQueryEncoder,
    QueryEncoder,
    TextEncoder,
    shared_text_encoder,
)
from services.candidate.retrieval.fusion import Source, fuse
from services.candidate.retrieval.indexed import IndexedCatalog
from services.candidate.retrieval.scoring import HistoryScorer
from services.candidate.retrieval.shortlist import Basis, Shortlist, SourceWeights
from services.candidate.retrieval.similarity import (
    NEAREST,
    SimilarityOptions,
    check_vector,
    nearest,
    without,
)
from services.candidate.retrieval.transitions import Transitions

NOTHING: ItemArray = np.empty(0, np.int32)
NO_CODES: Final[PersistentSequence[ItemCode]] = PersistentSequence()


class CandidateEngine:
    """Searches one version of the catalog, and never changes; `applied` makes the next.

    Args:
        catalog: the items.
        sequence: of the last change that is in it; 0 for the bundle's own items.
        codes: of the items that were added to the bundle's, by their order.
        content: the space of item texts.
        behavior: the space of the query encoder.
        query_encoder: turns the vectors of a history into a query for the behavior space.
        text_encoder: turns a text into a vector of the content space.
        transitions: what people went on to.
        weights: of the sources of a shortlist.
        popularity: of the items; counted from the catalog when None.
        max_history: newest items of a history that the query encoder reads.
    """

    def __init__(
        self,
        *,
        catalog: Catalog,
        sequence: int = 0,
        codes: PersistentSequence[ItemCode] = NO_CODES,
        content: Space,
        behavior: Space,
        query_encoder: QueryEncoder,
        text_encoder: TextEncoder,
        transitions: Transitions,
        weights: SourceWeights,
        popularity: ItemPopularity | None = None,
        max_history: int,
    ) -> None:
        self.catalog = catalog
        self.sequence = sequence
        self.codes = codes
        self._spaces = {SpaceName.CONTENT: content, SpaceName.BEHAVIOR: behavior}
        self._text_encoder = text_encoder
        self._scorer = HistoryScorer(
            content,
            behavior,
            query_encoder,
            transitions,
            popularity or ItemPopularity.of(catalog.popularity),
            weights,
            max_history,
        )

    @classmethod
    def load(
        cls,
        bundle: Bundle,
        *,
        threads: int = 1,
        weights: SourceWeights | None = None,
        index_uri: str | None = None,
    ) -> "CandidateEngine":
        """Loads the engine of a bundle.

        Args:
            bundle: a verified bundle.
            threads: how many work on one call of an encoder; 1 under a pool of threads.
            weights: of the sources of a shortlist, instead of the bundle's.
            index_uri: of a Milvus to search in, instead of the bundle's indexes.

        Raises:
            BundleError: its parts do not belong together.
            Unavailable: Milvus cannot be reached.
        """
        section = bundle.manifest.candidate
        return cls(
            catalog=bundle.catalog,
            content=Space.read(bundle, SpaceName.CONTENT, index_uri),
            behavior=Space.read(bundle, SpaceName.BEHAVIOR, index_uri),
            query_encoder=OnnxQueryEncoder(bundle.file("query_encoder.onnx"), threads=threads),
            text_encoder=shared_text_encoder(bundle, threads=threads),
            transitions=Transitions.read(bundle),
            weights=weights
            or SourceWeights(
                section.behavior_weight,
                section.transition_weight,
                section.content_weight,
                section.popularity_weight,
            ),
            max_history=section.max_history,
        )

    def applied(self, change_set: ChangeSet) -> "CandidateEngine":
        """Makes the next version, which shares with this one all that stays the same; see
        `IndexedCatalog.applied`."""
        scorer = self._scorer
        indexed = IndexedCatalog(
            catalog=self.catalog,
            sequence=self.sequence,
            codes=self.codes,
            content=scorer.content,
            behavior=scorer.behavior,
            transitions=scorer.transitions,
            popularity=scorer.popularity,
        ).applied(change_set)
        return CandidateEngine(
            catalog=indexed.catalog,
            sequence=indexed.sequence,
            codes=indexed.codes,
            content=indexed.content,
            behavior=indexed.behavior,
            transitions=indexed.transitions,
            popularity=indexed.popularity,
            query_encoder=scorer.query_encoder,
            text_encoder=self._text_encoder,
            weights=scorer.weights,
            max_history=scorer.max_history,
        )

    def retuned(self, weights: SourceWeights, window: int, decay: float) -> "CandidateEngine":
        """The same version with other weights, and transitions of another window and decay."""
        other = copy.copy(self)
        transitions = replace(self._scorer.transitions, window=window, decay=decay)
        other._scorer = replace(self._scorer, weights=weights, transitions=transitions)
        return other

    def space(self, name: SpaceName) -> Space:
        """One of the two spaces."""
        return self._spaces[name]

    def embed(self, texts: Sequence[str]) -> Vector:
        """The vectors of texts in the content space, float32 [texts, dimension], of unit norm."""
        return self._text_encoder.encode_batch(texts)

    def vectors(self, space: SpaceName) -> Vector:
        """The item vectors of a space, float32 [items, dimension], of unit norm."""
        return self._spaces[space].vectors.whole()

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

        The score of an item is `w_b * (query · vector) + w_t * log transition probability`, beside
        which its closeness in content to the newest items of the history, and its popularity, may
        count: a log-probability up to a constant of the history. The list is that of all allowed
        items by this score (see `fuse`).

        A history of nothing but items that nobody has interacted with in the training data says
        something of its content alone, and an empty one nothing: then content or popularity
        decides.

        Args:
            history: positions, oldest first.
            count: how many items; there are fewer only where fewer are left.
            allowed: bool [items], or None for all.
            excluded: items to leave out.
            include_seen: whether items of the history may be in the shortlist.
        """
        left_out = excluded if include_seen else np.concatenate([excluded, history])
        left = without(self._live(allowed), left_out, len(self.catalog))
        basis = self.basis(history)
        match basis:
            case Basis.POPULARITY:
                best = Neighbors(*self._scorer.popularity.best(count, left))
            case Basis.CONTENT:
                content = self._scorer.content_of(history)
                best = content.space.index.search(content.query, count, left)
            case Basis.HISTORY:
                named = self._scorer.sources(history, basis)
                sources = [(weight, source) for _, weight, source in named]
                best = fuse(sources, count, left, len(self.catalog))
                (transitions,) = (source for name, _, source in named if name == "transitions")
                alone = transitions.scores(best.items)
                return Shortlist(best.items, best.scores, basis, alone)
        return Shortlist(best.items, best.scores, basis)

    @property
    def history_window(self) -> int:
        """How many items of a history can matter to a score: the newest."""
        return self._scorer.history_window

    def basis(self, history: ItemArray) -> Basis:
        """What a shortlist for a history is made from."""
        return self._scorer.basis(history)

    def sources(self, history: ItemArray) -> list[tuple[str, float, Source]]:
        """What adds up to the score of an item after a history: names, weights and sources."""
        return self._scorer.sources(history, self.basis(history))

    def similar_to_items(
        self,
        items: ItemArray,
        count: int,
        space: SpaceName = SpaceName.CONTENT,
        *,
        allowed: Mask | None = None,
        excluded: ItemArray = NOTHING,
        include_seen: bool = False,
        options: SimilarityOptions = NEAREST,
    ) -> Neighbors:
        """The items nearest to the mean of some items' vectors, by cosine.

        Args:
            items: positions, at least one; one that occurs twice counts twice.
            count: how many items; there are fewer only where fewer are left.
            space: which vectors to compare.
            allowed: bool [items], or None for all.
            excluded: items to leave out.
            include_seen: whether the items themselves may be among them.
            options: which of the nearest are wanted.
        """
        where = self._spaces[space]
        vectors = where.take(items).astype(np.float64)
        mean = vectors[0] if len(vectors) == 1 else vectors.mean(axis=0)
        left_out = excluded if include_seen else np.concatenate([excluded, items])
        return nearest(where, mean, count, self._live(allowed), left_out, options)

    def similar_to_text(
        self,
        text: str,
        count: int,
        *,
        allowed: Mask | None = None,
        excluded: ItemArray = NOTHING,
        options: SimilarityOptions = NEAREST,
    ) -> Neighbors:
        """The items whose texts are nearest to a text, by cosine."""
        vector = self._text_encoder.encode(text).astype(np.float64)
        where = self._spaces[SpaceName.CONTENT]
        return nearest(where, vector, count, self._live(allowed), excluded, options)

    def similar_to_vector(
        self,
        vector: Vector,
        count: int,
        space: SpaceName = SpaceName.CONTENT,
        *,
        allowed: Mask | None = None,
        excluded: ItemArray = NOTHING,
        options: SimilarityOptions = NEAREST,
    ) -> Neighbors:
        """The items nearest to a vector, by cosine; its length does not matter.

        Raises:
            InvalidArgument: it has not the space's dimension, is zero, or is not finite.
        """
        where = self._spaces[space]
        check_vector(vector, where.index.dimension, space)
        query = vector.astype(np.float64)
        return nearest(where, query, count, self._live(allowed), excluded, options)

    def _live(self, allowed: Mask | None) -> Mask | None:
        """What is allowed and in this version; None for all."""
        if self.catalog.live_count == len(self.catalog):
            return allowed
        return self.catalog.live if allowed is None else allowed & self.catalog.live
