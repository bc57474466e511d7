"""Whether 8-bit products keep the rankings of the model that they stand for."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from core.bundle import Bundle
from core.manifest import Precision
from offline.evaluate.protocol import Question
from offline.metrics import discounted_gains, ranks_from_lists
from services.generator.decoding.engine import (
    Generation,
    GeneratorEngine,
    RankingQuery,
    UserContext,
)
from services.generator.decoding.providers import Compute

LIMIT: Final = 0.01
"""The share of NDCG@10 that a precision may lose."""
TARGETS_PER_USER: Final = 4
MOST_USERS: Final = 2_000
_BATCH: Final = 16


@dataclass(frozen=True)
class PrecisionLoss:
    """What a precision costs."""

    questions: int
    ndcg_fp32: float
    """NDCG@10, filtered, over those questions."""
    ndcg: float
    relative_loss: float
    """The share of the former that is lost; negative when the precision does better."""
    half_width: float
    """Of the 95% confidence interval of `relative_loss`, paired by question."""


def questions(bundle: Bundle) -> list[Question]:
    """The last items of each user before the test item, each asked after what came before it.

    All but one of them were trained on, which flatters the model, but not one precision of it more
    than another; and one target a user would leave the difference lost in noise.
    """
    return list(_questions(bundle))


def _questions(bundle: Bundle) -> Iterator[Question]:
    users = list(bundle.histories.user_index.items())
    for user_id, user in users[:: max(1, len(users) // MOST_USERS)]:
        items = bundle.histories.of(user_id)
        if items is None:
            continue
        for end in range(max(1, len(items) - 1 - TARGETS_PER_USER), len(items) - 1):
            yield Question(user, user_id, np.array(items[:end], np.int32), int(items[end]))


def measure_loss(
    bundle: Bundle,
    precision: Precision,
    asked: list[Question],
    advance: Callable[[int], None] = lambda _: None,
) -> PrecisionLoss:
    """Compares the lists of two precisions of a bundle's generator.

    Args:
        bundle: that holds both.
        precision: to compare with fp32.
        asked: see `questions`.
        advance: told how many of the lists were made; there are two a question.
    """
    reference = _gains(bundle, "fp32", asked, advance)
    found = _gains(bundle, precision, asked, advance)
    mean = float(reference.mean())
    error = float((found - reference).std() / np.sqrt(max(1, len(asked))))
    return PrecisionLoss(
        questions=len(asked),
        ndcg_fp32=mean,
        ndcg=float(found.mean()),
        relative_loss=1.0 - float(found.mean()) / mean if mean else 0.0,
        half_width=1.96 * error / mean if mean else 0.0,
    )


def _gains(
    bundle: Bundle, precision: Precision, asked: list[Question], advance: Callable[[int], None]
) -> NDArray[np.float64]:
    engine = GeneratorEngine.load(bundle, Compute(), precision)
    lists = np.full((len(asked), 10), -1, dtype=np.int32)
    # Histories of similar length together: padding costs time.
    order = np.argsort([len(question.history) for question in asked], kind="stable")
    for start in range(0, len(order), _BATCH):
        rows = order[start : start + _BATCH]
        queries = [
            RankingQuery(UserContext(q.user, q.history), Generation(10, None, q.history))
            for q in (asked[row] for row in rows)
        ]
        for row, ranked in zip(rows, engine.generate(queries), strict=True):
            lists[row, : len(ranked.items)] = ranked.items
        advance(len(rows))
    targets = np.array([question.target for question in asked], dtype=np.int32)
    return discounted_gains(ranks_from_lists(lists, targets), 10)
