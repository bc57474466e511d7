"""Persistent collections against the plain ones, and every version against those after it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.persistent import CHUNK, PARTS, PersistentMap, PersistentSequence, append

# Integers are their own hashes: multiples of PARTS meet in one part.
keys = st.integers(0, 3) | st.integers(0, 3).map(lambda i: i * PARTS)
values = st.none() | st.integers(0, 9)


@given(st.lists(st.dictionaries(keys, values), max_size=6))
def test_a_map_is_a_dictionary_at_every_version(batches: list[dict[int, int | None]]) -> None:
    expected: dict[int, int | None] = {}
    current: PersistentMap[int, int] = PersistentMap()
    versions = [(current, expected)]
    for batch in batches:
        current, expected = current.updated(batch), {**expected, **batch}
        versions.append((current, expected))
    every = [*range(4), *(i * PARTS for i in range(4)), -1]
    for version, expected in versions:
        assert version.get_all(every) == [expected.get(key) for key in every]
        assert [version.get(key) for key in every] == [expected.get(key) for key in every]


@given(st.lists(st.integers(0, 2 * CHUNK + 1), max_size=5))
def test_a_sequence_is_a_tuple_at_every_version(sizes: list[int]) -> None:
    current: PersistentSequence[int] = PersistentSequence()
    versions = [current]
    for size in sizes:
        current = current.extended(range(len(current), len(current) + size))
        versions.append(current)
    for version, length in zip(versions, np.cumsum([0, *sizes]).tolist(), strict=True):
        assert len(version) == length
        assert list(version) == list(range(length))
        for place in {0, CHUNK - 1, CHUNK, length - 1} & set(range(length)):
            assert version[place] == place
            assert version[place - length] == place
        assert version[-3:] == tuple(range(length))[-3:]
        assert version[:CHUNK:100] == tuple(range(length))[:CHUNK:100]
        for outside in (length, -length - 1):
            with pytest.raises(IndexError):
                version[outside]


@given(st.integers(0, 3 * CHUNK), st.data())
def test_a_sequence_may_be_cut_and_replaced_in(length: int, data: st.DataObject) -> None:
    before: PersistentSequence[int] = PersistentSequence(range(length))
    cut = data.draw(st.integers(0, length))
    assert list(before.truncated(cut)) == list(range(cut))
    assert list(before.truncated(cut).extended([7, 8])) == [*range(cut), 7, 8]
    places = data.draw(st.sets(st.integers(0, length - 1), max_size=5)) if length else set()
    after = before.replaced({place: -place for place in places})
    assert list(after) == [-i if i in places else i for i in range(length)]
    assert list(before) == list(range(length))


def test_a_position_may_be_an_integer_of_numpy() -> None:
    sequence = PersistentSequence("abc")
    assert [sequence[i] for i in np.array([2, 0], np.int32)] == ["c", "a"]


@given(st.lists(st.integers(0, 20), max_size=30))
def test_pieces_hold_all_in_order_and_are_few(sizes: list[int]) -> None:
    pieces: tuple[np.ndarray[tuple[int], np.dtype[np.int64]], ...] = ()
    total = 0
    for size in sizes:
        pieces = append(pieces, np.arange(total, total + size))
        total += size
        assert [number for piece in pieces for number in piece] == list(range(total))
        assert len(pieces) <= max(total, 1).bit_length()
