"""Measures the steps of a request."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from gateway.deadline import Deadline
from gateway.domain import Origin, StageTime


@dataclass
class Stage:
    """A step that runs."""

    name: str
    origin: Origin | None = None
    """What answered it, once something did."""


class Stopwatch:
    """Collects the times of a request's stages, in the order in which they end."""

    def __init__(self) -> None:
        self._times: list[StageTime] = []

    @contextmanager
    def stage(self, name: str, deadline: Deadline | None = None) -> Iterator[Stage]:
        """Times a block.

        Args:
            name: of the stage.
            deadline: by when it must have ended; its budget is the time until then.
        """
        budget = None if deadline is None else deadline.left
        stage, started = Stage(name), time.perf_counter()
        try:
            yield stage
        finally:
            seconds = time.perf_counter() - started
            self._times.append(StageTime(name, seconds, budget, stage.origin))

    @property
    def times(self) -> tuple[StageTime, ...]:
        """What was measured so far."""
        return tuple(self._times)
