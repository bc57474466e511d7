"""Measures the steps of a request."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from gateway.domain import StageTime


class Stopwatch:
    """Collects the times of a request's stages, in the order in which they end."""

    def __init__(self) -> None:
        self._times: list[StageTime] = []

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Times a block."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self._times.append(StageTime(name, time.perf_counter() - started))

    @property
    def times(self) -> tuple[StageTime, ...]:
        """What was measured so far."""
        return tuple(self._times)
