"""Turns at the model, which takes all cores: one run at a time, whoever asked first."""

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

Q = TypeVar("Q")
R = TypeVar("R")


class ModelTurns:
    """A lock that is passed on in the order of asking.

    Two threads run the model: one has batches of lists, the other has steps of texts. Where both
    always have something to do they alternate, so that neither waits for more than one run of the
    other; where only one has, it goes on at once.
    """

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._taken = False
        self._waiting: deque[threading.Event] = deque()

    @property
    def waiting(self) -> int:
        """Runs that wait for their turn."""
        return len(self._waiting)

    @contextmanager
    def turn(self) -> Iterator[None]:
        """The time of one run."""
        with self._guard:
            mine = threading.Event()
            if self._taken:
                self._waiting.append(mine)
            else:
                self._taken = True
                mine.set()
        mine.wait()
        try:
            yield
        finally:
            with self._guard:
                if self._waiting:
                    self._waiting.popleft().set()
                else:
                    self._taken = False

    def taken(self, run: Callable[[Q], R]) -> Callable[[Q], R]:
        """What runs the model, in a turn of its own each time."""

        def in_turn(jobs: Q) -> R:
            with self.turn():
                return run(jobs)

        return in_turn
