"""A limit that callers share, so that no one of them keeps all others out."""

from collections import Counter

from core.errors import ResourceExhausted


class Shares:
    """Counts what callers hold at a time.

    Args:
        limit: of all callers together, at least 1. One may hold half of it, rounded up.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._share = (limit + 1) // 2
        self._held: Counter[str] = Counter()

    def take(self, owner: str) -> None:
        """Counts one more.

        Raises:
            ResourceExhausted: reason TOO_MANY_CALLS.
        """
        if self._held.total() >= self._limit:
            raise too_many(f"the server is at its limit of {self._limit} streams")
        if self._held[owner] >= self._share:
            raise too_many(f"this caller has {self._share} streams, as many as one may have")
        self._held[owner] += 1

    def give_back(self, owner: str) -> None:
        """Counts one less."""
        self._held[owner] -= 1
        if not self._held[owner]:
            del self._held[owner]


def too_many(message: str) -> ResourceExhausted:
    """The refusal of a call above a limit."""
    return ResourceExhausted(message, reason="TOO_MANY_CALLS")
