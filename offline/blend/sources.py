"""What the retrieval's weights are chosen on: of each user a few hundred items, scored by source.

The candidate service's own sources score them (`CandidateEngine.sources`), so that what is chosen
here is what is served. The best items of every source, and what really came next, are all that
weights can bring to the top of a list; so no array has all items of all users.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Final

import numpy as np
from numpy.typing import NDArray
from rich.progress import Progress

from core.catalog import ItemArray, Mask
from offline.evaluate.protocol import Question
from services.candidate.index.flat import best_of
from services.candidate.retrieval.engine import CandidateEngine
from services.candidate.retrieval.fusion import Source
from services.candidate.retrieval.shortlist import SourceWeights

SOURCES: Final = ("query_encoder", "transitions", "content", "popularity")
"""In the order of `retrieval.shortlist.Weights`, in which they are also weighed."""
DEPTH: Final = 200
"""Best items of each source that are looked at."""
WINDOWS: Final = (6, 10)
"""Newest items of a history whose transitions count."""
DECAYS: Final = (0.65, 0.85)
"""How much less a history item's transitions weigh, per step that it lies back."""
_EVERY_SOURCE: Final = SourceWeights(1.0, 1.0, 1.0, 1.0)

Scores = NDArray[np.float32]


@dataclass(frozen=True)
class Recency:
    """How the newest items of a history count."""

    window: int
    decay: float


RECENCIES: Final = tuple(Recency(*both) for both in product(WINDOWS, DECAYS))


@dataclass(frozen=True)
class Pools:
    """The items of each user that might have come next.

    Attributes:
        scores: by recency, float32 [users, items, sources]; the first item of each user is what
            came next, and where there are no more items all is NaN.
    """

    scores: dict[Recency, Scores]

    def __len__(self) -> int:
        return len(next(iter(self.scores.values())))


def gather(engine: CandidateEngine, asked: Sequence[Question], progress: Progress) -> Pools:
    """Scores the items of every user.

    Args:
        engine: of any weights.
        asked: users whose histories have items of the training data.
        progress: a bar to count users on.
    """
    engines = [engine.retuned(_EVERY_SOURCE, r.window, r.decay) for r in RECENCIES]
    task = progress.add_task("Scoring what might come next", total=len(asked))
    rows: list[list[Scores]] = [[] for _ in RECENCIES]
    for question in asked:
        sources = [[s for *_, s in other.sources(question.history)] for other in engines]
        items = _pool((source for part in sources for source in part), question, engine)
        for row, part in zip(rows, sources, strict=True):
            scored = [source.scores(items) for source in part]
            row.append(np.stack(scored, axis=1).astype(np.float32))
        progress.advance(task)
    return Pools(dict(zip(RECENCIES, map(padded, rows), strict=True)))


def _pool(sources: Iterable[Source], question: Question, engine: CandidateEngine) -> ItemArray:
    """The target, then the other unseen items that some source has among its best."""
    others = engine.catalog.live.copy()
    others[question.history] = False
    others[question.target] = False
    best = np.unique(np.concatenate(list(_best(sources, others))))
    return np.concatenate([[question.target], best]).astype(np.int32)


def _best(sources: Iterable[Source], allowed: Mask) -> Iterator[ItemArray]:
    for source in sources:
        found, _ = source.top(DEPTH, allowed)
        yield best_of(found, source.scores(found), DEPTH).items


def padded(rows: Sequence[Scores]) -> Scores:
    """Stacks the scores of users, with NaN where one has fewer items than another.

    Args:
        rows: each float32 [items, sources].
    """
    longest = max(map(len, rows))
    stacked = np.full((len(rows), longest, rows[0].shape[1]), np.nan, np.float32)
    for place, row in zip(stacked, rows, strict=True):
        place[: len(row)] = row
    return stacked


def ranks(scores: Scores, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """The rank of what came next by the weighted sum, float64 [users].

    Args:
        scores: as in `Pools`.
        weights: float64 [sources].
    """
    sums = scores @ weights.astype(np.float32)
    above: NDArray[np.float64] = (sums > sums[:, :1]).sum(axis=1) + 1.0  # NaN is above nothing
    return above
