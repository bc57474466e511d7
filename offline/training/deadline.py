"""When long work has to stop for now: asked between two pieces whose results are on disk."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_DEADLINE: ContextVar[float] = ContextVar("deadline", default=math.inf)


class OutOfTime(Exception):
    """The time is up. What is done is kept, and the same work started again goes on from there."""


@contextmanager
def limited(minutes: float | None) -> Iterator[None]:
    """Limits what is done inside; a variable of the context, since stages of a build lie between.

    Args:
        minutes: from now on; None for as long as it takes.
    """
    token = _DEADLINE.set(math.inf if minutes is None else time.monotonic() + 60 * minutes)
    try:
        yield
    finally:
        _DEADLINE.reset(token)


def check() -> None:
    """Goes on while there is time.

    Raises:
        OutOfTime: there is none left.
    """
    if time.monotonic() >= _DEADLINE.get():
        raise OutOfTime
