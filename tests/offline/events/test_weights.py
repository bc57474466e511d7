"""What an event counts by its type, from the table to the losses."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gateway.history.event import Event, Shown
from offline.dataset import DataError, Dataset, LogsConfig, read_logs
from offline.dataset.schema import Item
from offline.events.table import write_events
from offline.events.weights import read_weights
from offline.generator.items.families import DirectItems, Sequences, SequentialItems
from offline.generator.items.model import ItemT5
from offline.query_encoder.batches import IGNORE, epoch_batches
from offline.query_encoder.config import QueryEncoderConfig
from offline.query_encoder.train import train_query_encoder
from offline.training.blocks import weighted_mean
from offline.training.config import TrainingConfig
from services.generator.prompts import Template

SECOND = 1_000_000
EIGHTH = np.float32(0.125)
ITEMS = "item_id,text\n" + "".join(f"i{n},Item {n}\n" for n in range(4))


def export(directory: Path, types: Sequence[str]) -> Path:
    """One user's events, of the types and one item each, a second apart."""
    shown = Shown("n" * 16, "fuse", 1, 0.5, "", "b/1")
    events = [
        Event(f"e{n}", "ann", f"i{n % 4}", 10**15 + n * SECOND, kind, None, 0, shown)
        for n, kind in enumerate(types)
    ]
    (directory / "items.csv").write_text(ITEMS, encoding="utf-8")
    write_events([events[:2], [], events[2:]], directory / "events.parquet")
    return directory / "events.parquet"


def logs(interactions: Path, weights: str) -> LogsConfig:
    items = interactions.with_name("items.csv")
    return LogsConfig(interactions, items, min_core=1, event_weights=read_weights(weights))


def test_types_that_count_nothing_are_left_out(tmp_path: Path) -> None:
    path = export(tmp_path, ["impression", "click", "purchase", "interaction", "own"])
    data, report = read_logs(logs(path, "click=1,purchase=2.5,interaction=0"))
    assert [data.item_ids[i] for i in data.history(0)] == ["i1", "i2"]
    assert data.timestamps.tolist() == [10**15 + SECOND, 10**15 + 2 * SECOND]
    assert data.weights is not None
    assert data.weights.tolist() == [1.0, 2.5]
    (notice,) = report.notices
    assert notice.startswith("3 interactions of types that count nothing; the first is row 1")
    data.save(tmp_path / "saved")
    saved = Dataset.load(tmp_path / "saved").weights
    assert saved is not None
    assert saved.tolist() == [1.0, 2.5]


def test_types_that_count_alike_are_not_weighed(tmp_path: Path) -> None:
    path = export(tmp_path, ["click", "purchase"])
    data, _ = read_logs(logs(path, "click=3,purchase=3"))
    assert data.weights is None
    assert data.train_weights() is None


def test_an_export_is_not_read_without_weights(tmp_path: Path) -> None:
    path = export(tmp_path, ["impression", "click"])
    with pytest.raises(DataError, match="--event-weights interaction=1"):
        read_logs(replace(logs(path, "click=1"), event_weights=()))


def test_logs_of_ones_own_have_types_too(tmp_path: Path) -> None:
    path = export(tmp_path, [])
    own = "user_id,item_id,timestamp,what\n1,i1,1,view\n1,i2,2,buy\n1,i3,3,\n"
    path.write_text(own, encoding="utf-8")
    data, _ = read_logs(replace(logs(path, "buy=2,view=1"), type_column="what"))
    assert data.weights is not None
    assert data.weights.tolist() == [1.0, 2.0]


@pytest.mark.parametrize(
    "text", ["", "click", "click=", "click=x", "click=-1", "click=nan", "click=1001", "a b=1",
             "click=1,click=2", "click=0", "click=1,"],
)  # fmt: skip
def test_weights_that_are_none(text: str) -> None:
    with pytest.raises(DataError, match="event weights"):
        read_weights(text)


lengths = st.lists(st.integers(0, 40), min_size=1, max_size=6)


@given(lengths, st.integers(1, 9), st.integers(0, 99))
def test_a_weight_goes_with_its_item(sizes: list[int], max_history: int, seed: int) -> None:
    sequences = [np.arange(1, n + 1, dtype=np.int32) + 100 * u for u, n in enumerate(sizes)]
    weights = [sequence.astype(np.float32) * EIGHTH for sequence in sequences]
    rng = np.random.default_rng(seed)
    for batch in epoch_batches(sequences, max_history, 60, rng, weights):
        assert batch.weights is not None
        known = batch.targets != IGNORE
        assert (batch.weights[:, 1:][known] * 8 == batch.targets[known]).all()
        assert (batch.weights[:, :-1][known] * 8 == batch.history[known]).all()


@pytest.mark.parametrize("seed", range(3))
def test_a_weight_goes_with_the_generators_target(seed: int) -> None:
    sizes = [0, 1, 2, 9, 25, 40]
    sequences = [np.arange(1, n + 1, dtype=np.int32) + 100 * u for u, n in enumerate(sizes)]
    weights = [sequence.astype(np.float32) * EIGHTH for sequence in sequences]
    whole = Sequences(sequences, [np.arange(n) // 3 for n in sizes], weights)
    model, words = cast(ItemT5, None), lambda _template, _user: [7]
    after = [Template("sequential", "seen", "after {history}", "{target}")]
    by_name = [Template("direct", "seen", "for {user}", "{target}")]
    rng = np.random.default_rng(seed)
    sequential = SequentialItems(model, whole, after, words, 10, 60, 0.2)
    direct = DirectItems(model, whole, by_name, words)
    for batch in [*sequential.batches(rng), *direct.batches(rng, 3)]:
        assert batch.weights is not None
        known = batch.targets != IGNORE
        assert torch.equal(batch.weights[known] * 8, batch.targets[known].float())


def test_a_weight_is_how_often_a_target_counts() -> None:
    losses, known = torch.tensor([1.0, 2.0, 4.0]), torch.tensor([[True, False], [True, True]])
    weights = torch.tensor([[1.0, 9.0], [3.0, 0.0]])
    repeated = torch.tensor([1.0, 2.0, 2.0, 2.0])
    assert weighted_mean(losses, weights, known) == repeated.mean()
    assert weighted_mean(losses, None, known) == losses.mean()


def test_what_counts_more_is_expected_more() -> None:
    """After item 0 half of the users take 1 and half 2; then all go on alike."""
    users, config = 40, QueryEncoderConfig(
        dimension=8, layers=1, heads=2, max_history=6, dropout=0.0, batch_items=60,
        train=TrainingConfig(epochs=6, learning_rate=1e-2, warmup_steps=2, evaluate_every=6),
    )  # fmt: skip
    sequences = np.array([[0, 1 + u % 2, 3, 4, 5] for u in range(users)], np.int32)
    content = np.random.default_rng(0).normal(size=(6, 12)).astype(np.float32)
    found = {}
    for heavy in (1, 2):
        data = Dataset(
            name="made-up",
            items=tuple(Item(f"i{n}", "", "", {}) for n in range(6)),
            user_ids=tuple(f"u{u}" for u in range(users)),
            indptr=np.arange(users + 1) * 5,
            item_index=sequences.ravel(),
            timestamps=np.arange(users * 5),
            weights=np.where(sequences.ravel() == heavy, 5, 1).astype(np.float32),
        )
        done = train_query_encoder(data, content, config, device="cpu")
        table = torch.from_numpy(done.behavior_vectors)
        with torch.inference_mode():
            logits = done.encoder(table[None, :1])[0, -1] @ table.T
        found[heavy] = float(logits[1] - logits[2])
    assert found[1] > 0 > found[2]


def test_an_export_without_events_is_a_table(tmp_path: Path) -> None:
    assert write_events([], tmp_path / "none.parquet") == 0
    assert pl.read_parquet(tmp_path / "none.parquet").is_empty()
