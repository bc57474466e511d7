"""What a build reaches that goes on from a bundle, beside one that starts from nothing.

    python -m bench.prove.warm --bundle bundles/shop/current --name shop --interactions today.csv --items products.csv

The bundle is one of earlier data, such as the first nine tenths by time. Both builds are of today's
data, up to the generator; each model alone is asked for the validation and the test items of every
user, of all items that the user has not had. Differences are paired by user.
"""  # noqa: E501 - a command is one line

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from bench.prove.scorers import GeneratorScorer, QueryEncoderScorer, Scorer
from cli.support.data_options import ColumnOptions, DataOptions
from cli.support.option_groups import expanded
from cli.support.training_options import TrainingOptions
from offline.bootstrap import Difference
from offline.build.cache import StageCache
from offline.build.pipeline import Pipeline
from offline.build.stage import BuildRequest
from offline.dataset import Dataset
from offline.dataset.split import Split
from offline.metrics import gains, ranks_from_scores
from offline.warm.shape import warm_start

METRICS = ("hr@10", "ndcg@10")
SPLITS: tuple[Split, ...] = ("validation", "test")
STAGES = ("query-encoder", "generator")
app = typer.Typer(add_completion=False)

Gains = dict[tuple[str, Split, str], NDArray[np.float64]]
"""By stage, split and metric, float64 [users]."""


@dataclass(frozen=True)
class Trained:
    """What one build came to."""

    gains: Gains
    seconds: dict[str, float]
    """By stage; next to nothing where it was built before."""
    curve: dict[str, float]
    """The generator's NDCG@10 on validation, by epoch."""


def build(request: BuildRequest, cache: StageCache) -> Trained:
    """Builds up to the generator, and asks both models."""
    pipeline, seconds = Pipeline(request, cache), {}
    for stage in STAGES:
        pipeline.stage("codes" if stage == "generator" else "embeddings")
        started = time.monotonic()
        pipeline.stage(stage)
        seconds[stage] = time.monotonic() - started
    paths = {stage: pipeline.stage(stage).path for stage in ("dataset", *STAGES)}
    data = Dataset.load(paths["dataset"])
    longest = request.config.generator.max_history
    scorers: dict[str, Scorer] = {
        "query-encoder": QueryEncoderScorer.read(paths["query-encoder"]),
        "generator": GeneratorScorer.read(paths["generator"], data, longest),
    }
    found = {key: values for name in STAGES for key, values in asked(name, scorers[name], data)}
    facts = json.loads((paths["generator"] / "facts.json").read_text(encoding="utf-8"))
    return Trained(found, seconds, facts["curve"])


def asked(
    name: str, scorer: Scorer, data: Dataset
) -> Iterator[tuple[tuple[str, Split, str], NDArray[np.float64]]]:
    """What a model gains of each user."""
    for split in SPLITS:
        holdout = data.holdout(split)
        scores = scorer.scores(holdout.histories)
        ranks = ranks_from_scores(scores, holdout.targets, seen=holdout.histories)
        for metric in METRICS:
            yield (name, split, metric), gains(metric, ranks)


def print_comparison(cold: Trained, warm: Trained, console: Console) -> None:
    """The table, and what both took."""
    table = Table("model", "split", "metric", "from nothing", "warm", "difference (95%)", box=None)
    for (name, split, metric), ours in warm.gains.items():
        theirs = cold.gains[name, split, metric]
        apart = Difference.between(ours, theirs)
        interval = f"{apart.mean:+.4f} ({apart.low:+.4f} to {apart.high:+.4f})"
        means = (f"{theirs.mean():.4f}", f"{ours.mean():.4f}")
        table.add_row(name, split, metric, *means, interval)
    console.print(table)
    for title, trained in (("from nothing", cold), ("warm", warm)):
        took = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in trained.seconds.items())
        curve = ", ".join(f"{epoch}: {ndcg:.4f}" for epoch, ndcg in trained.curve.items())
        console.print(f"{title}: {took}; the generator's curve {curve}", highlight=False)


@app.command()
@expanded
def main(
    data: DataOptions,
    training: TrainingOptions,
    columns: ColumnOptions,
    bundle: Annotated[Path, typer.Option(help="Of earlier data.")],
    work: Annotated[Path, typer.Option(help="Where stages are kept.")] = Path("build/work"),
) -> None:
    """Compare a build that goes on from a bundle with one from nothing."""
    console, source = Console(), data.source(columns)
    cache, config = StageCache(work, console), training.config()
    request = BuildRequest(source, config, source.name)
    gentler = training.shortened(config)
    warm = replace(request, config=gentler, warm=warm_start(bundle, gentler))
    print_comparison(build(request, cache), build(warm, cache), console)


if __name__ == "__main__":
    app()
