"""The model that reads whole items against numpy, and against what it promises."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from offline.generator.items import model as item_model
from offline.generator.items.batches import IGNORE, ItemBatch
from offline.generator.items.model import SEEN_SCALE, ItemT5
from offline.generator.items.scores import exact_scores
from offline.training import blocks
from tests.generator.items.item_oracle import Oracle
from tests.generator.made_up import random_levels
from tests.generator.made_up_items import random_item_t5

ITEMS, LONGEST, WORDS = 40, 6, (3, 4, 5)
SIZES = {1: (60,), 2: (7, 9), 3: (3, 5, 7)}
HISTORIES: tuple[tuple[int, ...], ...] = ((), (5,), (7, 7, 2, 7), (1, 2, 3, 4, 5, 6, 7, 8, 9, 1))
"""None, one, some of them twice, and more than are read."""


def codes_of(levels: int) -> NDArray[np.int32]:
    """Codes whose tokens come after those of words."""
    first = 10 + np.cumsum([0, *SIZES[levels][:-1]])
    codes: NDArray[np.int32] = (random_levels(ITEMS, SIZES[levels]) + first).astype(np.int32)
    return codes


@pytest.fixture(params=[1, 2, 3], ids=lambda levels: f"{levels} levels")
def model(request: pytest.FixtureRequest) -> ItemT5:
    return random_item_t5(codes_of(request.param))


def scores(model: ItemT5, *histories: Sequence[int], longest: int = LONGEST) -> NDArray[np.float32]:
    return exact_scores(model, WORDS, [np.array(h, np.int32) for h in histories], longest)


def codes(model: ItemT5) -> NDArray[np.int32]:
    return model.tree.tokens.numpy().astype(np.int32)


def test_scores_are_those_of_numpy_and_sum_to_one(model: ItemT5) -> None:
    found = scores(model, *HISTORIES)
    oracle = Oracle.of(model)
    for history, row in zip(HISTORIES, found, strict=True):
        expected = oracle.scores(WORDS, history, codes(model), longest=LONGEST)
        np.testing.assert_allclose(row, expected, atol=1e-4)
        assert np.exp(row, dtype=np.float64).sum() == pytest.approx(1.0, abs=1e-5)
        assert row.std() > 0.3, "the test's model tells items apart"


def batch_of(*histories: Sequence[int]) -> ItemBatch:
    """Each item but the first is a target, and so is any after the words alone."""
    width = max(map(len, histories)) - 1
    read = torch.zeros(len(histories), width, dtype=torch.int64)
    targets = torch.full((len(histories), width + 1), IGNORE)
    for row, history in enumerate(histories):
        read[row, : len(history) - 1] = torch.tensor(history[:-1])
        targets[row, : len(history)] = torch.tensor(history)
    words = torch.tensor(WORDS).expand(len(histories), -1)
    return ItemBatch(words, read, targets)


BATCH = batch_of((5, 6), (7, 7, 2, 7, 30), (1, 2, 3, 4, 5, 1), (0, 0, 0))


def expected_loss(model: ItemT5, *, decoder: bool) -> float:
    """Of each target after each prefix of its history, by itself."""
    losses = [
        -exact_scores(
            model, WORDS, [history[:place].numpy().astype(np.int32)], 99, decoder=decoder
        )[0, target]
        for history, targets in zip(BATCH.history, BATCH.targets, strict=True)
        for place, target in enumerate(targets.tolist())
        if target != IGNORE
    ]
    assert len(losses) == 2 + 5 + 6 + 3
    return float(np.mean(losses))


def test_the_loss_is_what_the_scores_say_of_each_target(model: ItemT5) -> None:
    codes_alone = expected_loss(model, decoder=True)
    assert float(model.loss(BATCH).detach()) == pytest.approx(codes_alone, abs=1e-5)
    model.item_share = 0.5
    both = codes_alone + 0.5 * expected_loss(model, decoder=False)
    assert float(model.loss(BATCH).detach()) == pytest.approx(both, abs=1e-5)


def test_what_pads_a_history_has_no_part_in_the_loss(model: ItemT5) -> None:
    padding = BATCH.targets[:, 1:] == IGNORE
    other = ItemBatch(BATCH.words, BATCH.history.masked_fill(padding, 33), BATCH.targets)
    assert (other.history != BATCH.history).any()
    torch.testing.assert_close(model.loss(other), model.loss(BATCH))


def test_a_target_counts_by_its_weight(model: ItemT5) -> None:
    torch.testing.assert_close(
        model.loss(replace(BATCH, weights=torch.full(BATCH.targets.shape, 3.0))), model.loss(BATCH)
    )
    twice = torch.zeros(BATCH.targets.shape)
    twice[0, :2], twice[1, :5] = 2.0, 1.0
    three = batch_of((5, 6), (5, 6), (7, 7, 2, 7, 30))
    torch.testing.assert_close(model.loss(replace(BATCH, weights=twice)), model.loss(three))


def gradients(model: ItemT5) -> dict[str, torch.Tensor]:
    model.zero_grad()
    model.loss(BATCH).backward()  # type: ignore[no-untyped-call]
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def test_computed_again_in_blocks_it_is_the_same_loss_and_gradient(
    model: ItemT5, monkeypatch: pytest.MonkeyPatch
) -> None:
    loss, whole = model.loss(BATCH).detach(), gradients(model)
    calls: list[bool] = []
    recomputed = blocks.recomputed

    def counted(*inputs: Any, again: bool) -> torch.Tensor:
        calls.append(again)
        return recomputed(*inputs, again=again)

    monkeypatch.setattr(item_model, "recomputed", counted)
    monkeypatch.setattr(blocks, "LARGEST", 3 * model.tree.grid.numel())
    torch.testing.assert_close(model.loss(BATCH).detach(), loss)
    assert calls == [True] * 6, "16 targets, 3 at a time"
    parts = gradients(model)
    assert whole.keys() == parts.keys()
    assert "seen" in whole
    for name, gradient in whole.items():
        torch.testing.assert_close(parts[name], gradient, atol=1e-5, rtol=1e-4, msg=name)


def test_a_decoder_that_says_nothing_leaves_a_softmax_over_items(model: ItemT5) -> None:
    """A code's probability is its mass, level by level, so that all between cancels out."""
    with torch.no_grad():
        model.t5.decoder.final_layer_norm.weight.zero_()
    oracle = Oracle.of(model)
    for history, row in zip(HISTORIES, scores(model, *HISTORIES), strict=True):
        state = oracle.states(WORDS, history[-LONGEST:], oracle.table())[-1]
        likelihood = oracle.likelihoods(state, history, oracle.table())
        expected = likelihood - np.logaddexp.reduce(likelihood)
        np.testing.assert_allclose(row, expected, atol=1e-4)
        past = [np.array(history, np.int32)]
        (without,) = exact_scores(model, WORDS, past, LONGEST, decoder=False)
        np.testing.assert_allclose(without, expected, atol=1e-4)


@torch.no_grad()
def test_the_future_has_no_influence(model: ItemT5) -> None:
    words, table = torch.tensor([WORDS]), model.table()
    states = model.encode(words, torch.tensor([[1, 2, 3, 4]]), table)
    changed = model.encode(words, torch.tensor([[1, 2, 30, 20]]), table)
    torch.testing.assert_close(states[:, :5], changed[:, :5])
    assert (states[:, 5:] - changed[:, 5:]).abs().amax(dim=2).min() > 1e-3


def test_the_seen_number_moves_the_items_of_the_history_and_no_others() -> None:
    model = random_item_t5(codes_of(1))  # with one level and a silent decoder, scores are logits
    history = (7, 7, 2)
    with torch.no_grad():
        model.t5.decoder.final_layer_norm.weight.zero_()
        model.seen.zero_()
        (before,) = scores(model, history)
        model.seen.fill_(0.1)
        (after,) = scores(model, history)
    moved = (after - after[0]) - (before - before[0])
    expected = np.zeros(ITEMS)
    expected[[2, 7]] = 0.1 * SEEN_SCALE
    np.testing.assert_allclose(moved, expected, atol=1e-4)


def test_what_is_saved_is_what_is_loaded(model: ItemT5, tmp_path: Path) -> None:
    directory = tmp_path / "model"
    model.save(directory)
    again = ItemT5.load(directory, codes(model))
    assert not again.training
    np.testing.assert_array_equal(scores(again, *HISTORIES), scores(model, *HISTORIES))
