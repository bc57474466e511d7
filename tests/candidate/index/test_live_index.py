"""An index that grows: its versions, what they share, and searches meanwhile."""

import threading
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.candidate.index import live as live_index
from services.candidate.index.flat import FlatIndex
from services.candidate.index.live import LiveIndex
from tests.candidate.kinds import check_best, check_honest, clustered, recall

VECTORS = clustered(600, 8)
BASE = 100


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(0, 40), max_size=12), st.integers(1, 30), st.data())
def test_every_version_stays_what_it_was(sizes: list[int], count: int, data: st.DataObject) -> None:
    versions = [LiveIndex.of(FlatIndex(VECTORS[:BASE]))]
    for size in sizes:
        length = len(versions[-1])
        versions.append(versions[-1].extended(VECTORS[length : length + size]))
    for version in versions:
        vectors = VECTORS[: len(version)]
        query = VECTORS[data.draw(st.integers(0, 599))]
        mask = np.random.default_rng(data.draw(st.integers(0, 9))).random(len(vectors)) < 0.3
        for allowed in (None, mask):
            found = version.search(query, count, allowed)
            check_honest(found, vectors, query, count, allowed)
            check_best(found, vectors, query, count, allowed)


def test_pieces_stay_few_and_are_shared() -> None:
    index = LiveIndex.of(FlatIndex(VECTORS[:BASE]))
    for start in range(BASE, 600, 10):
        following = index.extended(VECTORS[start : start + 10])
        lengths = [len(piece) for piece in following.vectors.added]
        assert all(longer >= 2 * shorter for longer, shorter in pairwise(lengths))
        assert following.vectors.base is index.vectors.base
        kept = {id(piece) for piece in index.vectors.added}
        assert sum(id(piece) not in kept for piece in following.vectors.added) == 1
        index = following


def test_a_long_piece_gets_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_index, "FOLDED", 200)
    vectors = clustered(4_000, 16)
    index = LiveIndex.of(FlatIndex(vectors[:100]))
    for start in range(100, 4_000, 300):
        index = index.extended(vectors[start : start + 300])
    allowed = np.random.default_rng(1).random(4_000) < 0.4
    for mask in (None, allowed):
        assert recall(index, vectors[::200], 20, mask) >= 0.95
    check_honest(index.search(vectors[5], 30, allowed), vectors, vectors[5], 30, allowed)


def test_searches_are_undisturbed_by_growth() -> None:
    index = LiveIndex.of(FlatIndex(VECTORS[:BASE]))
    expected = [index.search(query, 10).items.tolist() for query in VECTORS[:20]]
    done = threading.Event()
    wrong: list[tuple[list[int], list[int]]] = []

    def search() -> None:
        while not done.is_set():
            found = [index.search(query, 10).items.tolist() for query in VECTORS[:20]]
            wrong.extend(pair for pair in zip(found, expected, strict=True) if pair[0] != pair[1])

    searching = threading.Thread(target=search)
    searching.start()
    newest = index
    for start in range(BASE, 600):
        newest = newest.extended(VECTORS[start : start + 1])
    done.set()
    searching.join()
    assert not wrong
    assert newest.search(VECTORS[599], 1).items.tolist() == [599]
