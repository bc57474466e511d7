"""The flat index against numpy, its filter, and its file."""

from collections.abc import Callable
from pathlib import Path

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.errors import BundleError
from services.candidate.index import FlatIndex, VectorIndex
from tests.candidate.made_up import unit

RNG = np.random.default_rng(0)
VECTORS = unit(RNG.normal(size=(70, 5)).astype(np.float32))

KINDS: dict[str, Callable[[], VectorIndex]] = {"flat": lambda: FlatIndex.build(VECTORS)}


@pytest.fixture(scope="module", params=KINDS)
def index(request: pytest.FixtureRequest) -> VectorIndex:
    return KINDS[request.param]()


@settings(deadline=None)
@given(
    query=st.lists(st.floats(-2, 2, width=32), min_size=5, max_size=5),
    count=st.integers(0, 90),
    allowed=st.none() | st.lists(st.booleans(), min_size=70, max_size=70),
)
def test_finds_the_best_allowed(
    index: VectorIndex, query: list[float], count: int, allowed: list[bool] | None
) -> None:
    vector = np.array(query, dtype=np.float32)
    mask = None if allowed is None else np.array(allowed)
    found = index.search(vector, count, mask)
    exact = VECTORS.astype(np.float64) @ vector
    candidates = np.arange(70) if mask is None else np.flatnonzero(mask)
    assert len(found.items) == min(count, len(candidates))
    assert set(found.items) <= set(candidates), "nothing that is not allowed"
    assert len(set(found.items)) == len(found.items)
    np.testing.assert_allclose(found.scores, exact[found.items], atol=1e-5)
    best = np.sort(exact[candidates])[::-1][: len(found.items)]
    np.testing.assert_allclose(found.scores, best, atol=1e-5)
    assert (np.diff(found.scores) <= 0).all()


def test_equal_scores_come_by_position() -> None:
    twins = np.tile(VECTORS[:1], (6, 1))
    found = FlatIndex.build(twins).search(VECTORS[0], 6)
    assert found.items.tolist() == [0, 1, 2, 3, 4, 5]


def test_length_and_dimension(index: VectorIndex) -> None:
    assert (len(index), index.dimension) == (70, 5)


def test_survives_its_file(tmp_path: Path) -> None:
    FlatIndex.build(VECTORS).write(tmp_path / "x.faiss")
    again = FlatIndex.read(tmp_path / "x.faiss").search(VECTORS[3], 1)
    assert again.items.tolist() == [3]


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text.faiss").write_text("not an index at all", encoding="utf-8")
    with pytest.raises(BundleError, match="not a FAISS index"):
        FlatIndex.read(tmp_path / "text.faiss")
    l2 = faiss.IndexFlatL2(5)
    faiss.write_index(l2, str(tmp_path / "l2.faiss"))
    with pytest.raises(BundleError, match="not a flat inner product"):
        FlatIndex.read(tmp_path / "l2.faiss")
