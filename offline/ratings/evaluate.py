"""How far predicted ratings are off, beside what predicts them without a model.

The ratings that are tested on are those that the build drew for it (`offline.reviews.parts`), and
nothing was trained on them. The model is told of a user what it was trained on, the newest of it,
and so are the biases.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from core.bundle import Bundle
from core.errors import FailedPrecondition
from offline.bootstrap import bootstrap_ci
from offline.ratings.baselines import UserItemBias
from offline.ratings.rated import RATING_PARTS
from offline.reviews.parts import Part
from services.generator.decoding.engine import GeneratorEngine
from services.generator.decoding.rater import Rater, RatingQuery
from services.generator.decoding.ratings import NOTHING_RATED, RatedItems

Floats = NDArray[np.float64]

_JOBS: Final = 64
"""Ratings that are predicted in one run of the model."""


@dataclass(frozen=True)
class Interval:
    """A mean with its 95% interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class RatingRow:
    """How far the predictions of one model are off."""

    name: str
    rmse: Interval
    mae: Interval

    @classmethod
    def of(cls, name: str, predicted: Floats, ratings: Floats) -> "RatingRow":
        """Measures predictions, [ratings] each."""
        off = predicted - ratings
        errors = np.stack([off**2, np.abs(off)], axis=1)
        square, absolute = np.stack([errors.mean(axis=0), *bootstrap_ci(errors)], axis=1).tolist()
        rmse: list[float] = np.sqrt(square).tolist()
        return cls(name, Interval(*rmse), Interval(*absolute))


@dataclass(frozen=True)
class RatingReport:
    """The rows of an evaluation, and what they are about."""

    bundle: str
    dataset: str
    split: str
    trained: int
    """Ratings that were learned from."""
    tested: int
    """Ratings that were predicted."""
    rows: Sequence[RatingRow]

    def to_json(self) -> dict[str, Any]:
        """What `tandem evaluate --family rating --json` prints."""
        return asdict(self)


@dataclass(frozen=True)
class _Given:
    """The ratings of a bundle, [interactions] each, by user and oldest first."""

    users: NDArray[np.int64]
    items: NDArray[np.int64]
    ratings: Floats
    parts: NDArray[np.int8]

    @classmethod
    def of(cls, bundle: Bundle) -> "_Given":
        histories = bundle.histories
        if histories.ratings is None or RATING_PARTS not in bundle.manifest.files:
            raise FailedPrecondition(
                f"{bundle.version} has no ratings: build it from data that have them",
                reason="RATINGS_NOT_LEARNED",
            )
        users = np.repeat(np.arange(len(histories.user_index)), np.diff(histories.indptr))
        parts = bundle.array(RATING_PARTS.removesuffix(".npy"), np.int8)
        items, ratings = histories.items.astype(np.int64), histories.ratings.astype(np.float64)
        return cls(users, items, ratings, parts)

    def rows(self, part: Part) -> NDArray[np.int64]:
        return np.flatnonzero(self.parts == part)


def evaluate_ratings(
    bundle: Bundle, split: Part = Part.TEST, users: int | None = None
) -> RatingReport:
    """Evaluates the predicted ratings of a bundle.

    Args:
        bundle: What to evaluate.
        split: The ratings drawn for testing, or those for validation.
        users: The first so many of those who have one; all by default.

    Raises:
        FailedPrecondition: Its model has not learned ratings.
    """
    given = _Given.of(bundle)
    trained, tested = given.rows(Part.TRAINING), given.rows(split)
    tested = tested[np.isin(given.users[tested], np.unique(given.users[tested])[:users])]
    rows = [
        RatingRow.of(name, predicted, given.ratings[tested])
        for name, predicted in (
            *_without_model(bundle, given, tested, trained),
            *_with_model(bundle, given, tested, trained),
        )
    ]
    dataset = bundle.manifest.provenance.dataset
    counts = len(trained), len(tested)
    return RatingReport(bundle.version, dataset, split.name.lower(), *counts, rows)


def _without_model(
    bundle: Bundle, given: _Given, tested: NDArray[np.int64], trained: NDArray[np.int64]
) -> Iterator[tuple[str, Floats]]:
    shape = len(bundle.histories.user_index), bundle.manifest.items
    bias = UserItemBias.fit(
        given.users[trained], given.items[trained], given.ratings[trained], shape=shape
    )
    highest = bundle.manifest.generator.ratings[-1]
    yield "mean", np.full(len(tested), bias.mean)
    yield f"always {highest:g}", np.full(len(tested), highest)
    yield "user+item bias", bias.predict(given.users[tested], given.items[tested])


def _with_model(
    bundle: Bundle, given: _Given, tested: NDArray[np.int64], trained: NDArray[np.int64]
) -> Iterator[tuple[str, Floats]]:
    """Told the ratings that were learned from, and told nothing."""
    rater = Rater.of(GeneratorEngine.load(bundle))
    with Progress(transient=True) as progress:
        task = progress.add_task("Predicting ratings", total=2 * len(tested))

        def advance(count: int) -> None:
            progress.advance(task, count)

        yield "generator", _predicted(rater, given, tested, trained, advance)
        yield "generator/untold", _predicted(rater, given, tested, trained[:0], advance)


def _predicted(
    rater: Rater,
    given: _Given,
    tested: NDArray[np.int64],
    shown: NDArray[np.int64],
    advance: Callable[[int], None],
) -> Floats:
    """What the model predicts, told some ratings of each user; [tested]."""
    by_user: dict[int, RatedItems] = {}
    for rows in np.split(shown, np.flatnonzero(np.diff(given.users[shown])) + 1):
        if len(rows):
            values = rater.known.places(given.ratings[rows])
            by_user[int(given.users[rows[0]])] = RatedItems(
                given.items[rows].astype(np.int32), values
            )
    predicted = np.empty(len(tested))
    for start in range(0, len(tested), _JOBS):
        rows = tested[start : start + _JOBS]
        jobs = [
            rater.prepare(
                RatingQuery(
                    by_user.get(int(given.users[row]), NOTHING_RATED),
                    given.items[[row]].astype(np.int32),
                )
            )
            for row in rows
        ]
        predicted[start : start + _JOBS] = np.concatenate(rater.run(jobs))
        advance(len(rows))
    return predicted


def print_report(report: RatingReport) -> None:
    """Prints a table for people."""
    table = Table(
        "", "RMSE", "MAE", title=f"{report.bundle}: ratings of {report.dataset}", box=None
    )
    for row in report.rows:
        cells = (f"{i.value:.4f} [{i.low:.4f}, {i.high:.4f}]" for i in (row.rmse, row.mae))
        table.add_row(row.name, *cells)
    console = Console()
    console.print(table)
    console.print(
        f"{report.tested:,} {report.split} ratings, {report.trained:,} learned from; 95% bootstrap "
        "intervals",
        highlight=False,
    )
