"""Scores of the validation items, and ranks of the test items: what models say, block by block."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from bench.prove.arms import ARMS, COUNTED, SOURCES, Fitted, candidates
from bench.prove.models import Models
from bench.prove.scorers import Scores, read_scorers
from bench.results.files import write_array
from offline.blend.sources import padded
from offline.blend.validation import MOST_USERS
from offline.dataset import Dataset, Holdout
from offline.evaluate.protocol import RANKINGS, sample
from offline.metrics import ranks_from_scores
from offline.training import deadline

ROWS: Final = (*SOURCES, *ARMS)
"""What is ranked by: each source alone, and each arm."""
BLOCK: Final = 256
"""Questions that are scored, and written, at once: no array has all items of all of them."""
_SCORED: Final = ("query_encoder", *COUNTED, "second_encoder", *SOURCES[3:])
"""The sources of the validation items' scores, in the order in which they are kept."""

Gather = Callable[[Holdout], NDArray[np.float32]]


def write_validation(models: Models, data: Dataset, max_history: int, out: Path) -> None:
    """Scores what weights are fitted on: at most as many questions as a blend is.

    Args:
        models: of one seed.
        data: what they were trained on.
        max_history: newest items that a generator reads.
        out: where to; what is there already is kept.

    Raises:
        ValueError: nobody has enough interactions.
        OutOfTime: before a block.
    """
    every = data.holdout("validation")
    if not len(every.users):
        raise ValueError(f"no user has more than {data.tested + 1} interactions to test on")
    scorers = read_scorers(models, data, max_history, COUNTED)

    def gather(part: Holdout) -> NDArray[np.float32]:
        scores = [scorers[name].scores(part.histories) for name in _SCORED]
        return padded(list(candidates(scores, part.histories, part.targets)))

    asked = _some(every, sample(every.histories, MOST_USERS))
    _in_blocks("Scoring validation items", asked, gather, out)


def write_ranks(models: Models, data: Dataset, max_history: int, fitted: Fitted, out: Path) -> None:
    """Ranks the test items by every source and arm; as `write_validation`, with weights."""
    scorers = read_scorers(models, data, max_history, {"transitions": fitted.recency})

    def gather(part: Holdout) -> NDArray[np.float32]:
        scores = {name: scorers[name].scores(part.histories) for name in SOURCES}
        return _ranks(scores, fitted, part)

    _in_blocks("Ranking test items", data.holdout("test"), gather, out)


def read_ranks(directory: Path) -> NDArray[np.float32]:
    """What `write_ranks` wrote, float32 [questions, rows, rankings]: by `ROWS` and `RANKINGS`."""
    return np.concatenate(list(_read_blocks(directory)))


def _ranks(scores: dict[str, Scores], fitted: Fitted, asked: Holdout) -> NDArray[np.float32]:
    """float32 [questions, rows, rankings]; see `read_ranks`.

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


def read_pool(directory: Path) -> dict[str, Scores]:
    """The scores that weights are fitted on, by source."""
    rows = [row for block in _read_blocks(directory) for row in block]
    return dict(zip(_SCORED, np.moveaxis(padded(rows), -1, 0), strict=True))


def _some(asked: Holdout, places: Sequence[int]) -> Holdout:
    """Some of the questions, by their places."""
    chosen = np.asarray(places, dtype=np.int64)
    return Holdout(asked.users[chosen], [asked.histories[i] for i in places], asked.targets[chosen])
