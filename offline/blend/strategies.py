"""The default strategy: the cheapest that is shown to be as good as the best."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from core.manifest import StrategyName
from offline.blend.validation import Gains
from offline.bootstrap import Difference

BY_COST: Final[tuple[StrategyName, ...]] = ("embedding", "generate", "rerank", "fuse")
"""The cheapest first: a search; a beam search of the model; a search and a reading of the model; a
search and both."""
TOLERANCE: Final = 0.02
"""The share of the best strategy's NDCG@10 that a cheaper one may lose."""


@dataclass(frozen=True)
class DefaultStrategy:
    """A strategy, and why."""

    strategy: StrategyName
    reason: str
    """In a sentence."""


def choose_default(gains: Mapping[StrategyName, Gains]) -> DefaultStrategy:
    """The cheapest strategy that surely loses no more than `TOLERANCE` beside the best.

    Surely means that the 95% interval of the difference, over the same users, excludes it. The best
    loses nothing beside itself, and is taken where nothing cheaper is shown to do.

    Args:
        gains: out-of-fold NDCG@10 of every user, by strategy; those that may be the default.
    """
    names = [name for name in BY_COST if name in gains]
    best = max(names, key=lambda name: float(gains[name].mean()))
    highest = float(gains[best].mean())
    refused: list[str] = []
    for name in names:
        loss = Difference.between(gains[best], gains[name])
        if name == best or loss.high <= TOLERANCE * highest:
            return DefaultStrategy(name, _reason(name, best, gains, refused))
        refused.append(f"{name} loses {_share(loss, highest)}")
    raise AssertionError("the best is among them")


def _reason(
    name: StrategyName, best: StrategyName, gains: Mapping[StrategyName, Gains], refused: list[str]
) -> str:
    highest = float(gains[best].mean())
    if name == best:
        why = f"{_figure(highest)} (best)"
    else:
        loss = Difference.between(gains[best], gains[name])
        why = (
            f"{_figure(float(gains[name].mean()))}, and loses {_share(loss, highest)} beside "
            f"{best}, {_figure(highest)}"
        )
    return "; ".join([f"{name}: validation NDCG@10 {why}", *refused])


def _share(loss: Difference, of: float) -> str:
    """A loss as a share of the best, with its interval."""
    mean, low, high = (value / of if of else 0.0 for value in (loss.mean, loss.low, loss.high))
    return f"{mean:.1%} ({low:.1%} to {high:.1%})"


def _figure(value: float) -> str:
    return f"{value:.4f}".removeprefix("0")
