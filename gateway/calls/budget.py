"""How many calls may be made beside those that callers asked for.

Retries and hedges help while few calls need them. Where most do, the service is in trouble, and
more calls make it worse; so each call earns a fraction of an extra one, and an extra one must have
been earned. (Finagle's `RetryBudget`; Dean and Barroso, The Tail at Scale, CACM 2013.)
"""


class Budget:
    """A bucket of extra calls; it starts empty, so `spent <= ratio * earned` at every moment.

    Args:
        ratio: how much of an extra call each call earns.
        capacity: extra calls that can be saved up.
    """

    def __init__(self, ratio: float, capacity: float = 10.0) -> None:
        self._ratio = ratio
        self._capacity = capacity
        self._saved = 0.0

    def earn(self) -> None:
        """For a call that a caller asked for."""
        self._saved = min(self._saved + self._ratio, self._capacity)

    @property
    def affords(self) -> bool:
        """Whether there is enough for one more call."""
        # Sums of fractions fall short of what they stand for: ten tenths are not quite one.
        return self._saved >= 1.0 - 1e-9

    def spend(self) -> bool:
        """Whether one more call may be made; if so, it is paid for."""
        if not self.affords:
            return False
        self._saved -= 1.0
        return True
