"""Several lists from one reading of a prompt, beside searching for one after the other."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from services.generator.decoding import searching
from services.generator.decoding.engine import Generation, RankingQuery, UserContext
from tests.generator.made_up import Served

NONE = np.empty(0, np.int32)
QUICK = settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])


def random_context(rng: np.random.Generator, items: int) -> UserContext:
    return UserContext(None, rng.integers(0, items, 6).astype(np.int32))


def rows_of(
    served: Served, context: UserContext, rows: Sequence[Generation], *, apart: bool = True
) -> list[list[int]]:
    (answer,) = served.engine.answer([RankingQuery(context, rows=tuple(rows), apart=apart)])
    assert all((np.diff(ranked.scores) <= 0).all() for ranked in answer.lists)
    return [ranked.items.tolist() for ranked in answer.lists]


def one_after_the_other(
    scores: NDArray[np.float32], rows: Sequence[Generation], *, apart: bool
) -> list[list[int]]:
    """The definition, over the score of every item."""
    shown: list[int] = []
    lists = []
    for row in rows:
        left = np.ones(len(scores), np.bool_) if row.allowed is None else row.allowed.copy()
        left[row.denied] = False
        left[shown if apart else []] = False
        best = np.argsort(np.where(left, -scores, np.inf), kind="stable")
        lists.append(best[: min(row.count, left.sum())].tolist())
        shown += lists[-1]
    return lists


@st.composite
def pages(draw: st.DrawFn, items: int) -> tuple[UserContext, list[Generation]]:
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    rows = []
    for _ in range(draw(st.integers(1, 6))):
        share = draw(st.sampled_from([0.0, 0.02, 0.1, 0.5, 1.0]))
        allowed = rng.random(items) < share if draw(st.booleans()) else None
        denied = rng.integers(0, items, draw(st.integers(0, 100))).astype(np.int32)
        rows.append(Generation(draw(st.integers(1, 30)), allowed, denied))
    return random_context(rng, items), rows


@QUICK
@given(data=st.data(), apart=st.booleans())
def test_rows_are_the_best_items_that_no_row_before_shows(
    served: Served, data: st.DataObject, apart: bool
) -> None:
    """With a beam for every item nothing is pruned, so rows are those of the brute force."""
    context, rows = data.draw(pages(served.items))
    rows = [*rows, Generation(served.items, np.zeros(served.items, np.bool_), NONE)]
    found = rows_of(served, context, rows, apart=apart)
    scores = served.exact(context)
    for mine, best in zip(found, one_after_the_other(scores, rows, apart=apart), strict=True):
        assert len(mine) == len(best)
        np.testing.assert_allclose(scores[mine], scores[best], atol=1e-4)
    if apart:
        shown = [item for row in found for item in row]
        assert len(set(shown)) == len(shown)


@QUICK
@given(data=st.data())
def test_repeated_rows_are_the_lists_of_calls_alone(served: Served, data: st.DataObject) -> None:
    context, rows = data.draw(pages(served.items))
    longest = max(row.count for row in rows)
    alone = served.engine.generate(
        [RankingQuery(context, Generation(longest, r.allowed, r.denied)) for r in rows]
    )
    for mine, ranked, row in zip(
        rows_of(served, context, rows, apart=False), alone, rows, strict=True
    ):
        assert mine == ranked.items[: row.count].tolist()


@QUICK
@given(data=st.data())
def test_no_row_is_shorter_than_it_may_be(served: Served, data: st.DataObject) -> None:
    context, rows = data.draw(pages(served.items))
    shown: set[int] = set()
    for mine, row in zip(rows_of(served, context, rows), rows, strict=True):
        left = np.ones(served.items, np.bool_) if row.allowed is None else row.allowed.copy()
        left[row.denied] = False
        allowed = set(np.flatnonzero(left).tolist()) - shown
        assert set(mine) <= allowed
        assert len(mine) == min(row.count, len(allowed))
        shown |= set(mine)


def test_a_row_is_its_search_without_what_is_shown(served: Served) -> None:
    """Where enough of it is left, one search makes all rows."""
    context = random_context(np.random.default_rng(1), served.items)
    first, second = rows_of(served, context, [Generation(8, None, NONE), Generation(9, None, NONE)])
    (whole,) = served.engine.generate([RankingQuery(context, Generation(20, None, NONE))])
    assert first == whole.items[:8].tolist()
    assert second == whole.items[8:17].tolist()


def test_many_beams_are_searched_in_parts(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    context = random_context(np.random.default_rng(2), served.items)
    rows = [Generation(7, np.arange(served.items) % 5 == i, NONE) for i in range(5)]
    whole = rows_of(served, context, rows)
    monkeypatch.setattr(searching, "MOST_BEAMS", 45)
    assert rows_of(served, context, rows) == whole
