"""Everything in order: train, score the validation items, fit the arms, rank the test items."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from bench.prove import scoring
from bench.prove.arms import Fitted, fit
from bench.prove.models import Models
from bench.prove.scoring import ROWS, read_pool, read_ranks, write_ranks, write_validation
from bench.prove.training import Trainer
from bench.results.data import Protocol, split
from bench.results.pieces import Pieces
from offline.build.cache import Built, Make, StageCache
from offline.build.config import BuildConfig
from offline.build.source import Source
from offline.dataset import Dataset
from offline.evaluate.protocol import RANKINGS
from offline.metrics import Ranking

TRAININGS: Final = (
    "query encoder",
    "generator",
    "second query encoder",
    "generator with random codes",
)


@dataclass(frozen=True)
class SeedOutcome:
    """What one seed came to.

    Attributes:
        seed: Of all trainings.
        fitted: The arms, fitted on validation items.
        users: int32 [questions] who is asked about, the same in every seed.
        ranks: float32 [questions, rows, rankings], of the test items: by `ROWS` and `RANKINGS`.
    """

    seed: int
    fitted: Fitted
    users: NDArray[np.int32]
    ranks: NDArray[np.float32]

    def of(self, row: str, ranking: Ranking) -> NDArray[np.float32]:
        """The ranks of one row, float32 [questions]."""
        return self.ranks[:, ROWS.index(row), RANKINGS.index(ranking)]


@dataclass(frozen=True)
class Proof:
    """A comparison of the arms on one data set.

    Attributes:
        source: The data.
        protocol: How it is split.
        config: How models are trained, whatever their seed.
        seeds: How many trainings of everything.
        work: Where trained stages are kept.
        out: Where everything else is kept.
    """

    source: Source
    protocol: Protocol
    config: BuildConfig
    seeds: int
    work: Path
    out: Path

    def pieces(self) -> Pieces:
        """What there is to do."""
        each = (*TRAININGS, "validation scores", "test ranks")
        planned = [f"seed {seed}, {piece}" for seed in range(self.seeds) for piece in each]
        return Pieces(self.out / "seconds.json", ("data", *planned))

    def outcomes(self, pieces: Pieces) -> Iterator[SeedOutcome]:
        """Seed after seed.

        Raises:
            OutOfTime: before a piece, or within one whose work so far is kept.
        """
        trainer = Trainer(split(self.source, self.protocol), self.config, self.work, pieces)
        for seed in range(self.seeds):
            models = trainer.train(seed)
            data = Dataset.load(models.dataset.path)
            with pieces.piece(f"seed {seed}, validation scores"):
                validation = self._validation(models, data)
            fitted = fit(read_pool(validation.path))
            with pieces.piece(f"seed {seed}, test ranks"):
                test = self._test(models, validation, data, fitted)
            yield SeedOutcome(seed, fitted, data.holdout("test").users, read_ranks(test.path))

    def _validation(self, models: Models, data: Dataset) -> Built:
        """Scores of what weights are fitted on."""
        return self._stage(
            "validation",
            lambda out: write_validation(models, data, self._max_history, out),
            settings={"max_history": self._max_history},
            after=models.all(),
        )

    def _test(self, models: Models, validation: Built, data: Dataset, fitted: Fitted) -> Built:
        """The ranks of the test items by every source and arm."""
        return self._stage(
            "test",
            lambda out: write_ranks(models, data, self._max_history, fitted, out),
            settings={"max_history": self._max_history, "fitted": fitted.to_json()},
            after=(*models.all(), validation),
        )

    @property
    def _max_history(self) -> int:
        return self.config.generator.max_history

    def _stage(self, name: str, make: Make, settings: Any, after: tuple[Built, ...]) -> Built:
        cache = StageCache(self.out, Console(quiet=True))
        return cache.stage(name, make, settings=settings, after=after, code=scoring.__name__)
