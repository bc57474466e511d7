"""The training loop, with a model of three numbers whose validation is made up."""

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from offline.dataset.schema import Holdout
from offline.training import deadline
from offline.training.checkpoint import Progress
from offline.training.config import TrainingConfig
from offline.training.deadline import OutOfTime
from offline.training.trainer import train
from offline.training.validation import Validation

ITEMS, STEPS = 5, 3
CONFIG = TrainingConfig(
    epochs=4, learning_rate=0.1, warmup_steps=0, evaluate_every=1, precision="fp32"
)
NOBODY = Holdout(np.empty(0, np.int32), [], np.empty(0, np.int32))
SOMEBODY = Holdout(np.zeros(1, np.int32), [np.array([4], np.int32)], np.zeros(1, np.int32))
"""One user, whose target is item 0."""


class Three(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(3))


class Learner:
    """Follows random points; its ranks of the target are given for each validation."""

    name = "toy"

    def __init__(self, *ranks: int) -> None:
        self.model = Three()
        self.ranks = list(ranks)
        self.before: list[Tensor] = []
        """The weights before each step."""
        self.asked: list[Tensor] = []
        """The weights at each validation."""

    def batches(self, rng: np.random.Generator) -> list[Tensor]:
        return [torch.from_numpy(rng.normal(size=3).astype(np.float32)) for _ in range(STEPS)]

    def loss(self, batch: Tensor) -> Tensor:
        self.before.append(self.weights())
        return ((self.model.weight - batch) ** 2).sum()

    def scores(self, histories: Sequence[NDArray[np.int32]]) -> NDArray[np.float32]:
        assert not self.model.training
        rank = self.ranks[len(self.asked)]
        self.asked.append(self.weights())
        better = np.where(np.arange(ITEMS) < rank, 1.0, -1.0)
        better[0] = 0.0
        return np.tile(better.astype(np.float32), (len(histories), 1))

    def weights(self) -> Tensor:
        return self.model.weight.detach().clone()


def trained(
    learner: Learner, holdout: Holdout, config: TrainingConfig, path: Path | None = None
) -> Progress:
    validation = Validation.of(holdout, learner.scores, config)
    return train(learner, validation, config, path=path)


def changed(**changes: object) -> TrainingConfig:
    return CONFIG.model_copy(update=changes)


def test_the_best_epoch_is_what_is_left_in_the_model() -> None:
    learner = Learner(3, 1, 2, 4)
    done = trained(learner, SOMEBODY, CONFIG)
    assert done.curve == pytest.approx({1: 0.5, 2: 1.0, 3: 1 / np.log2(3), 4: 1 / np.log2(5)})
    assert (done.epoch, done.step, done.best_epoch) == (4, 4 * STEPS, 2)
    assert torch.equal(learner.weights(), learner.asked[1])
    assert not torch.equal(learner.weights(), learner.asked[3])
    assert not learner.model.training


@pytest.mark.parametrize(
    ("patience", "epochs", "best"), [(1, 3, 2), (2, 4, 2), (3, 5, 2), (4, 6, 6)]
)
def test_training_stops_when_patience_is_at_its_end(patience: int, epochs: int, best: int) -> None:
    learner = Learner(3, 2, 4, 3, 4, 1)
    done = trained(learner, SOMEBODY, changed(epochs=6, patience=patience))
    assert (done.epoch, done.best_epoch) == (epochs, best)


def test_validation_comes_every_few_epochs_and_at_the_end() -> None:
    learner = Learner(3, 2, 1)
    done = trained(learner, SOMEBODY, changed(epochs=5, evaluate_every=2))
    assert sorted(done.curve) == [2, 4, 5]


def test_the_running_average_is_validated_and_kept_and_does_not_change_training() -> None:
    plain, averaged = Learner(), Learner(2, 2, 2, 1)
    train(plain, None, CONFIG)
    trained(averaged, SOMEBODY, changed(average=0.6))
    assert len(plain.before) == 4 * STEPS
    for ours, theirs in zip(averaged.before, plain.before, strict=True):
        assert torch.equal(ours, theirs)
    after = [*plain.before[1:], plain.weights()]
    average, expected = after[0], []
    for step, weights in enumerate(after, start=1):
        average = 0.6 * average + 0.4 * weights
        if step % STEPS == 0:
            expected.append(average)
    torch.testing.assert_close(torch.stack(averaged.asked), torch.stack(expected))
    assert torch.equal(averaged.weights(), averaged.asked[3])


@pytest.mark.parametrize("holdout", [None, NOBODY])
def test_without_anybody_to_ask_the_last_epoch_is_the_best(holdout: Holdout | None) -> None:
    learner = Learner()
    done = trained(learner, holdout, CONFIG) if holdout else train(learner, None, CONFIG)
    assert done.curve == dict.fromkeys(range(1, 5), 0.0)
    assert done.best_epoch == 4
    assert not torch.equal(learner.weights(), learner.before[-1])


def test_only_some_users_are_asked_the_same_ones_each_time() -> None:
    asked: list[list[int]] = []

    class Listening(Learner):
        def scores(self, histories: Sequence[NDArray[np.int32]]) -> NDArray[np.float32]:
            asked.append([int(history[0]) for history in histories])
            return super().scores(histories)

    users = np.arange(40, dtype=np.int32)
    histories = [np.array([user % 4 + 1], np.int32) for user in users]
    many = Holdout(users, histories, np.zeros(40, np.int32))
    trained(Listening(1, 1, 1, 1), many, changed(validation_users=9))
    assert len(asked) == 4
    assert all(part == asked[0] for part in asked)
    assert len(asked[0]) == 9


def test_out_of_time_it_stops_between_epochs_and_goes_on_to_the_same_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, path = changed(average=0.6), tmp_path / "checkpoint.safetensors"
    unbroken, first, second = Learner(), Learner(), Learner()
    train(unbroken, None, config)
    with deadline.limited(60):
        late = SimpleNamespace(monotonic=lambda: 1e12 * (len(first.before) > STEPS))
        monkeypatch.setattr("offline.training.deadline.time", late)
        with pytest.raises(OutOfTime):
            train(first, None, config, path=path)
    assert len(first.before) == 2 * STEPS
    done = train(second, None, config, path=path)
    assert (done.epoch, len(second.before)) == (4, 2 * STEPS)
    assert torch.equal(second.weights(), unbroken.weights())


@pytest.mark.parametrize(("ranks", "best"), [((1, 2, 3, 4, 4), 0), ((3, 4, 2, 4, 4), 2)])
def test_a_trained_model_stays_unless_an_epoch_is_better(ranks: tuple[int, ...], best: int) -> None:
    learner = Learner(*ranks)
    learner.model.weight.data.fill_(7.0)
    validation = Validation.of(SOMEBODY, learner.scores, CONFIG)
    done = train(learner, validation, CONFIG, trained=True)
    assert sorted(done.curve) == [0, 1, 2, 3, 4]
    assert done.best_epoch == best
    assert torch.equal(learner.asked[0], torch.full((3,), 7.0))
    assert torch.equal(learner.weights(), learner.asked[best])
