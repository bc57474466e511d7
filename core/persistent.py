"""Collections that never change, whose next versions share whatever stays the same.

A catalog of a million items takes in changes while requests read the version that they began with.
Here a version costs what its changes cost, not what the catalog does, and nothing is done in one
piece that holds up other threads for more than a moment.
"""

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence, Sized
from itertools import chain
from typing import Final, Generic, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
T = TypeVar("T")
P = TypeVar("P", bound=Sized)
Number = TypeVar("Number", bound=np.generic)

PARTS: Final = 1 << 14
"""Of a map. With a million keys each holds sixty: a thousand changes copy a twentieth of it."""
CHUNK: Final = 1 << 10
"""Items that a sequence keeps together."""


class PersistentMap(Generic[K, V]):
    """A mapping in parts by hash; the next version copies only the parts that it changes.

    Looking up takes what it takes in one dictionary. No value may be None.
    """

    def __init__(self) -> None:
        nothing: dict[K, V] = {}
        self._parts: tuple[dict[K, V], ...] = (nothing,) * PARTS

    def get(self, key: K) -> V | None:
        """The value of a key, or None."""
        return self._parts[hash(key) % PARTS].get(key)

    def get_all(self, keys: Iterable[K]) -> list[V | None]:
        """The values of several keys, in order, None for what is missing."""
        parts = self._parts
        return [parts[hash(key) % PARTS].get(key) for key in keys]

    def updated(self, changes: Mapping[K, V | None]) -> "PersistentMap[K, V]":
        """The next version: keys with new values, and without those whose value is None."""
        parts = list(self._parts)
        copied: set[int] = set()
        for key, value in changes.items():
            part = hash(key) % PARTS
            if part not in copied:
                copied.add(part)
                parts[part] = parts[part].copy()
            if value is None:
                parts[part].pop(key, None)
            else:
                parts[part][key] = value
        following: PersistentMap[K, V] = PersistentMap.__new__(PersistentMap)
        following._parts = tuple(parts)
        return following


class PersistentSequence(Sequence[T]):
    """A sequence in chunks; the next version shares those that stay the same."""

    def __init__(self, items: Iterable[T] = ()) -> None:
        given = tuple(items)
        self._chunks = tuple(given[i : i + CHUNK] for i in range(0, len(given), CHUNK))
        self._length = len(given)

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[T]:
        return chain.from_iterable(self._chunks)

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[T, ...]: ...
    def __getitem__(self, index: int | slice) -> T | tuple[T, ...]:
        if isinstance(index, slice):
            return tuple(self[i] for i in range(*index.indices(self._length)))
        if not -self._length <= index < self._length:
            raise IndexError(index)
        chunk, place = divmod(int(index) % self._length, CHUNK)
        return self._chunks[chunk][place]

    def extended(self, items: Iterable[T]) -> "PersistentSequence[T]":
        """The next version: these items at the end."""
        full = self._length // CHUNK
        tail: PersistentSequence[T] = PersistentSequence(
            chain(chain.from_iterable(self._chunks[full:]), items)
        )
        tail._chunks = self._chunks[:full] + tail._chunks
        tail._length += full * CHUNK
        return tail

    def truncated(self, length: int) -> "PersistentSequence[T]":
        """The next version: the first `length` items, of which there are as many."""
        full = length // CHUNK
        head: PersistentSequence[T] = PersistentSequence()
        head._chunks, head._length = self._chunks[:full], full * CHUNK
        return head.extended(self[full * CHUNK : length])

    def replaced(self, changes: Mapping[int, T]) -> "PersistentSequence[T]":
        """The next version: other items at some places."""
        chunks: dict[int, list[T]] = {}
        for index, item in changes.items():
            number, place = divmod(index, CHUNK)
            chunks.setdefault(number, list(self._chunks[number]))[place] = item
        following: PersistentSequence[T] = PersistentSequence()
        following._chunks = tuple(
            tuple(chunks[number]) if number in chunks else chunk
            for number, chunk in enumerate(self._chunks)
        )
        following._length = self._length
        return following


def append(
    pieces: tuple[NDArray[Number], ...], more: NDArray[Number]
) -> tuple[NDArray[Number], ...]:
    """The next version of an array that is kept in pieces; see `grown`."""
    return grown(pieces, more, np.concatenate)


def grown(pieces: tuple[P, ...], more: P, join: Callable[[Sequence[P]], P]) -> tuple[P, ...]:
    """The next version of something that grows, kept in pieces.

    A piece is at least twice as long as the next, so that there are few, and an element is copied
    only each time that its piece doubles.

    Args:
        pieces: so far.
        more: what comes at the end.
        join: makes one piece of two.
    """
    joined = [*pieces, more] if len(more) else [*pieces]
    while len(joined) > 1 and len(joined[-2]) < 2 * len(joined[-1]):
        joined[-2:] = [join(joined[-2:])]
    return tuple(joined)
