"""Everything in order: train, score the validation items, fit the arms, rank the test items."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from bench.data import Protocol, split
from bench.pieces import Pieces, write_array
from bench.prove.arms import ARMS, COUNTED, SOURCES, Fitted, candidates, fit
from bench.prove.models import Models, Trainer
from bench.prove.scorers import Scores, read_scorers
from offline.blend.choose import MOST_USERS
from offline.blend.sources import padded
from offline.build.config import BuildConfig
from offline.build.source import Source
from offline.build.stages import Built, Workshop
from offline.dataset import Dataset, Holdout
from offline.evaluate.protocol import RANKINGS, sample
from offline.metrics import Ranking, ranks_from_scores
from offline.training import deadline

ROWS: Final = (*SOURCES, *ARMS)
"""What is ranked by: each source alone, and each arm."""
BLOCK: Final = 256
"""Questions that are scored, and written, at once: no array has all items of all of them."""
TRAININGS: Final = (
    "query encoder",
    "generator",
    "second query encoder",
    "generator with random codes",
)
_SCORED: Final = ("query_encoder", *COUNTED, "second_encoder", *SOURCES[3:])
"""The sources of the validation items' scores, in the order in which they are kept."""
_VERSION: Final = 1
"""Of what is written; raised when it changes."""

Gather = Callable[[Holdout], NDArray[np.float32]]


@dataclass(frozen=True)
class Outcome:
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

    def outcomes(self, pieces: Pieces) -> Iterator[Outcome]:
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
            fitted = fit(_read_pool(validation.path))
            with pieces.piece(f"seed {seed}, test ranks"):
                test = self._test(models, validation, data, fitted)
            ranks = np.concatenate(list(_read_blocks(test.path)))
            yield Outcome(seed, fitted, data.holdout("test").users, ranks)

    def _validation(self, models: Models, data: Dataset) -> Built:
        """Scores of what weights are fitted on: at most as many questions as a blend is."""
        every = data.holdout("validation")
        if not len(every.users):
            raise ValueError(f"no user has more than {data.tested + 1} interactions to test on")
        asked = _some(every, sample(every.histories, MOST_USERS))

        def make(out: Path) -> None:
            scorers = read_scorers(models, data, self.config, COUNTED)

            def gather(part: Holdout) -> NDArray[np.float32]:
                scores = [scorers[name].scores(part.histories) for name in _SCORED]
                return padded(list(candidates(scores, part.histories, part.targets)))

            _in_blocks("Scoring validation items", asked, gather, out)

        return self._stage("validation", make, (), models.all())

    def _test(self, models: Models, validation: Built, data: Dataset, fitted: Fitted) -> Built:
        """The ranks of the test items by every source and arm."""

        def make(out: Path) -> None:
            recency = {"transitions": fitted.recency}
            scorers = read_scorers(models, data, self.config, recency)

            def gather(part: Holdout) -> NDArray[np.float32]:
                scores = {name: scorers[name].scores(part.histories) for name in SOURCES}
                return _ranks(scores, fitted, part)

            _in_blocks("Ranking test items", data.holdout("test"), gather, out)

        return self._stage("test", make, fitted.to_json(), (*models.all(), validation))

    def _stage(
        self, name: str, make: Callable[[Path], None], facts: Any, after: tuple[Built, ...]
    ) -> Built:
        config = {"max_history": self.config.generator.max_history, "facts": facts}
        workshop = Workshop(self.out, Console(quiet=True))
        return workshop.stage(name, make, version=_VERSION, config=config, after=after)


def _ranks(scores: dict[str, Scores], fitted: Fitted, asked: Holdout) -> NDArray[np.float32]:
    """float32 [questions, rows, rankings]; see `Outcome`.

    Transitions score what a history does not lead to alike. As in the row `transitions` of other
    tables, such ties count for the target, which flatters what is to be beaten.
    """
    ranks = np.empty((len(asked.targets), len(ROWS), len(RANKINGS)), np.float32)
    for column, row in enumerate(ROWS):
        values = scores[row] if row in scores else fitted.blend(scores, row)
        for place, ranking in enumerate(RANKINGS):
            ranks[:, column, place] = ranks_from_scores(
                values,
                asked.targets,
                asked.histories if ranking == "filtered" else None,
                ties="best" if row == "transitions" else "worst",
            )
    return ranks


def _in_blocks(title: str, asked: Holdout, gather: Gather, out: Path) -> None:
    """Writes what is gathered for the questions, block by block; those that are there are kept."""
    for start in track(range(0, len(asked.users), BLOCK), title, transient=True):
        path = out / f"{start:09d}.npy"
        if not path.exists():
            deadline.check()
            stop = min(start + BLOCK, len(asked.users))
            write_array(path, gather(_some(asked, range(start, stop))))


def _read_blocks(directory: Path) -> Iterator[NDArray[np.float32]]:
    for path in sorted(directory.glob("*.npy")):
        yield np.load(path, allow_pickle=False)


def _read_pool(directory: Path) -> dict[str, Scores]:
    """The scores that weights are fitted on, by source."""
    rows = [row for block in _read_blocks(directory) for row in block]
    return dict(zip(_SCORED, np.moveaxis(padded(rows), -1, 0), strict=True))


def _some(asked: Holdout, places: Sequence[int]) -> Holdout:
    """Some of the questions, by their places."""
    chosen = np.asarray(places, dtype=np.int64)
    return Holdout(asked.users[chosen], [asked.histories[i] for i in places], asked.targets[chosen])
