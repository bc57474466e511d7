"""Why an item has its score: the score of each source, and what each item of the history adds.

What an item of the history adds is found by leaving it out: exact for any blend of sources, at the
cost of scoring once more per item. Scores are log-probabilities up to a constant of the history,
so the same is done for a sample of the catalog, and what changes for everything is no influence.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from core.catalog import ItemArray
from services.candidate.retrieval.engine import CandidateEngine
from services.candidate.retrieval.shortlist import Basis

INFLUENCES: Final = 5
_SAMPLE: Final = 1_000


@dataclass(frozen=True)
class ItemScore:
    """What an item's score is made of."""

    score: float
    sources: tuple[tuple[str, float, float], ...]
    """Name, score and weight of each."""
    influences: tuple[tuple[int, float], ...]
    """Items of the history, and how much more they raise this score than that of other items, most
    first; only what raises it, and the first few."""


@dataclass(frozen=True)
class Diagnosed:
    """What was diagnosed, in order."""

    items: ItemArray
    of: tuple[ItemScore, ...]
    basis: Basis
    """What the scores are made from."""


def diagnose(engine: CandidateEngine, history: ItemArray, items: ItemArray) -> Diagnosed:
    """Says what the scores of items are made of.

    Args:
        engine: a version of the catalog.
        history: positions, oldest first.
        items: positions.
    """
    sources = [
        (name, source.scores(items), weight) for name, weight, source in engine.sources(history)
    ]
    total = np.sum([weight * scores for _, scores, weight in sources], axis=0)
    influences = _influences(engine, history, items)
    return Diagnosed(
        items,
        tuple(
            ItemScore(
                float(total[place]),
                tuple((name, float(scores[place]), weight) for name, scores, weight in sources),
                influences[place],
            )
            for place in range(len(items))
        ),
        engine.basis(history),
    )


def _influences(
    engine: CandidateEngine, history: ItemArray, items: ItemArray
) -> list[tuple[tuple[int, float], ...]]:
    """The influences on each item, for as much of the history as can matter."""
    live = np.flatnonzero(engine.catalog.live).astype(np.int32)
    sample = live[np.unique(np.linspace(0, len(live) - 1, _SAMPLE).astype(int))]
    asked = np.concatenate([items, sample])
    newest = history[-engine.history_window :]
    whole = _scores(engine, newest, asked)
    others = np.unique(newest)
    lost = np.empty((len(others), len(items)))
    for row, other in zip(lost, others, strict=True):
        change = whole - _scores(engine, newest[newest != other], asked)
        row[:] = change[: len(items)] - change[len(items) :].mean()
    order = np.argsort(-lost, axis=0, kind="stable")[:INFLUENCES]
    return [
        tuple(
            (int(others[row]), float(lost[row, place]))
            for row in order[:, place]
            if lost[row, place] > 0
        )
        for place in range(len(items))
    ]


def _scores(engine: CandidateEngine, history: ItemArray, items: ItemArray) -> NDArray[np.float64]:
    """The scores after a history; after none, all alike."""
    if not len(history):
        return np.zeros(len(items))
    weighted = [weight * source.scores(items) for _, weight, source in engine.sources(history)]
    total: NDArray[np.float64] = np.sum(weighted, axis=0)
    return total
