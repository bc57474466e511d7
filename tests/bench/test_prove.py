"""`make prove`: arms that share their encoders, on a made-up shop."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bench.prove import scoring
from bench.prove.arms import ARMS, COUNTED, SOURCES, Fitted, candidates, fit
from bench.prove.proof import Proof, SeedOutcome
from bench.prove.report import Result, write_result
from bench.prove.scoring import ROWS
from bench.prove.verdicts import verdicts
from bench.results.data import HeldBack, split
from bench.results.pieces import Pieces
from offline.blend.sources import RECENCIES
from offline.training import deadline, trainer
from offline.training.deadline import OutOfTime
from tests.bench.shop import shop_config, shop_source
from tests.pipeline.conftest import ITEMS, USERS, write_shop


@pytest.fixture(scope="module", autouse=True)
def small_blocks() -> Iterator[None]:
    """Several blocks of a few questions."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scoring, "BLOCK", 16)
        yield


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shop(tmp_path_factory.mktemp("prove")).root


def make_proof(
    root: Path, out: str = "out", *, orders: str = "orders.csv", seeds: int = 1
) -> Proof:
    source, config = shop_source(root, orders), shop_config(root)
    return Proof(source, "leave-one-out", config, seeds, root / "work", root / out)


@pytest.fixture(scope="module")
def outcome(root: Path) -> SeedOutcome:
    proof = make_proof(root)
    (found,) = proof.outcomes(proof.pieces())
    return found


def test_every_source_and_arm_ranks_every_test_item(outcome: SeedOutcome) -> None:
    assert outcome.ranks.shape == (USERS, len(ROWS), 2)
    assert (outcome.ranks >= 1).all()
    assert (outcome.ranks <= ITEMS).all()
    # What is filtered has fewer items above the target, never more.
    assert (outcome.ranks[:, :, 1] <= outcome.ranks[:, :, 0]).all()


def test_arms_share_their_encoders(root: Path, outcome: SeedOutcome) -> None:
    stages = [path.name.rsplit("-", 1)[0] for path in (root / "work").iterdir()]
    assert stages.count("query-encoder") == 2  # one seed's, and the second of arm C
    assert stages.count("generator") == 2  # with codes, and with random ones
    for stage in ("dataset", "embeddings", "transitions"):
        assert stages.count(stage) == 1


def test_what_is_done_is_not_done_again(
    root: Path, outcome: SeedOutcome, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("this was done before")

    monkeypatch.setattr(trainer, "_Loop", forbidden)
    monkeypatch.setattr(scoring, "read_scorers", forbidden)
    again = make_proof(root)
    (found,) = again.outcomes(again.pieces())
    assert np.array_equal(found.ranks, outcome.ranks)
    assert found.fitted == outcome.fitted


class Clock:
    """Lets so many questions about the time pass, and then says that it is up."""

    def __init__(self, questions: int) -> None:
        self.left = questions

    def check(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise OutOfTime


@pytest.mark.slow
def test_a_run_that_is_interrupted_everywhere_comes_to_the_same(
    root: Path, outcome: SeedOutcome, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = replace(make_proof(root, "other"), work=root / "other-work")
    left, found = [], []
    for questions in range(2, 100, 2):
        clock = Clock(questions)
        monkeypatch.setattr(deadline, "check", clock.check)
        pieces = other.pieces()
        try:
            found = list(other.outcomes(pieces))
            break
        except OutOfTime:
            left.append(pieces.left)
    assert len({pieces[0] for pieces in left}) >= 4
    assert all(pieces for pieces in left)
    assert np.array_equal(found[0].ranks, outcome.ranks)
    assert found[0].fitted == outcome.fitted


def test_no_test_item_has_a_part_in_fitting(root: Path, outcome: SeedOutcome) -> None:
    """Everybody's last order goes to another: models and weights stay, ranks do not."""
    lines = (root / "orders.csv").read_text().splitlines()
    rows = [line.split(",") for line in lines[1:]]
    last = [i for i, row in enumerate(rows) if i + 1 == len(rows) or rows[i + 1][0] != row[0]]
    items = [rows[i][1] for i in last]
    for place, item in zip(last, items[1:] + items[:1], strict=True):
        rows[place][1] = item
    text = "\n".join([lines[0], *map(",".join, rows)])
    (root / "swapped.csv").write_text(text + "\n")
    swapped = make_proof(root, "swapped", orders="swapped.csv")
    (found,) = swapped.outcomes(swapped.pieces())
    assert found.fitted == outcome.fitted
    assert not np.array_equal(found.ranks, outcome.ranks)


def test_rolling_questions_have_true_histories(root: Path) -> None:
    whole = make_proof(root).source.load()
    data = split(make_proof(root).source, "rolling").load()
    held = data.holdout("test")
    assert set(np.bincount(held.users)[np.unique(held.users)]) == {10}
    for user, history, target in zip(held.users, held.histories, held.targets, strict=True):
        everything = whole.history(user)
        assert everything[: len(history)].tolist() == history.tolist()
        assert everything[len(history)] == target
    for user in np.unique(held.users):
        assert len(data.train()[user]) == len(whole.history(user)) - 11


def test_a_split_is_another_data_set(root: Path) -> None:
    source = make_proof(root).source
    assert split(source, "leave-one-out") is source
    held = split(source, "rolling")
    assert isinstance(held, HeldBack)
    assert held.facts() != source.facts()


def test_candidates_are_the_target_and_the_best_unseen_items() -> None:
    rng = np.random.default_rng(0)
    scores = [rng.normal(size=(1, 1000)).astype(np.float32) for _ in range(2)]
    history, target = rng.choice(1000, 50).astype(np.int32), np.array([7], np.int32)
    (found,) = candidates(scores, [history], target)
    assert found[0].tolist() == [own[0, 7] for own in scores]
    expected = {7}
    for own in scores:
        order = [item for item in np.argsort(-own[0]) if item not in history and item != 7]
        expected |= set(order[:200])
    kept = {tuple(row) for row in found.tolist()}
    assert kept == {tuple(float(own[0, item]) for own in scores) for item in expected}


def test_a_source_that_tells_what_comes_next_gets_the_weight() -> None:
    rng = np.random.default_rng(0)
    names = ("query_encoder", *COUNTED, *SOURCES[2:])
    pool = {name: rng.normal(size=(200, 30)).astype(np.float32) for name in names}
    pool["query_encoder"][:, 0] += 1
    pool["generator"][:, 0] += 2
    fitted = fit(pool)
    assert fitted.weights["B"]["generator"] > 1
    assert fitted.weights["D"]["random_codes"] < 0.3
    assert {arm: tuple(own) for arm, own in fitted.weights.items()} == ARMS


def test_an_arm_is_the_weighted_sum_of_its_sources() -> None:
    fitted = Fitted(RECENCIES[0], {"B": {"query_encoder": 1.0, "transitions": 0.0, "generator": 2}})
    scores = {
        "query_encoder": np.array([[1, 2]], np.float32),
        "transitions": np.array([[5, 5]], np.float32),
        "generator": np.array([[3, 4]], np.float32),
    }
    assert fitted.blend(scores, "B").tolist() == [[7, 10]]


def made_up(seed: int, better: str | None, by: int = 1) -> SeedOutcome:
    """Every arm finds the target at place 3, and one of them higher or lower."""
    ranks = np.full((50, len(ROWS), 2), 3, np.float32)
    if better is not None:
        ranks[:, ROWS.index(better)] -= by
    return SeedOutcome(seed, Fitted(RECENCIES[0], {}), np.arange(50, dtype=np.int32), ranks)


def test_verdicts_say_what_was_found() -> None:
    def sentences(*outcomes: SeedOutcome) -> dict[str, str]:
        return {verdict.claim.name: str(verdict) for verdict in verdicts(outcomes)}

    found = sentences(made_up(0, "B"), made_up(1, "B"))
    # A rank of 2 instead of 3: 1 / log2(3) - 1 / log2(4) = .1309.
    figure = "+.1309 NDCG@10 (95% +.1309 to +.1309, all above 0)."
    assert found["B − A"] == f"Shown: the generator helps. B − A is {figure}"
    assert found["B − C"].startswith("Shown: it helps because it is generative")
    assert found["C − A"].startswith("Not shown: a second query encoder helps.")
    assert "which holds 0" in found["C − A"]
    found = sentences(made_up(0, "C"), made_up(1, "C"))
    assert found["B − A"].startswith("Not shown: ")
    assert found["B − C"].startswith("Not shown, but the opposite: it helps because")
    # One seed for it and one against it is nothing.
    found = sentences(made_up(0, "B"), made_up(1, "B", by=-2))
    assert found["B − A"].startswith("Not shown: ")


def test_the_page_and_the_json_say_everything(
    root: Path, outcome: SeedOutcome, tmp_path: Path
) -> None:
    made = make_proof(root)
    result = Result.of(made, [outcome], {"data": 1.5})
    write_result(result, tmp_path / "made.json", tmp_path / "shop.md", "make prove")
    page = (tmp_path / "shop.md").read_text()
    for said in ("make prove", "shown", "| B − C |", "| generator |", "git_revision", "cores"):
        assert said.lower() in page.lower()
    (row,) = (line for line in page.splitlines() if line.startswith("| B − C |"))
    assert row.count("|") == 4
    assert all(cell.count("to") == 1 for cell in row.split("|")[2:4])
    assert (tmp_path / "shop.md").with_suffix(".json").is_file()
    assert str(root) not in page + (tmp_path / "made.json").read_text()


def test_seconds_add_up_over_sittings(tmp_path: Path) -> None:
    def sitting(fails: bool) -> Iterator[Pieces]:
        pieces = Pieces(tmp_path / "seconds.json", ("one", "two"))
        with pieces.piece("one"):
            yield pieces
            if fails:
                raise OutOfTime

    first = sitting(fails=True)
    pieces = next(first)
    with pytest.raises(OutOfTime):
        next(first)
    assert pieces.left == ["one", "two"]
    (pieces,) = sitting(fails=False)
    assert pieces.left == ["two"]
    assert pieces.seconds().keys() == {"one"}
