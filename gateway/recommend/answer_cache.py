"""Values that are given again, and made once for all who ask for the same at the same time."""

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Hashable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from gateway.domain import Answer

V = TypeVar("V")


@dataclass(frozen=True)
class _Entry(Generic[V]):
    value: V
    good_until: float


@dataclass
class _Flight(Generic[V]):
    """A value that is being made, and how many wait for it."""

    task: asyncio.Task[V]
    waiting: int = 0


class Cache(Generic[V]):
    """A bounded memory of values.

    Args:
        max_entries: values that are kept; the one not asked for the longest goes first.
        seconds: how long a value is good for, from when it was made.
        keep: whether a value may be given again.
        clock: tells the time in seconds.
    """

    def __init__(
        self,
        max_entries: int,
        seconds: float,
        *,
        keep: Callable[[V], bool] = lambda _: True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._max_entries = max_entries
        self._seconds = seconds
        self._keep = keep
        self._clock = clock
        self._entries: OrderedDict[Hashable, _Entry[V]] = OrderedDict()
        self._flights: dict[Hashable, _Flight[V]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    async def get(self, key: Hashable, make: Callable[[], Coroutine[Any, Any, V]]) -> V:
        """The value of a key: remembered, being made for somebody else, or made now.

        What is being made belongs to all who wait for it: it goes on when the one who started it
        leaves, and ends when nobody is left. When it fails, whoever had joined makes its own: the
        failure may be that of a deadline which was not theirs.

        Args:
            key: all that the value depends on.
            make: makes the value. What it raises is raised, and never remembered.
        """
        entry = self._entries.get(key)
        if entry is not None and self._clock() < entry.good_until:
            self._entries.move_to_end(key)
            return entry.value
        flight = self._flights.get(key)
        if flight is None:
            flight = _Flight(asyncio.create_task(self._fly(key, make)))
            self._flights[key] = flight
            return await self._wait(key, flight)
        try:
            return await self._wait(key, flight)
        except Exception:  # noqa: BLE001 - it was raised for whoever started it
            return await make()

    async def _fly(self, key: Hashable, make: Callable[[], Coroutine[Any, Any, V]]) -> V:
        flight = asyncio.current_task()
        try:
            value = await make()
        finally:
            # A flight that everybody left may end after the next one of its key began.
            if key in self._flights and self._flights[key].task is flight:
                del self._flights[key]
        if self._keep(value):
            self._remember(key, value)
        return value

    async def _wait(self, key: Hashable, flight: _Flight[V]) -> V:
        flight.waiting += 1
        try:
            return await asyncio.shield(flight.task)
        finally:
            flight.waiting -= 1
            if not flight.waiting and not flight.task.done():
                self._flights.pop(key, None)
                flight.task.cancel()

    def _remember(self, key: Hashable, value: V) -> None:
        self._entries[key] = _Entry(value, self._clock() + self._seconds)
        self._entries.move_to_end(key)
        while len(self._entries) > self._max_entries:
            self._entries.popitem(last=False)


def fingerprint(*parts: object) -> bytes:
    """Names what a value depends on without keeping it, for it tells what people did.

    Args:
        parts: values whose `repr` says all of them, such as dataclasses of texts and numbers.
    """
    return hashlib.blake2b(repr(parts).encode(), digest_size=16).digest()


@dataclass(frozen=True)
class AnswerCache:
    """Answers that are given again, to the same question with the same history."""

    answers: Cache[Answer]
    versions: Callable[[], Hashable]
    """Of all that answers are made from, as far as one knows."""

    @classmethod
    def of(cls, entries: int, seconds: float, versions: Callable[[], Hashable]) -> "AnswerCache":
        """One of a limited size. What is degraded is not remembered."""
        return cls(Cache(entries, seconds, keep=lambda answer: not answer.degradations), versions)
