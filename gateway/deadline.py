"""The moment by which a caller must have its answer.

Deadlines do not propagate through gRPC Python by themselves: the gateway gives every call that it
makes a share of what is left of its caller's time, less a margin in which to answer.
"""

import time
from dataclasses import dataclass

from core.errors import DeadlineExceeded
from serving.deadline import margin


@dataclass(frozen=True)
class Deadline:
    """A moment on the monotonic clock."""

    at: float

    @classmethod
    def of_caller(cls, remaining: float | None, *, default: float, limit: float) -> "Deadline":
        """The moment until which services may work for a caller.

        Args:
            remaining: seconds until the caller gives up; None when it set no deadline.
            default: seconds for a caller that set none.
            limit: seconds that no call may exceed, whatever the caller allows.
        """
        budget = min(default if remaining is None else remaining, limit)
        return cls(time.monotonic() + budget - margin(budget))

    def share(self, fraction: float) -> "Deadline":
        """The moment until which one step may take, so that time is left for those that follow.

        Args:
            fraction: of the time that is left now, at most 1.
        """
        return Deadline(self.at - self.left * (1.0 - fraction))

    @property
    def left(self) -> float:
        """Seconds that are left, or 0."""
        return max(self.at - time.monotonic(), 0.0)

    def allows(self, seconds: float) -> bool:
        """Whether it is still to come after a wait."""
        return time.monotonic() + seconds < self.at

    def remaining(self) -> float:
        """Seconds that are left, more than 0.

        Raises:
            DeadlineExceeded: none are.
        """
        seconds = self.left
        if not seconds:
            raise DeadlineExceeded(
                "the caller's deadline passed before the answer was complete",
                reason="DEADLINE_EXCEEDED",
            )
        return seconds
