"""Whether 8-bit products keep the rankings of the model that they stand for.

The promise is 99% of float32's NDCG@10, over validation targets, which the model was not trained
on. A small data set has too few of these to see a loss of 1%. There a precision has to give nearly
the same lists and scores, which says less of quality, and takes far fewer users to know.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np

from core.bundle import Bundle
from core.manifest import Precision
from offline.evaluate.protocol import Question
from offline.evaluate.protocol import questions as held_out
from offline.metrics import discounted_gains, ranks_from_lists
from services.generator.decoding.engine import (
    Generation,
    GeneratorEngine,
    Ranked,
    RankingQuery,
    UserContext,
)
from services.generator.decoding.providers import Compute

LIMIT: Final = 0.01
"""The share of NDCG@10 that a precision may lose, and the half-width by which that is known."""
MIN_OVERLAP: Final = 0.9
"""The share of fp32's ten best that must stay, where the loss is not known so well."""
MAX_DIFFERENCE: Final = 0.1
"""Of log-probabilities, on average, there."""
MOST_USERS: Final = 8_000
"""Enough for a half-width of 1%: 943 users of MovieLens-100K give 1.6%."""
_LISTED: Final = 10
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
    overlap: float
    """The share of fp32's ten best items that are among the precision's, on average."""
    score_difference: float
    """Of the log-probabilities of an item that both lists have, on average."""
    largest_score_difference: float

    @property
    def resolved(self) -> bool:
        """Whether there are questions enough to see a loss of `LIMIT`."""
        return 0 < self.half_width <= LIMIT

    @property
    def accepted(self) -> bool:
        """Whether the precision may be served."""
        if self.resolved:
            return self.relative_loss <= LIMIT
        return self.overlap >= MIN_OVERLAP and self.score_difference <= MAX_DIFFERENCE

    def __str__(self) -> str:
        loss = (
            f"loses {self.relative_loss:+.2%} (± {self.half_width:.2%}) of fp32's NDCG@10 over "
            f"{self.questions:,} validation targets"
        )
        alike = (
            f"{self.overlap:.1%} of its ten best are fp32's, and scores differ by "
            f"{self.score_difference:.4f} on average"
        )
        verdict = "accepted" if self.accepted else "refused"
        if self.resolved:
            return f"{loss}; at most {LIMIT:.0%} may be lost: {verdict}. {alike}"
        return (
            f"{loss}, too few to tell {LIMIT:.0%}. Hence judged by likeness: {alike} (at least "
            f"{MIN_OVERLAP:.0%}, at most {MAX_DIFFERENCE:g}): {verdict}"
        )

    def to_json(self) -> dict[str, Any]:
        """As the manifest keeps it."""
        judged = "NDCG@10" if self.resolved else "overlap and score difference"
        return {**asdict(self), "judged_by": judged, "accepted": self.accepted}


def questions(bundle: Bundle) -> list[Question]:
    """The validation items of up to `MOST_USERS` users, spread evenly: held out from training, and
    not the test items, since something is chosen by them."""
    asked = held_out(bundle, "validation")
    places = np.linspace(0, len(asked) - 1, min(len(asked), MOST_USERS)).astype(int)
    return [asked[place] for place in places]


def measure_loss(
    bundle: Bundle,
    precision: Precision,
    asked: Sequence[Question],
    advance: Callable[[int], None] = lambda _: None,
) -> PrecisionLoss:
    """Compares the lists of two precisions of a bundle's generator.

    Args:
        bundle: that holds both.
        precision: to compare with fp32.
        asked: see `questions`.
        advance: told how many of the lists were made; there are two a question.
    """
    lists = {p: _lists(bundle, p, asked, advance) for p in ("fp32", precision)}
    reference, found = (_gains(asked, lists[p]) for p in ("fp32", precision))
    shared, differences = _likeness(lists["fp32"], lists[precision])
    mean = float(reference.mean()) if asked else 0.0
    error = float((found - reference).std() / np.sqrt(len(asked))) if asked else 0.0
    return PrecisionLoss(
        questions=len(asked),
        ndcg_fp32=mean,
        ndcg=float(found.mean()) if asked else 0.0,
        relative_loss=1.0 - float(found.mean()) / mean if mean else 0.0,
        half_width=1.96 * error / mean if mean else 0.0,
        overlap=shared,
        score_difference=float(np.mean(differences)) if differences else 0.0,
        largest_score_difference=max(differences, default=0.0),
    )


def _likeness(lists: Sequence[Ranked], others: Sequence[Ranked]) -> tuple[float, list[float]]:
    """The mean share of a list that the other has too, and the differences of their scores."""
    shares, differences = [], []
    for one, other in zip(lists, others, strict=True):
        _, mine, theirs = np.intersect1d(one.items, other.items, return_indices=True)
        shares.append(len(mine) / max(1, len(one.items)))
        differences += np.abs(one.scores[mine] - other.scores[theirs]).tolist()
    return float(np.mean(shares)) if shares else 1.0, differences


def _gains(asked: Sequence[Question], lists: Sequence[Ranked]) -> np.ndarray[Any, Any]:
    """NDCG@10 of each question."""
    items = np.full((len(asked), _LISTED), -1, dtype=np.int32)
    for row, ranked in enumerate(lists):
        items[row, : len(ranked.items)] = ranked.items
    targets = np.array([question.target for question in asked], dtype=np.int32)
    return discounted_gains(ranks_from_lists(items, targets), _LISTED)


def _lists(
    bundle: Bundle, precision: Precision, asked: Sequence[Question], advance: Callable[[int], None]
) -> list[Ranked]:
    engine = GeneratorEngine.load(bundle, Compute(), precision)
    found: dict[int, Ranked] = {}
    # Histories of similar length together: padding costs time.
    order = np.argsort([len(question.history) for question in asked], kind="stable").tolist()
    for start in range(0, len(order), _BATCH):
        rows = order[start : start + _BATCH]
        queries = [
            RankingQuery(UserContext(q.user, q.history), Generation(_LISTED, None, q.history))
            for q in (asked[row] for row in rows)
        ]
        found.update(zip(rows, engine.generate(queries), strict=True))
        advance(len(rows))
    return [found[row] for row in range(len(asked))]
