"""What the generator's stage `model` takes for a bundle: reranking and generating, by batch size.

To compare two commits, run it in both checkouts in turns, each with a bundle of its own:

    python -m bench.model_stage --bundle bundles/ml-100k/current --rounds 5
"""

from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Annotated, Final

import numpy as np
import typer

from bench.lib.report import publish, run
from bench.lib.timing import timed
from core.bundle import Bundle
from core.manifest import Precision
from offline.evaluate.protocol import Question, questions
from services.generator.decoding.engine import (
    DecodingJob,
    Generation,
    GeneratorEngine,
    RankingQuery,
    UserContext,
)
from services.generator.decoding.providers import Compute

BATCHES: Final = (1, 8)
SHORTLIST: Final = 100
COUNT: Final = 10
CALLS: Final = 60


def times_of_runs(
    engine: GeneratorEngine, asked: Sequence[Question], kind: str, batch: int
) -> list[float]:
    """Milliseconds of some runs of the model, each for other users of the bundle."""
    rng = np.random.default_rng(0)
    taken = []
    for _ in range(CALLS):
        users = [asked[i] for i in rng.choice(len(asked), batch, replace=False)]
        groups: dict[Hashable, list[DecodingJob]] = {}
        for user in users:
            job = engine.prepare(_query(engine, kind, user, rng))
            groups.setdefault(job.group, []).append(job)
        taken.append(timed(lambda g=groups: [engine.run(jobs) for jobs in g.values()])[1])  # type: ignore[misc]
    return taken


def _query(
    engine: GeneratorEngine, kind: str, user: Question, rng: np.random.Generator
) -> RankingQuery:
    context = UserContext(user.user, user.history)
    if kind == "generate":
        return RankingQuery(context, Generation(COUNT, None, user.history))
    items = rng.choice(len(engine.snapshot.codes), SHORTLIST, replace=False).astype(np.int32)
    return RankingQuery(context, shortlist=items)


def main(
    bundle: Annotated[Path, typer.Option(help="Whose generator.")] = Path(
        "bundles/ml-100k/current"
    ),
    precision: Annotated[Precision, typer.Option(help="Of the model.")] = "int8",
    threads: Annotated[int, typer.Option(help="Of ONNX Runtime.")] = 2,
    rounds: Annotated[int, typer.Option(help=f"Of {CALLS} runs each.")] = 3,
) -> None:
    """Measure the generator's model."""
    opened = Bundle.open(bundle)
    engine = GeneratorEngine.load(opened, Compute(threads=threads), precision)
    asked = questions(opened, "test")
    figures = {
        f"{kind}_b{batch}_p50_ms": float(
            np.median([times_of_runs(engine, asked, kind, batch) for _ in range(rounds)])
        )
        for kind in ("generate", "rerank")
        for batch in BATCHES
    }
    publish("model_stage", figures, bundle=opened.version, precision=precision, threads=threads)


if __name__ == "__main__":
    run(main)
