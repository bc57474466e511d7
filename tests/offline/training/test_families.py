"""Families of tasks: how much of a training each is."""

from dataclasses import dataclass

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn, tensor

from offline.training.families import FamilyLearner


@dataclass(frozen=True)
class Numbers:
    """A family whose batches are numbers, and whose loss is one of them by a factor."""

    factor: int
    whole: int = 1

    def batches(self, rng: np.random.Generator, count: int | None) -> list[int]:
        return [int(i) for i in rng.permutation(self.whole if count is None else count)]

    def loss(self, batch: int) -> Tensor:
        return tensor(self.factor * batch)

    def fingerprint(self) -> str:
        return f"{self.factor}"


shares = st.lists(st.floats(0.001, 5), max_size=4)


@given(st.integers(1, 60), shares, st.integers(0, 9))
def test_each_family_has_its_share_of_batches(whole: int, given: list[float], seed: int) -> None:
    others = [(Numbers(factor), share) for factor, share in enumerate(given, start=2)]
    learner = FamilyLearner(nn.Identity(), Numbers(1, whole), others)
    drawn = learner.batches(np.random.default_rng(seed))
    assert sum(d.family is learner.first for d in drawn) == whole
    for family, share in others:
        own = [d.batch for d in drawn if d.family is family]
        assert sorted(own) == list(range(max(1, round(share * whole))))


def test_a_batch_has_the_loss_of_its_family() -> None:
    learner = FamilyLearner(nn.Identity(), Numbers(10, 5), [(Numbers(100), 1.0)])
    drawn = learner.batches(np.random.default_rng(0))
    assert sorted(int(learner.loss(d)) for d in drawn) == [
        0, 0, 10, 20, 30, 40, 100, 200, 300, 400,
    ]  # fmt: skip


def test_batches_of_all_families_come_in_any_order() -> None:
    learner = FamilyLearner(nn.Identity(), Numbers(1, 10), [(Numbers(2), 1.0)])
    orders = {
        tuple(d.family is learner.first for d in learner.batches(np.random.default_rng(seed)))
        for seed in range(20)
    }
    assert len(orders) == 20


def test_a_share_and_a_family_change_the_fingerprint() -> None:
    learners = [
        FamilyLearner(nn.Identity(), Numbers(1), others)
        for others in ([], [(Numbers(2), 1.0)], [(Numbers(2), 0.5)], [(Numbers(3), 1.0)])
    ]
    assert len({learner.fingerprint() for learner in learners}) == 4
