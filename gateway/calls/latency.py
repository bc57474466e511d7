"""How long calls of a method take."""

from collections import deque
from typing import Final

WINDOW: Final = 1024
EVERY: Final = 64
"""Sorting the window is not work for each call."""
ENOUGH: Final = 64
"""Fewer calls have no 95th percentile worth the name."""


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
