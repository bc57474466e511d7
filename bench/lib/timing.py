"""Clocks, and what is compared in turns."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

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


def in_turns(
    sides: Mapping[str, Callable[[], T]], rounds: int, label: str = "Measuring"
) -> dict[str, list[T]]:
    """Runs every side once a round, so that a drifting machine slows all of them.

    Args:
        sides: what is run, by name.
        rounds: that count; one more, the first, warms.
        label: of the progress bar.

    Returns:
        What each side returned, one entry a round.
    """
    for work in sides.values():
        work()
    found: dict[str, list[T]] = {name: [] for name in sides}
    for _ in track(range(rounds), label, transient=True):
        for name, work in sides.items():
            found[name].append(work())
    return found


def times_in_turns(
    sides: Mapping[str, Callable[[], object]], rounds: int, label: str = "Measuring"
) -> dict[str, list[float]]:
    """Like `in_turns`: the milliseconds of each side instead of what it returned."""

    def clocked(work: Callable[[], object]) -> Callable[[], float]:
        return lambda: timed(work)[1]

    return in_turns({name: clocked(work) for name, work in sides.items()}, rounds, label)


def median_ratio(over: Sequence[float], under: Sequence[float]) -> float:
    """The median over rounds of the ratio of two sides' figures."""
    return statistics.median(o / u for o, u in zip(over, under, strict=True))
