"""`python -m bench.enrich`: ranks against a brute force, and the command on a made-up shop."""

from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from sklearn.linear_model import RidgeCV
from typer.testing import CliRunner

from bench.enrich.__main__ import app
from bench.enrich.arms import Arm
from bench.enrich.measures import cold_ranks, compare, embedding_ranks, some
from offline.dataset import Dataset, Item
from tests.pipeline.conftest import write_shop

ITEMS = 12


class Mean:
    """A query encoder: the mean of a history."""

    def encode_batch(self, histories: list[np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
        return np.stack([history.mean(axis=0) for history in histories])


@pytest.fixture
def arm() -> Arm:
    rng = np.random.default_rng(0)
    items = tuple(Item(str(n), f"item {n}", f"item {n}", {}) for n in range(ITEMS))
    bought = np.concatenate([rng.permutation(ITEMS)[:6] for _ in range(20)]).astype(np.int32)
    data = Dataset(
        "shop",
        items,
        tuple(map(str, range(20))),
        np.arange(0, 121, 6, dtype=np.int64),
        bought,
        np.arange(120, dtype=np.int64),
    )
    content, behavior = (rng.standard_normal((ITEMS, 5)).astype(np.float32) for _ in range(2))
    content, behavior = (
        values / np.linalg.norm(values, axis=1, keepdims=True) for values in (content, behavior)
    )
    return Arm(data, content, behavior, cast(Any, Mean()))


def rank(scores: np.ndarray[Any, Any], history: np.ndarray[Any, Any], target: int) -> int:
    rivals = [n for n in range(ITEMS) if n != target and n not in history]
    return 1 + int(sum(scores[n] >= scores[target] for n in rivals))


def test_embedding_ranks_are_those_of_cosines(arm: Arm) -> None:
    asked = arm.data.holdout("test")
    expected = [
        rank(arm.content @ arm.content[history[-10:]].mean(axis=0), history, target)
        for history, target in zip(asked.histories, asked.targets, strict=True)
    ]
    assert embedding_ranks(arm, asked).tolist() == expected


def test_cold_items_are_placed_without_their_own_vectors(arm: Arm) -> None:
    left_out = np.array([1, 4, 7], np.int32)
    whole = arm.data.holdout("test")
    asked = some(whole, np.flatnonzero(np.isin(whole.targets, left_out)))
    ranks = cold_ranks(arm, asked, left_out, folds=3)
    weights = arm.data.popularity() + 1.0
    for at, (history, target) in enumerate(zip(asked.histories, asked.targets, strict=True)):
        rest = [n for n in range(ITEMS) if n != target]
        ridge = RidgeCV(alphas=np.logspace(-2, 3, 11))
        share = weights[rest] / weights[rest].mean()
        ridge.fit(arm.content[rest].astype(float), arm.behavior[rest], sample_weight=share)
        placed = arm.behavior.copy()
        vector = ridge.predict(arm.content[[target]])[0]
        placed[target] = vector / np.linalg.norm(vector)
        scores = placed @ arm.behavior[history].mean(axis=0)
        assert ranks[at] == rank(scores, history, target)
    # What an item's own vector would be makes no difference to where it is placed.
    other = arm.behavior.copy()
    other[4] = -other[4]
    moved = Arm(arm.data, arm.content, other, arm.encoder)
    only = [at for at, t in enumerate(asked.targets) if t == 4 and 4 not in asked.histories[at]]
    assert only
    assert (cold_ranks(moved, asked, left_out, folds=3)[only] == ranks[only]).all()


def test_differences_are_paired_by_question() -> None:
    users = np.arange(4, dtype=np.int32)
    row = compare("x", "hr@10", users, np.array([1.0, 99, 99, 99]), np.array([1.0, 2, 99, 99]))
    assert (row.own, row.enriched, row.gain.mean) == (0.25, 0.5, 0.25)
    assert row.gain.low <= 0.25 <= row.gain.high


def test_the_command_compares_a_shop(tmp_path: Path) -> None:
    shop = write_shop(tmp_path)
    done = CliRunner().invoke(
        app,
        [
            "--interactions", str(tmp_path / "orders.csv"),
            "--items", str(tmp_path / "products.csv"),
            "--user-column", "customer", "--item-column", "sku", "--timestamp-column", "at",
            "--item-id-column", "sku", "--text-column", "title",
            "--embedder", str(shop.root / "embedder"), "--query-epochs", "1",
            "--work", str(tmp_path / "work"),
        ],
        env={"COLUMNS": "200"},
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "6 items of 24 (25.0%)" in done.output
    for name in ("embedding, all targets", "retrieval, enriched targets", "cold items"):
        assert name in done.output
