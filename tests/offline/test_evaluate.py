"""Agreement of lists, samples, and nearest items; the rows are tested on a whole bundle."""

import asyncio
import io
from pathlib import Path

import numpy as np
import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from cli.evaluate import _count
from core.bundle import Bundle, write_bundle
from offline.evaluate.agreement import Agreement, are_equal
from offline.evaluate.in_process import _Runs
from offline.evaluate.parts import _best
from offline.evaluate.protocol import (
    DEPTH,
    WHOLE,
    Question,
    RankedList,
    Split,
    questions,
    row,
    sample,
)
from offline.evaluate.report import Report, print_report
from offline.metrics import measure
from services.generator.decoding.engine import (
    GeneratorEngine,
    RankingAnswer,
    RankingQuery,
    UserContext,
)
from tests.tiny_bundle import manifest, write_files


def ranked(*pairs: tuple[int, float]) -> RankedList:
    items, scores = zip(*pairs, strict=True) if pairs else ((), ())
    return RankedList(np.array(items, np.int32), np.array(scores, np.float64))


LIST = ranked((7, -1.0), (2, -2.0), (5, -2.00001), (9, -3.0))


@pytest.mark.parametrize(
    ("other", "equal"),
    [
        (LIST, True),
        (ranked((7, -1.00001), (5, -2.0), (2, -2.00002), (9, -3.0)), True),  # a tie but for noise
        (ranked((7, -1.0), (2, -2.0), (5, -2.00001), (4, -3.00001)), True),  # on the edge
        (ranked((7, -1.0), (2, -2.0), (5, -2.00001)), False),
        (ranked((7, -1.0), (2, -2.001), (5, -2.00001), (9, -3.0)), False),
        (ranked((2, -2.0), (5, -2.00001), (9, -3.0), (4, -3.0)), False),  # 7 is no edge
        (ranked(), False),
    ],
)
def test_lists_are_equal_but_for_ties_within_noise(other: RankedList, equal: bool) -> None:
    assert are_equal(LIST, other) is equal
    assert are_equal(other, LIST) is equal


def test_empty_lists_are_equal() -> None:
    assert are_equal(ranked(), ranked())


def test_agreement_counts_the_lists_of_both_rankings() -> None:
    agreement = Agreement.of(
        {"filtered": [LIST, LIST], "unfiltered": [ranked()]},
        {"unfiltered": [LIST], "filtered": [LIST, LIST], },
    )  # fmt: skip
    assert (agreement.lists, agreement.equal) == (3, 2)
    assert agreement.to_json() == {
        "lists": 3, "equal": 2, "share": pytest.approx(2 / 3), "tolerance": 1e-4,
    }  # fmt: skip
    assert Agreement(0, 0).share == 1.0


def test_a_sample_is_seeded_ascending_and_at_most_everybody() -> None:
    asked = [Question(user, str(user), np.zeros(1, np.int32), 0) for user in range(50)]
    some = sample(asked, 10)
    assert some == sample(asked, 10) == sorted(set(some))
    assert len(some) == 10
    assert some != sample(asked, 10, seed=1)
    assert sample(asked, None) == sample(asked, 50) == sample(asked, 99) == list(range(50))


def test_questions_are_those_of_the_dataset_split(tmp_path: Path) -> None:
    with write_bundle(tmp_path, manifest()) as directory:
        write_files(directory, {"ann": [3, 1, 4, 1, 5], "bob": [2, 7, 1], "cid": []})
    bundle = Bundle.open(tmp_path / "tiny" / "current")

    def asked(split: Split, tested: int = 1) -> list[tuple[str, list[int], int]]:
        found = questions(bundle, split, tested)
        return [(q.user_id, q.history.tolist(), q.target) for q in found]

    assert asked("test") == [("ann", [3, 1, 4, 1], 5), ("bob", [2, 7], 1)]
    assert asked("validation") == [("ann", [3, 1, 4], 1), ("bob", [2], 7)]
    assert asked("test", tested=2) == [("ann", [3, 1, 4], 1), ("ann", [3, 1, 4, 1], 5)]
    assert asked("validation", tested=2) == [("ann", [3, 1], 4)]
    assert asked("test", tested=4) == []


@given(st.integers(0, 500), st.integers(1, 60), st.integers(0, 9))
def test_the_best_items_are_those_of_a_sort(items: int, values: int, seed: int) -> None:
    scores = np.random.default_rng(seed).integers(values, size=items).astype(np.float32)
    scores[::7] = -np.inf
    expected = [i for i in np.argsort(-scores, kind="stable") if scores[i] > -np.inf][:DEPTH]
    assert _best(scores).tolist() == expected


def test_numbers_of_served_users() -> None:
    assert [_count(text) for text in ("7", "0", "all")] == [7, None, None]
    for text in ("none", "-3", "1.5"):
        with pytest.raises(typer.BadParameter, match="a number or all"):
            _count(text)


class FakeEngine(GeneratorEngine):
    """Notes how many are asked together."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def answer(self, queries: list[RankingQuery]) -> list[RankingAnswer]:  # type: ignore[override]
        self.sizes.append(len(queries))
        if any(query.context.user == 13 for query in queries):
            raise RuntimeError("no such luck")
        return [RankingAnswer(None, None) for _ in queries]


def test_what_is_asked_in_one_turn_is_answered_together() -> None:
    engine = FakeEngine()
    runs = _Runs(engine)

    async def ask(users: list[int]) -> list[RankingAnswer | BaseException]:
        queries = [RankingQuery(UserContext(user, np.zeros(1, np.int32))) for user in users]
        answers = (runs.answer(query) for query in queries)
        return await asyncio.gather(*answers, return_exceptions=True)

    async def twice() -> None:
        assert await ask([1, 2, 3]) == [RankingAnswer(None, None)] * 3
        assert [str(error) for error in await ask([4, 13])] == ["no such luck"] * 2

    asyncio.run(twice())
    assert engine.sizes == [3, 2]


def test_lists_that_are_cut_have_no_mrr() -> None:
    """A target beyond the end of a list would count as if it stood infinitely far down."""
    asked = [Question(0, "u", np.array([1], np.int32), 2)]
    of_lists = row("pipeline", "filtered", asked, [np.array([2, 3], np.int32)])
    assert set(of_lists.metrics) == {"hr@5", "ndcg@5", "hr@10", "ndcg@10"}
    whole = measure("popularity", "filtered", np.array([2.0]), WHOLE)
    report = Report("b/1", "shop", "test", [whole, of_lists], Agreement(0, 0))
    console = Console(width=110, file=io.StringIO(), force_terminal=True)
    print_report(report, console)
    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().splitlines()
    (first,) = [line for line in lines if "popularity" in line]
    (second,) = [line for line in lines if "pipeline " in line]
    assert ".5000" in first
    assert second.rstrip().endswith("–")
