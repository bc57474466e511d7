"""What adds up to the score of an item after a history."""

from dataclasses import dataclass

import numpy as np

from core.catalog import ItemArray
from core.popularity import ItemPopularity
from services.candidate.index.space import Space
from services.candidate.retrieval.encoders import QueryEncoder
from services.candidate.retrieval.fusion import (
    PopularitySource,
    Source,
    TransitionSource,
    VectorSource,
)
from services.candidate.retrieval.shortlist import Basis, SourceWeights
from services.candidate.retrieval.similarity import unit
from services.candidate.retrieval.transitions import Transitions


@dataclass(frozen=True)
class HistoryScorer:
    """Scores every item after a history: a weighted sum over sources.

    Attributes:
        content: the space of item texts.
        behavior: the space of the query encoder.
        query_encoder: turns the vectors of a history into a query for the behavior space.
        transitions: what people went on to.
        popularity: of the items.
        weights: of the sources.
        max_history: newest items of a history that the query encoder reads.
    """

    content: Space
    behavior: Space
    query_encoder: QueryEncoder
    transitions: Transitions
    popularity: ItemPopularity
    weights: SourceWeights
    max_history: int

    @property
    def history_window(self) -> int:
        """How many items of a history can matter to a score: the newest."""
        return max(self.max_history, self.transitions.window)

    def basis(self, history: ItemArray) -> Basis:
        """What a shortlist for a history is made from."""
        if not len(history):
            return Basis.POPULARITY
        if not self.popularity.counts[history].any():
            return Basis.CONTENT
        return Basis.HISTORY

    def sources(self, history: ItemArray, basis: Basis) -> list[tuple[str, float, Source]]:
        """What adds up to the score of an item after a history: names, weights and sources.

        Args:
            history: positions, oldest first.
            basis: that of the history.
        """
        match basis:
            case Basis.POPULARITY:
                return [("popularity", 1.0, PopularitySource(self.popularity))]
            case Basis.CONTENT:
                return [("content", 1.0, self.content_of(history))]
        weights, behavior = self.weights, self.behavior
        query = self.query_encoder.encode(behavior.take(history[-self.max_history :]))
        sources: list[tuple[str, float, Source]] = [
            ("query_encoder", weights.behavior, VectorSource(behavior, query)),
            ("transitions", weights.transitions, TransitionSource(self.transitions, history)),
        ]
        if weights.content:
            sources.append(("content", weights.content, self.content_of(history)))
        if weights.popularity:
            sources.append(("popularity", weights.popularity, PopularitySource(self.popularity)))
        return sources

    def content_of(self, history: ItemArray) -> VectorSource:
        """Closeness to the texts of the newest items: as many as transitions look at."""
        newest = self.content.take(history[-self.transitions.window :])
        return VectorSource(self.content, unit(newest.mean(axis=0, dtype=np.float64)))
