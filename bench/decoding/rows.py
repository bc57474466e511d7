"""Five rows of a page from one reading of a user, beside one row and beside five calls.

    python -m bench.decoding.rows --bundle bundles/ml-100k/current

Two models: T5-small's shape with random weights and codes of 4 tokens, whose rows are fifths of the
catalog; and a bundle's, whose rows are the most frequent values of an attribute, so that items are
in several of them. All sides take turns. A ratio is the median over turns of that of one turn.
"""

import os
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Final

import numpy as np
import typer

from bench.generator import NOTHING, PRECISIONS, make_subject, queries
from bench.lib.report import publish, run
from bench.lib.timing import times_in_turns
from core.bundle import Bundle
from core.catalog import Mask
from core.manifest import Precision
from services.generator.decoding.engine import (
    Generation,
    GeneratorEngine,
    RankingQuery,
    UserContext,
)
from services.generator.decoding.providers import Compute, multiplies_bytes

ROWS: Final = 5
ITEMS: Final = 10
"""Of a row."""
SIDES: Final = ("one", "rows", "calls")


def of_catalog(engine: GeneratorEngine) -> tuple[list[UserContext], list[Mask]]:
    """Random histories, and fifths of the catalog."""
    items = engine.snapshot.trie.items
    part = np.random.default_rng(0).integers(0, ROWS, items)
    return [query.context for query in queries(4, items)], [part == i for i in range(ROWS)]


def of_bundle(
    bundle: Bundle, attribute: str, engine: GeneratorEngine
) -> tuple[list[UserContext], list[Mask]]:
    """Users of a bundle, and the most frequent values of an attribute."""
    values = [item.attributes.get(attribute, ()) for item in engine.snapshot.catalog.items]
    common = Counter(value for each in values for value in each).most_common(ROWS)
    masks = [np.array([value in each for each in values]) for value, _ in common]
    histories = bundle.histories
    users = np.random.default_rng(0).choice(len(histories.user_index), 16, replace=False)
    return [
        UserContext(None, histories.items[histories.indptr[user] : histories.indptr[user + 1]])
        for user in users.tolist()
    ], masks


def measured(
    name: str,
    engine: GeneratorEngine,
    users: Sequence[UserContext],
    masks: Sequence[Mask],
    rounds: int,
) -> dict[str, float]:
    """Milliseconds of each side, and what they are to one row."""
    wishes = [
        [Generation(ITEMS, mask, user.history if len(user.history) else NOTHING) for mask in masks]
        for user in users
    ]
    asked = list(zip(users, wishes, strict=True))

    def one() -> None:
        for user, rows in asked:
            engine.answer([RankingQuery(user, rows[0])])

    def rows() -> None:
        for user, rows in asked:
            engine.answer([RankingQuery(user, rows=tuple(rows))])

    def calls() -> None:
        for user, rows in asked:
            for row in rows:
                engine.answer([RankingQuery(user, row)])

    sides: Mapping[str, Callable[[], object]] = {"one": one, "rows": rows, "calls": calls}
    turns = times_in_turns(sides, rounds, name)
    figures = {f"ms_{side}_{name}": turns.median(side, float) / len(asked) for side in SIDES}
    return figures | {f"ratio_{side}_{name}": turns.ratio(side, "one", float) for side in SIDES[1:]}


def main(
    bundle: Annotated[Path, typer.Option(help="A bundle whose items have the attribute.")] = Path(
        "bundles/ml-100k/current"
    ),
    attribute: Annotated[str, typer.Option(help="Whose values are rows.")] = "genre",
    threads: Annotated[int, typer.Option(help="0 means one per core.")] = 0,
    rounds: Annotated[int, typer.Option(help="Turns of each side.")] = 5,
) -> None:
    """Measure what rows cost."""
    threads = threads or len(os.sched_getaffinity(0))
    compute = Compute(threads=threads)
    precisions: Sequence[Precision] = PRECISIONS if multiplies_bytes() else PRECISIONS[:1]
    opened = Bundle.open(bundle, verify=False)
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as directory:
        subject = make_subject(Path(directory))
        for precision in precisions:
            engine = GeneratorEngine.load(subject.bundle, compute, precision)
            figures |= measured(f"t5_{precision}", engine, *of_catalog(engine), rounds)
            engine = GeneratorEngine.load(opened, compute, precision)
            find = partial(of_bundle, opened, attribute)
            figures |= measured(f"bundle_{precision}", engine, *find(engine), rounds)
    publish(
        "decoding.rows", figures, table(precisions), precision=" and ".join(precisions),
        caches="warm", threads=threads, bundle=opened.version,
    )  # fmt: skip


def table(precisions: Sequence[Precision]) -> list[list[str]]:
    """A line a model and precision."""
    names = {"t5": "T5-small, codes of 4 tokens", "bundle": "the bundle's"}
    return [
        ["", "one row, ms", "five rows, ms", "times one", "five calls, times one"],
        *(
            [
                f"{name}, {precision}",
                f"{{ms_one_{key}_{precision}:.1f}}",
                f"{{ms_rows_{key}_{precision}:.1f}}",
                f"{{ratio_rows_{key}_{precision}:.2f}}",
                f"{{ratio_calls_{key}_{precision}:.2f}}",
            ]
            for key, name in names.items()
            for precision in precisions
        ),
    ]


if __name__ == "__main__":
    run(main)
