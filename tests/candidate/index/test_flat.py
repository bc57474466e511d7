"""Every kind of index against numpy, with filters, over files, and as they grow."""

from collections.abc import Callable
from pathlib import Path

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import BundleError
from services.candidate.index import hnsw, ivf
from services.candidate.index.approximate import ApproximateIndex
from services.candidate.index.flat import FlatIndex, Vector, VectorIndex
from services.candidate.index.hnsw import HnswIndex
from services.candidate.index.ivf import IvfIndex
from tests.candidate.kinds import (
    APPROXIMATE,
    EXACT,
    Build,
    check_best,
    check_honest,
    clustered,
    recall,
)

ITEMS, DIMENSION = 90, 5
VECTORS = clustered(ITEMS, DIMENSION)
MANY = clustered(3_000, 16)
QUERIES = clustered(3_000, 16)[::100] + np.float32(0.01)

queries = st.lists(st.floats(-2, 2, width=32), min_size=DIMENSION, max_size=DIMENSION)
counts = st.integers(0, ITEMS + 10)
masks = st.none() | st.lists(st.booleans(), min_size=ITEMS, max_size=ITEMS)


@pytest.fixture(scope="module", params=EXACT)
def exact(request: pytest.FixtureRequest) -> VectorIndex:
    return EXACT[request.param](VECTORS)


@pytest.fixture(scope="module", params=APPROXIMATE)
def approximate(request: pytest.FixtureRequest) -> VectorIndex:
    return APPROXIMATE[request.param](VECTORS)


@pytest.fixture(scope="module", params=APPROXIMATE)
def large(request: pytest.FixtureRequest) -> VectorIndex:
    return APPROXIMATE[request.param](MANY)


@pytest.fixture
def always_faiss(monkeypatch: pytest.MonkeyPatch) -> None:
    """However few items are allowed, FAISS is asked first."""
    for kind in (HnswIndex, IvfIndex):
        monkeypatch.setattr(kind, "_cost", lambda *_: 0.0)


@settings(deadline=None)
@given(query=queries, count=counts, allowed=masks)
def test_an_exact_kind_finds_the_best_allowed(
    exact: VectorIndex, query: list[float], count: int, allowed: list[bool] | None
) -> None:
    vector = np.array(query, dtype=np.float32)
    mask = None if allowed is None else np.array(allowed)
    found = exact.search(vector, count, mask)
    check_honest(found, VECTORS, vector, count, mask)
    check_best(found, VECTORS, vector, count, mask)


@settings(deadline=None)
@given(query=queries, count=counts, allowed=masks, by_faiss=st.booleans())
def test_an_approximate_kind_is_honest_and_full(
    approximate: VectorIndex,
    query: list[float],
    count: int,
    allowed: list[bool] | None,
    by_faiss: bool,
) -> None:
    vector = np.array(query, dtype=np.float32)
    mask = None if allowed is None else np.array(allowed)
    with pytest.MonkeyPatch.context() as patch:
        for kind in (HnswIndex, IvfIndex) if by_faiss else ():
            patch.setattr(kind, "_cost", lambda *_: 0.0)
        found = approximate.search(vector, count, mask)
    check_honest(found, VECTORS, vector, count, mask)


@pytest.mark.usefixtures("always_faiss")
@pytest.mark.parametrize("share", [1.0, 0.5, 0.1, 0.01])
def test_most_of_the_best_are_found(large: VectorIndex, share: float) -> None:
    allowed = np.random.default_rng(1).random(len(MANY)) < share
    assert recall(large, QUERIES, 20, allowed) >= 0.95


@pytest.mark.usefixtures("always_faiss")
def test_a_filter_far_from_the_query_still_fills_the_list(large: VectorIndex) -> None:
    query = QUERIES[0]
    allowed = np.zeros(len(MANY), np.bool_)
    allowed[np.argsort(MANY @ query)[:50]] = True
    found = large.search(query, 50, allowed)
    check_honest(found, MANY, query, 50, allowed)
    check_best(found, MANY, query, 50, allowed)


@pytest.mark.parametrize("kind", [HnswIndex, IvfIndex])
def test_a_filter_that_shuts_out_the_neighborhood_costs_little_of_the_best(
    kind: type[HnswIndex | IvfIndex], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hnsw, "STEP", 1)  # so that looking far is cheap, and comparing is not
    index, shares = kind.build(MANY), []
    for query in QUERIES:
        allowed = np.ones(len(MANY), np.bool_)
        allowed[np.argsort(-(MANY @ query))[:300]] = False
        check_honest(index.search(query, 20, allowed), MANY, query, 20, allowed)
        shares.append(recall(index, query[None], 20, allowed))
    assert np.mean(shares) >= 0.9


def test_few_allowed_items_are_compared_exactly(large: VectorIndex) -> None:
    allowed = np.random.default_rng(1).random(len(MANY)) < 0.05
    assert recall(large, QUERIES, 20, allowed) == 1.0


@pytest.mark.parametrize("build", [HnswIndex.build, IvfIndex.build])
def test_what_a_search_looks_at_grows_with_what_is_wanted(
    build: Callable[[Vector], ApproximateIndex], monkeypatch: pytest.MonkeyPatch
) -> None:
    index = build(MANY)
    costs = [index._cost(100, share) for share in (1.0, 0.5, 0.1)]
    assert costs == sorted(costs)
    monkeypatch.setattr(hnsw, "STEP", 1e9)
    monkeypatch.setattr(ivf, "NUMBERS_PER_BYTE", 1e-9)
    assert recall(index, QUERIES, 20) == 1.0, "where it is cheaper, all are compared"


def test_equal_scores_come_by_position() -> None:
    twins = np.tile(VECTORS[:1], (6, 1))
    found = FlatIndex(twins).search(VECTORS[0], 4, np.array([True, False, True, True, True, True]))
    assert found.items.tolist() == [0, 2, 3, 4]


@pytest.mark.parametrize("build", [*EXACT.values(), *APPROXIMATE.values()])
def test_length_dimension_and_vectors(build: Build) -> None:
    index = build(VECTORS)
    assert (len(index), index.dimension) == (ITEMS, DIMENSION)
    np.testing.assert_array_equal(index.vectors.whole(), VECTORS)
    order = np.random.default_rng(2).permutation(ITEMS).astype(np.int32)
    np.testing.assert_array_equal(index.vectors.take(order), VECTORS[order])


@pytest.mark.parametrize("kind", [HnswIndex, IvfIndex])
def test_survives_its_file(tmp_path: Path, kind: type[HnswIndex | IvfIndex]) -> None:
    taken: list[int] = []
    built = kind.build(MANY, advance=taken.append)
    assert sum(taken) == len(MANY)
    built.write(tmp_path / "x.faiss")
    again = kind.read(tmp_path / "x.faiss", MANY)
    for query in QUERIES:
        before, after = built.search(query, 20), again.search(query, 20)
        assert before.items.tolist() == after.items.tolist()


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text.faiss").write_text("not an index at all", encoding="utf-8")
    with pytest.raises(BundleError, match="not a FAISS index"):
        HnswIndex.read(tmp_path / "text.faiss", VECTORS)
    with pytest.raises(BundleError, match="not a FAISS index"):
        HnswIndex.read(tmp_path / "none.faiss", VECTORS)
    faiss.write_index(faiss.IndexFlatIP(5), str(tmp_path / "flat.faiss"))
    with pytest.raises(BundleError, match="not ivfpq"):
        IvfIndex.read(tmp_path / "flat.faiss", VECTORS)
    HnswIndex.build(VECTORS).write(tmp_path / "x.faiss")
    with pytest.raises(BundleError, match="holds 90 vectors of 5 numbers"):
        HnswIndex.read(tmp_path / "x.faiss", VECTORS[1:])
