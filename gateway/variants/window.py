"""What calls came to in the last seconds, in memory that is bounded however many there are."""

from bisect import bisect_left
from collections import deque
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Final

SLICES: Final = 12
"""Of a window: what is older is forgotten by as many parts."""
_STEP: Final = 1.1
"""Between two bounds of times: as far as a percentile may be off."""
BOUNDS: Final = tuple(0.001 * _STEP**n for n in range(116))
"""From a millisecond to a minute."""
PERCENTILE: Final = 0.95


@dataclass
class _Slice:
    start: float
    calls: int = 0
    bad: int = 0
    times: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS) + 1))


class Window:
    """Calls, bad ones, and how long they took.

    Args:
        seconds: that it reaches back.
    """

    def __init__(self, seconds: float) -> None:
        self._width = seconds / SLICES
        self._slices: deque[_Slice] = deque()
        self._total = _Slice(0.0)

    @property
    def calls(self) -> int:
        """How many there were."""
        return self._total.calls

    @property
    def bad_share(self) -> float:
        """Of the calls; 0 where there were none."""
        return self._total.bad / max(self.calls, 1)

    @property
    def slowest(self) -> float:
        """The 95th percentile of their seconds, up to a tenth too much; 0 where there were none."""
        needed = PERCENTILE * self.calls
        if not needed:
            return 0.0
        place = bisect_left(list(accumulate(self._total.times)), needed)
        return BOUNDS[min(place, len(BOUNDS) - 1)]

    def slow_share(self, seconds: float) -> float:
        """Of the calls: those that took longer, as far as the bounds tell."""
        beyond = bisect_left(BOUNDS, seconds) + 1
        return sum(self._total.times[beyond:]) / max(self.calls, 1)

    def add(self, now: float, seconds: float, *, bad: bool) -> None:
        """Counts a call that has ended, and forgets those that are too old."""
        self.forget(now)
        if not self._slices or now - self._slices[-1].start >= self._width:
            self._slices.append(_Slice(now))
        place = bisect_left(BOUNDS, seconds)
        for each in (self._slices[-1], self._total):
            each.calls += 1
            each.bad += bad
            each.times[place] += 1

    def forget(self, now: float) -> None:
        """Forgets what is older than the window."""
        while self._slices and now - self._slices[0].start >= self._width * SLICES:
            old = self._slices.popleft()
            self._total.calls -= old.calls
            self._total.bad -= old.bad
            for place, count in enumerate(old.times):
                self._total.times[place] -= count
