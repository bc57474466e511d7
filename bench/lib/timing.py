"""Clocks, and what is compared in turns."""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from rich.progress import track

T = TypeVar("T")


def timed(work: Callable[[], T]) -> tuple[T, float]:
    """What a call returns, and the milliseconds that it takes."""
    started = time.perf_counter()
    result = work()
    return result, (time.perf_counter() - started) * 1e3


def milliseconds(work: Callable[[], object], rounds: int = 9) -> float:
    """The median time of a call."""
    return statistics.median(timed(work)[1] for _ in range(rounds))


@dataclass(frozen=True)
class Turns(Generic[T]):
    """What sides that took turns returned: by name, an entry for each round."""

    sides: Mapping[str, list[T]]

    def median(self, side: str, figure: Callable[[T], float]) -> float:
        """The median over rounds of a side's figure."""
        return statistics.median(map(figure, self.sides[side]))

    def ratio(self, over: str, under: str, figure: Callable[[T], float]) -> float:
        """The median over rounds of the ratio of two sides' figures in one round."""
        pairs = zip(self.sides[over], self.sides[under], strict=True)
        return statistics.median(figure(one) / figure(other) for one, other in pairs)

    def medians(self, suffix: str, figure: Callable[[T], float]) -> dict[str, float]:
        """The median of every side, under its name and a suffix."""
        return {f"{side}_{suffix}": self.median(side, figure) for side in self.sides}


def in_turns(
    sides: Mapping[str, Callable[[], T]], rounds: int, label: str = "Measuring"
) -> Turns[T]:
    """Runs every side once a round, so that a drifting machine slows all of them.

    Args:
        sides: what is run, by name.
        rounds: that count; one more, the first, warms.
        label: of the progress bar.
    """
    for work in sides.values():
        work()
    found: dict[str, list[T]] = {name: [] for name in sides}
    for _ in track(range(rounds), label, transient=True):
        for name, work in sides.items():
            found[name].append(work())
    return Turns(found)


def times_in_turns(
    sides: Mapping[str, Callable[[], object]], rounds: int, label: str = "Measuring"
) -> Turns[float]:
    """Like `in_turns`: the milliseconds of each side instead of what it returned."""

    def clocked(work: Callable[[], object]) -> Callable[[], float]:
        return lambda: timed(work)[1]

    return in_turns({name: clocked(work) for name, work in sides.items()}, rounds, label)
