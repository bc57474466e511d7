"""By when the call that is served must have its answer, for work that can end before it is done.

gRPC ends a call at its deadline, but not what a thread computes for it. Whoever computes in steps
asks between them whether there is time left, and ends a little earlier than the caller does: so the
caller hears from a server that was at work, and need not take it for one that hangs.
"""

import math
import time
from contextvars import ContextVar
from typing import Final

from core.errors import DeadlineExceeded

MARGIN_FRACTION: Final = 0.1
MAX_MARGIN_SECONDS: Final = 0.05

_ends: ContextVar[float | None] = ContextVar("ends", default=None)
"""On the monotonic clock; None for a call without a deadline."""


def margin(seconds: float) -> float:
    """What is kept of a caller's time for the answer to reach it, in seconds."""
    return min(seconds * MARGIN_FRACTION, MAX_MARGIN_SECONDS)


def adopt_deadline(remaining: float | None) -> None:
    """Notes the deadline of a call, for all that is computed for it, on whatever thread.

    Args:
        remaining: seconds until the caller gives up; None when it set no deadline.
    """
    _ends.set(None if remaining is None else time.monotonic() + remaining - margin(remaining))


def time_left() -> float:
    """Seconds until the call that is served must have its answer; infinite without a deadline."""
    ends = _ends.get()
    return math.inf if ends is None else ends - time.monotonic()


def deadline() -> float:
    """By when the call that is served must have its answer, on the monotonic clock; infinite where
    its caller set no deadline."""
    ends = _ends.get()
    return math.inf if ends is None else ends


def check_deadline() -> None:
    """Lets work go on while its call has time.

    Raises:
        DeadlineExceeded: it has none left.
    """
    if time.monotonic() >= deadline():
        raise DeadlineExceeded(
            "the deadline passed while the call was worked on; allow more time or ask for less",
            reason="DEADLINE_EXCEEDED",
        )
