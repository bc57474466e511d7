"""Families of tasks that one model learns side by side, each with a share of the training.

P5 tells its families apart by their prompts alone (https://arxiv.org/abs/2203.13366). Here a family
is something that yields batches and knows their loss; the first one says how long an epoch is, and
every other one adds batches in proportion to it.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

Batch = TypeVar("Batch")


class Family(Protocol[Batch]):
    """One kind of task of a model."""

    def batches(self, rng: np.random.Generator, count: int | None) -> list[Batch]:
        """Batches of one epoch.

        Args:
            rng: decides everything that is random about them.
            count: how many; None for as many as one pass over the data has.
        """

    def loss(self, batch: Batch) -> Tensor:
        """The mean loss of a batch."""

    def fingerprint(self) -> str:
        """Changes with anything that the batches depend on; see `digest`."""


def digest(facts: object, arrays: Iterable[NDArray[Any]]) -> str:
    """A checksum of facts, by how they are printed, and of arrays."""
    found = hashlib.sha256(repr(facts).encode())
    for array in arrays:
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()


@dataclass(frozen=True)
class Drawn:
    """A batch, and the family that it is of."""

    family: Family[Any]
    batch: Any


@dataclass(frozen=True)
class FamilyLearner:
    """A model that learns several families; see `offline.training.trainer.Learner`."""

    model: nn.Module
    first: Family[Any]
    """One pass over its data is an epoch."""
    others: Sequence[tuple[Family[Any], float]] = ()
    """Each with its batches, as a share of those of the first; at least one."""
    name: str = "generator"

    def batches(self, rng: np.random.Generator) -> list[Drawn]:
        """The batches of one epoch, those of all families in a random order."""
        drawn = [Drawn(self.first, batch) for batch in self.first.batches(rng, None)]
        asked = [(family, max(1, round(share * len(drawn)))) for family, share in self.others]
        for family, count in asked:
            drawn += [Drawn(family, batch) for batch in family.batches(rng, count)]
        return [drawn[i] for i in rng.permutation(len(drawn))]

    def loss(self, drawn: Drawn) -> Tensor:
        """The mean loss of a batch, as its family has it."""
        return drawn.family.loss(drawn.batch)

    def fingerprint(self) -> str:
        """Changes with anything that the batches depend on."""
        others = [(family.fingerprint(), share) for family, share in self.others]
        return digest((self.first.fingerprint(), others), ())
