"""How long calls of a method take, and how late one is that should be hedged."""

from collections import deque
from typing import Final

WINDOW: Final = 1024
EVERY: Final = 64
"""Sorting the window is not work for each call."""
ENOUGH: Final = 64
"""Fewer calls have no 95th percentile worth the name."""
MAX_FACTOR: Final = 8.0


class Latencies:
    """The times of a method's latest calls."""

    def __init__(self) -> None:
        self._seconds: deque[float] = deque(maxlen=WINDOW)
        self._since = 0
        self._p95: float | None = None

    @property
    def p95(self) -> float | None:
        """Seconds within which 95% of the latest calls were answered; None before it is known."""
        return self._p95

    def record(self, seconds: float) -> None:
        """Takes the time of a call that was answered."""
        self._seconds.append(seconds)
        self._since += 1
        if self._since >= EVERY and len(self._seconds) >= ENOUGH:
            self._since = 0
            ordered = sorted(self._seconds)
            self._p95 = ordered[int(0.95 * (len(ordered) - 1))]


class HedgeDelay:
    """How much later than the 95th percentile a hedge is sent.

    Where many calls are slow of themselves, hedges for them use the budget up, and the few that
    are stuck find it empty. So each hedge that cannot be afforded makes the next ones later, by
    which time what is merely slow has been answered; and each that can makes them a little sooner.
    They balance where one in ten cannot.
    """

    def __init__(self) -> None:
        self.factor = 1.0

    def learn(self, *, afforded: bool) -> None:
        """Takes in whether a call that was late could be hedged."""
        self.factor = min(max(self.factor * (0.99 if afforded else 1.1), 1.0), MAX_FACTOR)
