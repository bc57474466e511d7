"""Batches of whole items: what is read, what is learned, and how often."""

from collections.abc import Sequence
from typing import cast

import numpy as np
import pytest
from numpy.typing import NDArray
from torch import nn

from offline.generator.items.batches import IGNORE, ItemBatch
from offline.generator.items.expected import ExpectedItems
from offline.generator.items.families import (
    DIRECT_PAIRS,
    DirectItems,
    Sequences,
    SequentialItems,
)
from offline.generator.items.model import ItemT5
from offline.training.families import FamilyLearner
from services.generator.prompts import Template

AFTER = Template("sequential", "seen", "after {history}", "{target}")
NEXT = Template("sequential", "seen", "next of {history}", "{target}")
FOR = Template("direct", "seen", "for {user}", "{target}")
NUMBER = {AFTER: 1, NEXT: 2, FOR: 3}
LENGTHS = (0, 1, 2, 3, 9, 10, 11, 25, 48)


def words(template: Template, user: int | None) -> list[int]:
    return [NUMBER[template], -1 if user is None else user]


def named(lengths: Sequence[int]) -> list[NDArray[np.int32]]:
    """Item `100 u + i` is the item `i` of the user `u`."""
    return [(100 * user + np.arange(n)).astype(np.int32) for user, n in enumerate(lengths)]


def batches(
    sequences: list[NDArray[np.int32]],
    epoch: int = 0,
    *,
    times: list[NDArray[np.int64]] | None = None,
    direct: Sequence[Template] = (),
    max_history: int = 10,
    history_dropout: float = 0.0,
    batch_items: int = 60,
    expected: ExpectedItems | None = None,
) -> list[ItemBatch]:
    whole = Sequences(sequences, times or [np.arange(len(sequence)) for sequence in sequences])
    model = cast(ItemT5, None)  # that learns from them
    sequential = SequentialItems(
        model, whole, (AFTER, NEXT), words, max_history, batch_items, history_dropout
    )
    by_name = DirectItems(model, whole, direct, words, expected)
    learner = FamilyLearner(nn.Identity(), sequential, [(by_name, 0.5)] if direct else [])
    return [drawn.batch for drawn in learner.batches(np.random.default_rng(epoch))]


def rows(made: Sequence[ItemBatch]) -> list[tuple[list[int], list[int]]]:
    """The history and the targets of every row."""
    return [
        (history, targets)
        for batch in made
        for history, targets in zip(batch.history.tolist(), batch.targets.tolist(), strict=True)
    ]


def whole(made: Sequence[ItemBatch]) -> dict[int, list[int]]:
    """Each user's sequence as it was read, where it fits into one row."""
    read = {}
    for history, targets in rows(made):
        count = max(i for i, target in enumerate(targets) if target != IGNORE)
        read[history[0] // 100] = [*history[:count], targets[count]]
    return read


@pytest.mark.parametrize("epoch", range(3))
def test_every_item_but_the_first_is_a_target_once_after_those_before_it(epoch: int) -> None:
    learned = []
    for history, targets in rows(batches(named(LENGTHS), epoch)):
        for place, target in enumerate(targets[1:], start=1):
            if target != IGNORE:
                assert history[:place] == list(range(target - place, target))
                learned.append(target)
    assert sorted(learned) == [100 * u + i for u, n in enumerate(LENGTHS) for i in range(1, n)]


def test_after_the_words_alone_any_item_of_the_history_is_a_target() -> None:
    found = set()
    for epoch in range(60):
        for history, targets in rows(batches(named([4]), epoch)):
            assert targets[0] in history[:3]
            found.add(targets[0])
    assert found == {0, 1, 2}


def test_a_batch_asks_one_template_and_holds_so_many_items_at_most() -> None:
    made = batches(named(LENGTHS))
    assert {tuple(batch.words[0].tolist()) for batch in made} == {(1, -1), (2, -1)}
    for batch in made:
        assert (batch.words == batch.words[0]).all()
        assert batch.history.numel() <= 60
        assert batch.targets.shape[1] == batch.history.shape[1] + 1


def test_what_happened_at_once_is_put_in_another_order_and_nothing_else_is() -> None:
    times = np.array([5, 5, 5, 6, 7, 7, 8])
    orders = set()
    for epoch in range(100):
        read = whole(batches(named([7]), epoch, times=[times]))[0]
        assert sorted(read) == list(range(7))
        assert times[read].tolist() == sorted(times)
        orders.add(tuple(read))
    assert len(orders) == 6 * 2


def test_the_two_newest_items_are_never_left_out() -> None:
    sizes = []
    for epoch in range(100):
        read = whole(batches(named([2, 8]), epoch, history_dropout=0.5))
        assert read[0] == [0, 1]
        assert read[1] == sorted(set(read[1]))
        assert read[1][-2:] == [106, 107]
        sizes.append(len(read[1]))
    assert 4.5 < np.mean(sizes) < 5.5  # 2 and half of 6


def test_prompts_without_history_name_users_who_have_items() -> None:
    made = batches(named(LENGTHS), direct=[FOR])
    direct = [batch for batch in made if not batch.history.shape[1]]
    assert len(direct) == round(0.5 * (len(made) - len(direct)))
    for batch in direct:
        assert batch.words.shape == (DIRECT_PAIRS, 2)
        assert batch.targets.shape == (DIRECT_PAIRS, 1)
        assert set(batch.words[:, 0].tolist()) == {3}
        users = batch.words[:, 1]
        assert set(users.tolist()) == set(range(1, len(LENGTHS)))
        assert (batch.targets[:, 0] // 100 == users).all()


def test_half_of_the_named_users_targets_are_expected_ones() -> None:
    """Whose expected items are their own items plus 50."""
    lengths = [9] * 3
    own = np.stack(named(lengths))
    expected = ExpectedItems(own[:, :2] + 50, np.tile([0.75, 0.25], (3, 1)))
    made = [
        b for n in range(20) for b in batches(named(lengths), n, direct=[FOR], expected=expected)
    ]
    pairs = [
        (batch.words[:, 1] * 100, batch.targets[:, 0])
        for batch in made
        if not batch.history.shape[1]
    ]
    item = np.concatenate([(targets - first).numpy() for first, targets in pairs])
    share = np.bincount(item, minlength=52) / len(item)
    assert share[:9].sum() == pytest.approx(0.5, abs=0.02)
    assert share[50:].tolist() == pytest.approx([0.375, 0.125], abs=0.02)


def test_new_items_are_targets_more_often_than_old_ones() -> None:
    made = [b for n in range(20) for b in batches(named([10]), n, direct=[FOR])]
    targets = [t for b in made if not b.history.shape[1] for t in b.targets[:, 0].tolist()]
    share = np.bincount(targets, minlength=10) / len(targets)
    # A fifth is even; of the rest, the later of two places is taken.
    places = np.arange(10)
    expected = 0.2 / 10 + 0.8 * ((places + 1) ** 2 - places**2) / 100
    np.testing.assert_allclose(share, expected, atol=0.015)
