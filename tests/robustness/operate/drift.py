"""Whether callers wait longer and longer."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import theilslopes


@dataclass(frozen=True)
class Drift:
    """By how much p99 grew over a soak, as a share of what it was in the middle.

    The soak, without what counts as warming up, is cut into windows of equal length, and the line
    through their p99 is the one of Theil and Sen: its slope is the median of the slopes between any
    two windows. So a few bad windows, such as when something else took the cores, change nothing,
    where the p99 of a first and of a last part would be what happened just then. The slope times
    the number of windows, by the median of their p99, is the drift; 0.1 is a tenth more in the end
    than in the beginning.
    """

    share: float = 0.0
    low: float = 0.0
    """What it is at least, with 95% confidence."""
    high: float = 0.0

    @classmethod
    def of(cls, p99: Sequence[float]) -> "Drift":
        """The drift of the p99 of windows in their order; none of fewer than three."""
        if len(p99) < 3:
            return cls()
        found = theilslopes(np.asarray(p99, np.float64), alpha=0.95)
        scale = len(p99) / float(np.median(p99))
        return cls(*(float(each) * scale for each in (found[0], found[2], found[3])))
