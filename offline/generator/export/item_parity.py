"""The exported graphs of a model that reads whole items against the model itself.

The model scores every item exactly, in torch and without a trie. A beam search over those scores is
then a matter of a few sorts, in plain numpy: what it finds is what the graph must find.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from offline.generator.export.parity import Parity, largest_gap, same_ranking
from offline.generator.items.model import ItemT5
from offline.generator.items.scores import exact_scores
from services.generator.decoding.engine import GeneratorEngine, RankingQuery


def compare_items(
    engine: GeneratorEngine,
    model: ItemT5,
    queries: Sequence[RankingQuery],
    batch_size: int = 16,
    advance: Callable[[int], None] = lambda _: None,
) -> Parity:
    """Decodes the same prompts both ways, in padded batches.

    Args:
        engine: of the exported graphs, with the catalog that it was exported with.
        model: what was exported.
        queries: of a generation without filters and a history; its count is the number of beams.
        batch_size: prompts a batch.
        advance: told how many queries were compared.
    """
    codes = engine.snapshot.codes
    agreeing, difference, rerank_difference = 0, 0.0, 0.0
    words = engine.words()
    for start in range(0, len(queries), batch_size):
        chunk = queries[start : start + batch_size]
        histories = [query.context.history for query in chunk]
        exact = exact_scores(model, words, histories, engine.parts.section.max_history)
        found = engine.generate(chunk)
        beams = chunk[0].generation.count if chunk[0].generation else 0
        for query, scores, ranked in zip(chunk, exact, found, strict=True):
            items = beam_search(codes, scores.astype(np.float64), beams)
            agreeing += same_ranking(items, scores[items], ranked.items)
            (again,) = engine.rerank([RankingQuery(query.context, shortlist=items)])
            difference = max(difference, largest_gap(items, scores[items], ranked))
            rerank_difference = max(rerank_difference, largest_gap(items, scores[items], again))
        advance(len(chunk))
    return Parity(len(queries), agreeing, difference, rerank_difference)


def beam_search(
    codes: NDArray[np.int32], scores: NDArray[np.float64], beams: int
) -> NDArray[np.int32]:
    """The items that a beam search finds, best first.

    Args:
        codes: [items, levels] token ids.
        scores: [items] the log-probability of each code. That of a prefix is the logarithm of the
            summed probability of the codes below it, since every code is an item's.
        beams: prefixes that are kept at each level.
    """
    alive = np.ones(len(codes), dtype=np.bool_)
    for level in range(1, codes.shape[1] + 1):
        _, prefix = np.unique(codes[:, :level], axis=0, return_inverse=True)
        mass = np.full(prefix.max() + 1, -np.inf)
        np.logaddexp.at(mass, prefix.ravel()[alive], scores[alive])
        kept = np.argsort(-mass, kind="stable")[:beams]
        alive &= np.isin(prefix.ravel(), kept)
    items = np.flatnonzero(alive)
    best: NDArray[np.int32] = items[np.argsort(-scores[items], kind="stable")].astype(np.int32)
    return best[:beams]
