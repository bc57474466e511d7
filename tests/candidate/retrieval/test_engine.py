"""The engine against brute force over the whole catalog in numpy."""

import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.catalog import Mask
from core.errors import InvalidArgument
from core.mmr import most_marginal
from services.candidate.index.flat import Neighbors
from services.candidate.index.space import SpaceName
from services.candidate.retrieval import fusion
from services.candidate.retrieval.shortlist import Basis, Shortlist, SourceWeights
from services.candidate.retrieval.similarity import NEAREST, SimilarityOptions
from services.candidate.retrieval.transitions import SMOOTHING
from tests.candidate.made_up import (
    BEHAVIOR,
    CONTENT,
    LetterTextEncoder,
    MeanQueryEncoder,
    World,
    make_world,
    positions,
)

ITEMS = 30
WORLD = make_world(items=ITEMS)
SOURCES = (
    SourceWeights(behavior=0.9, transitions=0.4),
    SourceWeights(behavior=0.9, transitions=0.0),
    SourceWeights(behavior=0.0, transitions=0.4),
    SourceWeights(behavior=0.7, transitions=0.3, content=2.0, popularity=0.5),
    SourceWeights(behavior=0.0, transitions=0.0, content=1.0),
    SourceWeights(behavior=0.1, transitions=0.0, popularity=3.0),
)
WORLDS = [make_world(items=ITEMS, weights=weights) for weights in SOURCES]
Floats = np.ndarray[Any, np.dtype[np.float64]]

item_lists = st.lists(st.integers(0, ITEMS - 1), max_size=12)
masks = st.none() | st.lists(st.booleans(), min_size=ITEMS, max_size=ITEMS).map(np.array)
counts = st.integers(1, ITEMS + 5)
finite = st.floats(allow_nan=False, allow_infinity=False, width=32)
spaces = st.sampled_from(SpaceName)


def blended_scores(world: World, history: list[int]) -> Floats:
    """The retrieval score of every item, from the definition."""
    query = MeanQueryEncoder().encode(world.behavior[history[-world.max_history :]])
    table, mass = world.transitions, np.zeros(world.items)
    for steps_back, item in enumerate(reversed(history[-table.window :])):
        row = slice(table.indptr[item], table.indptr[item + 1])
        mass[table.items[row]] += table.decay**steps_back * table.weights[row]
    probability = mass / mass.sum() if mass.any() else mass
    transition = np.log((1 - SMOOTHING) * probability + SMOOTHING / world.items)
    weights = world.weights
    result: Floats = weights.behavior * world.behavior.astype(np.float64) @ query
    result += weights.transitions * transition
    result += weights.content * content_scores(world, history)
    return result + weights.popularity * log_popularity(world)


def content_scores(world: World, history: list[int]) -> Floats:
    return cosines(world.content, world.content[history[-world.transitions.window :]].mean(axis=0))


def log_popularity(world: World) -> Floats:
    shares: Floats = (world.popularity + 1) / (world.popularity + 1).sum()
    return np.log(shares)


def check(found: Shortlist | Neighbors, exact: Floats, qualified: Mask, count: int) -> None:
    """The list is full, legal, sorted, scored right, and nothing better was left out."""
    assert len(found.items) == min(count, int(qualified.sum()))
    assert len(set(found.items.tolist())) == len(found.items)
    assert qualified[found.items].all()
    np.testing.assert_allclose(found.scores, exact[found.items], atol=1e-5)
    best = np.sort(exact[qualified])[::-1][: len(found.items)]
    np.testing.assert_allclose(found.scores, best, atol=1e-5)
    assert (np.diff(found.scores) <= 0).all()


def qualified_items(allowed: Mask | None, *left_out: list[int]) -> Mask:
    mask = np.ones(ITEMS, np.bool_) if allowed is None else allowed.copy()
    for items in left_out:
        mask[items] = False
    return mask


known = item_lists.filter(lambda items: any(WORLD.popularity[i] for i in items))


@settings(deadline=None)
@given(st.sampled_from(WORLDS), known, counts, masks, item_lists, st.booleans(), st.booleans())
def test_search_is_the_blend_over_the_whole_catalog(
    world: World,
    history: list[int],
    count: int,
    allowed: Mask | None,
    excluded: list[int],
    include_seen: bool,
    scored_in_part: bool,
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        if scored_in_part:
            patch.setattr(fusion, "SMALL", 0)
        found = world.engine.search(
            positions(*history),
            count,
            allowed=allowed,
            excluded=positions(*excluded),
            include_seen=include_seen,
        )
    qualified = qualified_items(allowed, excluded, [] if include_seen else history)
    check(found, blended_scores(world, history), qualified, count)
    assert found.basis is Basis.HISTORY


@settings(deadline=None)
@given(counts, masks, item_lists)
def test_without_history_popularity_decides(
    count: int, allowed: Mask | None, excluded: list[int]
) -> None:
    found = WORLD.engine.search(positions(), count, allowed=allowed, excluded=positions(*excluded))
    check(found, log_popularity(WORLD), qualified_items(allowed, excluded), count)
    assert found.basis is Basis.POPULARITY


UNKNOWN = np.flatnonzero(WORLD.popularity == 0).tolist()


@settings(deadline=None)
@given(st.lists(st.sampled_from(UNKNOWN), min_size=1, max_size=9), counts, masks)
def test_a_history_that_nobody_else_has_is_read_by_content(
    history: list[int], count: int, allowed: Mask | None
) -> None:
    found = WORLD.engine.search(positions(*history), count, allowed=allowed)
    check(found, content_scores(WORLD, history), qualified_items(allowed, history), count)
    assert found.basis is Basis.CONTENT


def test_only_the_newest_items_of_a_history_count() -> None:
    tail = list(range(WORLD.max_history))
    whole = WORLD.engine.search(positions(20, 21, *tail), 5, excluded=positions(20, 21))
    newest = WORLD.engine.search(positions(*tail), 5, excluded=positions(20, 21))
    assert whole.items.tolist() == newest.items.tolist()


@settings(deadline=None)
@given(item_lists.filter(bool), counts, spaces, masks, item_lists)
def test_similar_to_items_is_the_cosine_to_their_mean(
    items: list[int], count: int, space: SpaceName, allowed: Mask | None, excluded: list[int]
) -> None:
    found = WORLD.engine.similar_to_items(
        positions(*items), count, space, allowed=allowed, excluded=positions(*excluded)
    )
    vectors = WORLD.content if space is SpaceName.CONTENT else WORLD.behavior
    exact = cosines(vectors, vectors[items].mean(axis=0))
    check(found, exact, qualified_items(allowed, excluded, items), count)


@settings(deadline=None)
@given(item_lists.filter(bool), counts, spaces, masks, st.floats(-1, 1), st.floats(0, 1))
def test_a_taste_takes_among_the_nearest(
    items: list[int],
    count: int,
    space: SpaceName,
    allowed: Mask | None,
    min_score: float,
    diversity: float,
) -> None:
    def similar(wanted: int, options: SimilarityOptions = NEAREST) -> Neighbors:
        return WORLD.engine.similar_to_items(
            positions(*items), wanted, space, allowed=allowed, options=options
        )

    found = similar(count, SimilarityOptions(min_score, diversity))
    pool = similar(4 * count if diversity else count)
    pool = pool.picked(pool.scores >= min_score)
    vectors = WORLD.engine.vectors(space)[pool.items]
    expected = pool.picked(
        most_marginal(pool.scores, count, diversity, lambda place: vectors @ vectors[place])
    )
    assert found.items.tolist() == expected.items.tolist()
    assert found.scores.tolist() == expected.scores.tolist()


@settings(deadline=None)
@given(
    st.lists(finite, min_size=CONTENT, max_size=CONTENT).filter(any),
    counts,
    masks,
)
def test_similar_to_a_vector_ignores_its_length(
    values: list[float], count: int, allowed: Mask | None
) -> None:
    vector = np.array(values, dtype=np.float32)
    found = WORLD.engine.similar_to_vector(vector, count, allowed=allowed)
    check(found, cosines(WORLD.content, vector), qualified_items(allowed), count)


def test_similar_to_a_text() -> None:
    found = WORLD.engine.similar_to_text("a film", 4, excluded=positions(3))
    exact = cosines(WORLD.content, LetterTextEncoder().encode("a film"))
    check(found, exact, qualified_items(None, [3]), 4)


def cosines(vectors: np.ndarray[Any, Any], query: np.ndarray[Any, Any]) -> Floats:
    wide = query.astype(np.float64)
    result: Floats = vectors.astype(np.float64) @ (wide / np.linalg.norm(wide))
    return result


def test_opposite_items_have_no_direction_and_no_error() -> None:
    world = make_world(items=4)
    world.content[1] = -world.content[0]
    found = world.engine.similar_to_items(positions(0, 1), 2)
    assert found.scores.tolist() == [0.0, 0.0]


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ([], "WRONG_DIMENSION"),
        ([1.0] * (BEHAVIOR + 1), "WRONG_DIMENSION"),
        ([1.0] * 1_000_000, "WRONG_DIMENSION"),
        ([0.0] * BEHAVIOR, "ZERO_VECTOR"),
        ([1.0, float("nan"), 0.0, 0.0], "NOT_FINITE"),
        ([1.0, float("inf"), 0.0, 0.0], "NOT_FINITE"),
    ],
)
def test_bad_vectors(values: list[float], reason: str) -> None:
    with pytest.raises(InvalidArgument) as error:
        WORLD.engine.similar_to_vector(np.array(values, np.float32), 3, SpaceName.BEHAVIOR)
    assert error.value.reason == reason


def test_arguments_are_left_as_they_are() -> None:
    allowed = np.ones(ITEMS, np.bool_)
    WORLD.engine.search(positions(1, 2), 5, allowed=allowed, excluded=positions(7))
    assert allowed.all()


def test_threads_do_not_disturb_each_other() -> None:
    histories = [positions(i, (i * 7) % ITEMS) for i in range(ITEMS)]
    half = np.arange(ITEMS) % 2 == 0
    expected = [WORLD.engine.search(h, 10, allowed=half).items.tolist() for h in histories]
    results: dict[int, list[list[int]]] = {}

    def work(name: int) -> None:
        results[name] = [WORLD.engine.search(h, 10, allowed=half).items.tolist() for h in histories]

    threads = [threading.Thread(target=work, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(results[name] == expected for name in range(4))
