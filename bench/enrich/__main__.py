"""What generated item text is worth.

    python -m bench.enrich ml-100k --items enriched.parquet
    python -m bench.enrich --interactions beauty.csv.gz --items enriched.parquet --no-retrieval

Both arms have the same data: one with the items' own texts, one with the text that `tandem enrich`
added. `embedding` ranks by texts alone; `cold` leaves enriched items out of the fit and places them
in the query encoder's space by their texts alone, as a new item is placed; `retrieval` is the query
encoder, whose item vectors start from texts, trained for each arm. Test targets, seen items left
out. The differences are paired, with 95% intervals over users; where few items are enriched, only
questions whose targets are among them can move much, so they are shown by themselves.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import numpy as np
import rich.table
import typer
from rich.console import Console

from bench.enrich.arms import Arm, OwnTexts, built, embedded
from bench.enrich.measures import (
    Compared,
    cold_ranks,
    compare,
    embedding_ranks,
    retrieval_ranks,
    some,
)
from cli.support.data_options import ColumnOptions, DataOptions
from cli.support.option_groups import expanded
from cli.support.training_options import TrainingOptions
from offline.build.cache import StageCache

app = typer.Typer(add_completion=False)


def measured(own: Arm, enriched: Arm, trained: Arm | None) -> Iterator[Compared]:
    """All comparisons.

    Args:
        own: the arm with the items' own texts.
        enriched: the other, in the same query encoder's space.
        trained: the other with a query encoder of its own, if it has one.
    """
    asked, marked = own.data.holdout("test"), enriched.marked
    touched = some(asked, np.flatnonzero(np.isin(asked.targets, marked)))
    for name, part in (("all targets", asked), ("enriched targets", touched)):
        ranks = [embedding_ranks(arm, part) for arm in (own, enriched)]
        for metric in ("ndcg@10", "recall@100"):
            yield compare(f"embedding, {name}", metric, part.users, *ranks)
        if trained is not None:
            ranks = [retrieval_ranks(arm, part) for arm in (own, trained)]
            for metric in ("ndcg@10", "recall@100"):
                yield compare(f"retrieval, {name}", metric, part.users, *ranks)
    ranks = [cold_ranks(arm, touched, marked) for arm in (own, enriched)]
    yield compare("cold items", "recall@100", touched.users, *ranks)
    known = retrieval_ranks(own, touched)
    yield compare("cold items, against their own vectors", "recall@100", touched.users, known,
                  ranks[1])  # fmt: skip


@app.command()
@expanded
def main(
    data: DataOptions,
    training: TrainingOptions,
    columns: ColumnOptions,
    retrieval: Annotated[
        bool, typer.Option(help="Whether to train a second query encoder, on the enriched texts.")
    ] = True,
    work: Annotated[Path, typer.Option(help="Where stages are kept.")] = Path("build/work"),
) -> None:
    """Compare enriched item texts with the items' own."""
    console, source, config = Console(), data.source(columns), training.config()
    cache = StageCache(work, console)
    own = built(OwnTexts(source), config, cache)
    enriched = embedded(source, own, config)
    trained = built(source, config, cache) if retrieval else None
    share = len(enriched.marked) / len(own.data.items)
    console.print(f"{len(enriched.marked):,} items of {len(own.data.items):,} ({share:.1%})")
    table = rich.table.Table(
        "ranking", "metric", "questions", "own texts", "enriched", "difference", "95%", box=None
    )
    for row in measured(own, enriched, trained):
        gain = row.gain
        table.add_row(
            row.name, row.metric, f"{row.questions:,}", f"{row.own:.4f}", f"{row.enriched:.4f}",
            f"{gain.mean:+.4f}", f"{gain.low:+.4f} to {gain.high:+.4f}",
        )  # fmt: skip
    console.print(table)


if __name__ == "__main__":
    app()
