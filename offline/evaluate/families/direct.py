"""One in a hundred: the item that really came next, among 99 that the user never had.

P5's protocol for its direct family, with one difference that makes it comparable between models:
every model is asked about the same hundred, drawn by a seed, and ranks them by exact scores.
"""

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from core.bundle import Bundle
from core.catalog import ItemArray
from offline.evaluate.families.figures import FamilyReport, FamilyRow, Figure
from offline.evaluate.protocol import Question, Split, questions, sample
from offline.metrics import gains
from services.candidate.retrieval.encoders import OnnxQueryEncoder
from services.generator.decoding.engine import GeneratorEngine, RankingQuery, UserContext

Advance = Callable[[int], None]
Array = NDArray[np.float64]

NEGATIVES: Final = 99
METRICS: Final = ("hr@1", "hr@5", "hr@10", "ndcg@5", "ndcg@10")
"""NDCG@1 is HR@1."""
_TOGETHER: Final = 16
_NOTHING: Final = np.empty(0, np.int32)


def hundreds(bundle: Bundle, asked: Sequence[Question], seed: int) -> list[ItemArray]:
    """For each question its target, and then items that the user has never had.

    Args:
        bundle: whose catalog they are drawn from, all alike.
        asked: the questions.
        seed: equal seeds draw the same for a user, whoever else is asked about.
    """
    histories, drawn = bundle.histories, []
    for question in asked:
        start, end = histories.indptr[question.user], histories.indptr[question.user + 1]
        never = np.ones(len(bundle.catalog), dtype=bool)
        never[histories.items[start:end]] = False
        others = np.flatnonzero(never)
        rng = np.random.default_rng([seed, question.user])
        picked = rng.permutation(others)[:NEGATIVES]
        drawn.append(np.concatenate([[question.target], picked]).astype(np.int32))
    return drawn


def ranks(scores: Sequence[Array]) -> Array:
    """The rank of each first item by its score; half of those that tie with it stand before it.

    Args:
        scores: [questions] of the items of each question, the target's first.
    """
    return np.array(
        [1 + (own[1:] > own[0]).sum() + (own[1:] == own[0]).sum() // 2 for own in scores],
        dtype=np.float64,
    )


def direct_report(
    bundle: Bundle, split: Split, users: int | None, advance: Advance, seed: int = 0
) -> FamilyReport:
    """Evaluates one in a hundred.

    Args:
        bundle: what ranks.
        split: test or validation items.
        users: only so many, picked at random.
        advance: is told how many questions were answered.
        seed: of the items that the user never had.
    """
    every = questions(bundle, split)
    asked = [every[place] for place in sample(every, users)]
    items = hundreds(bundle, asked, seed)
    engine = GeneratorEngine.load(bundle)
    popularity = bundle.catalog.popularity.astype(np.float64)
    found = {
        "popularity": [popularity[own] for own in items],
        "retrieval": _near(bundle, asked, items),
    }
    if engine.parts.section.inputs == "tokens" or engine.parts.section.user_tokens:
        found["generator, by name"] = _reranked(engine, asked, items, _by_name, advance)
    found["generator, by history"] = _reranked(engine, asked, items, _by_history, advance)
    rows = [FamilyRow(name, _figures(ranks(scores))) for name, scores in found.items()]
    note = f"one item that came next among {NEGATIVES} drawn at random (seed {seed})"
    dataset = bundle.manifest.provenance.dataset
    return FamilyReport(bundle.version, dataset, "direct", split, len(asked), rows, [note])


def _figures(found: Array) -> dict[str, Figure]:
    return {metric.upper(): Figure.mean(gains(metric, found)) for metric in METRICS}


def _near(bundle: Bundle, asked: Sequence[Question], items: Sequence[ItemArray]) -> list[Array]:
    """How near the items are to what the query encoder makes of the histories."""
    vectors = np.asarray(bundle.array("behavior_vectors", np.float32))
    encoder = OnnxQueryEncoder(bundle.file("query_encoder.onnx"), threads=0)
    newest = bundle.manifest.candidate.max_history
    scores: list[Array] = []
    for start in range(0, len(asked), _TOGETHER):
        part = asked[start : start + _TOGETHER]
        queries = encoder.encode_batch([vectors[q.history[-newest:]] for q in part])
        own = items[start : start + _TOGETHER]
        scores += [(vectors[i] @ q).astype(np.float64) for q, i in zip(queries, own, strict=True)]
    return scores


def _by_name(question: Question) -> UserContext:
    return UserContext(question.user, _NOTHING)


def _by_history(question: Question) -> UserContext:
    return UserContext(question.user, question.history)


def _reranked(
    engine: GeneratorEngine,
    asked: Sequence[Question],
    items: Sequence[ItemArray],
    context: Callable[[Question], UserContext],
    advance: Advance,
) -> list[Array]:
    """The exact scores of the items, in their order."""
    scores: list[Array] = []
    for start in range(0, len(asked), _TOGETHER):
        part = zip(asked[start : start + _TOGETHER], items[start : start + _TOGETHER], strict=True)
        queries = [RankingQuery(context(q), shortlist=own) for q, own in part]
        for query, ranked in zip(queries, engine.rerank(queries), strict=True):
            by_item = dict(zip(ranked.items.tolist(), ranked.scores.tolist(), strict=True))
            assert query.shortlist is not None  # noqa: S101 - given just above
            scores.append(np.array([by_item[item] for item in query.shortlist.tolist()]))
        advance(len(queries))
    return scores
