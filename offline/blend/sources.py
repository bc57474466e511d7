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

from offline.evaluate.protocol import Question
from runtime.catalog import ItemArray, Mask
from services.candidate.engine import CandidateEngine
from services.candidate.fusion import Source
from services.candidate.index import best_of
from services.candidate.shortlist import Weights
from services.generator.engine import Context, GeneratorEngine, Query

SOURCES: Final = ("query_encoder", "transitions", "content", "popularity")
"""In the order of `services.candidate.shortlist.Weights`, in which they are also weighed."""
DEPTH: Final = 200
"""Best items of each source that are looked at."""
WINDOWS: Final = (6, 10)
"""Newest items of a history whose transitions count."""
DECAYS: Final = (0.65, 0.85)
"""How much less a history item's transitions weigh, per step that it lies back."""
GENERATOR: Final = len(SOURCES)
"""The column of the generator's scores, behind those of retrieval's sources."""
_BATCH: Final = 8
"""Prompts that the generator reads at once."""
_EVERY_SOURCE: Final = Weights(1.0, 1.0, 1.0, 1.0)

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
        scores: by recency, float32 [users, items, sources and the generator]; the first item of
            each user is what came next, and where there are no more items all is NaN.
    """

    scores: dict[Recency, Scores]

    def __len__(self) -> int:
        return len(next(iter(self.scores.values())))


def gather(
    engine: CandidateEngine,
    generator: GeneratorEngine,
    asked: Sequence[Question],
    progress: Progress,
) -> Pools:
    """Scores the items of every user.

    Args:
        engine: of any weights.
        generator: the generator.
        asked: users whose histories have items of the training data.
        progress: a bar to count users on.
    """
    engines = [engine.retuned(_EVERY_SOURCE, r.window, r.decay) for r in RECENCIES]
    task = progress.add_task("Scoring what might come next", total=len(asked))
    rows: list[list[Scores]] = [[] for _ in RECENCIES]
    for start in range(0, len(asked), _BATCH):
        part = asked[start : start + _BATCH]
        scored = [_scored(question, engine, engines) for question in part]
        said = _said(generator, part, [items for items, _ in scored])
        for (_, by_recency), column in zip(scored, said, strict=True):
            for row, scores in zip(rows, by_recency, strict=True):
                row.append(np.column_stack([scores, column]).astype(np.float32))
        progress.advance(task, len(part))
    return Pools(dict(zip(RECENCIES, map(padded, rows), strict=True)))


def _scored(
    question: Question, engine: CandidateEngine, engines: Sequence[CandidateEngine]
) -> tuple[ItemArray, list[Scores]]:
    """A user's items, and for each recency what every source makes of them."""
    sources = [[s for *_, s in other.sources(question.history)] for other in engines]
    items = _pool((source for part in sources for source in part), question, engine)
    scores: list[Scores] = [
        np.stack([source.scores(items) for source in part], axis=1) for part in sources
    ]
    return items, scores


def _said(
    generator: GeneratorEngine, asked: Sequence[Question], items: Sequence[ItemArray]
) -> list[NDArray[np.float32]]:
    """What the generator makes of each user's items, in their order."""
    queries = [
        Query(Context(question.user, question.history), shortlist=own)
        for question, own in zip(asked, items, strict=True)
    ]
    said = []
    for own, ranked in zip(items, generator.rerank(queries), strict=True):
        by_item = dict(zip(ranked.items.tolist(), ranked.scores.tolist(), strict=True))
        said.append(np.array([by_item[item] for item in own.tolist()], np.float32))
    return said


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
