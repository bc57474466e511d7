"""Whether a canary does so much worse than the control that it is to be withdrawn.

A limit is passed where what is seen of it is beyond what chance explains: three standard deviations
of the share that the limit would make. So a few bad calls among the first hundred withdraw nothing,
and a canary that is far beyond its limit goes at once.
"""

import math
from collections.abc import Mapping
from typing import Final

from gateway.variants.plan import Limits
from gateway.variants.window import PERCENTILE, Window

DEVIATIONS: Final = 3.0


class Canary:
    """A canary's calls in a window of time, and those of the control.

    Args:
        limits: what it must not pass.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._own = Window(limits.window_seconds)
        self._control = Window(limits.window_seconds)
        self.withdrawn = False
        """Whether it passed a limit; it stays so."""

    def add(self, now: float, seconds: float, *, bad: bool, control: bool) -> None:
        """Counts a call that has ended: of the control, or of the canary."""
        own, other = self._own, self._control
        (other if control else own).add(now, seconds, bad=bad)
        (own if control else other).forget(now)

    def passed(self) -> Mapping[str, float] | None:
        """The limit that it passed, and the figures; None where it passed none."""
        own, control, limits = self._own, self._control, self._limits
        if own.calls < limits.min_calls or not control.calls:
            return None
        bad = min(control.bad_share + limits.max_bad_share, 1.0)
        slow = control.slowest * limits.max_latency_ratio
        if self._beyond(own.bad_share, bad):
            figures = {"bad_share": own.bad_share, "control_bad_share": control.bad_share}
        elif self._beyond(own.slow_share(slow), 1 - PERCENTILE):
            figures = {"p95_seconds": own.slowest, "control_p95_seconds": control.slowest}
        else:
            return None
        figures |= {"calls": own.calls, "control_calls": control.calls}
        return {name: round(figure, 4) for name, figure in figures.items()}

    def _beyond(self, share: float, limit: float) -> bool:
        variance = limit * (1 - limit) * (1 / self._own.calls + 1 / self._control.calls)
        return share - limit > DEVIATIONS * math.sqrt(variance)
