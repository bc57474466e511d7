"""What the generator's stage `model` takes for a bundle: reranking and generating, by batch size.

To compare two commits, run it in both checkouts in turns, each with a bundle of its own:

    python -m bench.model_stage --bundle bundles/ml-100k/current --rounds 5
"""

import argparse
import time
from collections.abc import Hashable
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from bench.report import environment, write_report
from core.bundle import Bundle
from offline.evaluate.protocol import Question, questions
from services.generator.decoding.engine import Context, Generation, GeneratorEngine, Job, Query
from services.generator.decoding.providers import Compute

BATCHES = (1, 8)
SHORTLIST = 100
COUNT = 10
CALLS = 60


def main() -> None:
    """Prints the table."""
    arguments = _arguments()
    bundle = Bundle.open(arguments.bundle)
    compute = Compute(threads=arguments.threads)
    engine = GeneratorEngine.load(bundle, compute, arguments.precision)
    figures: dict[str, float] = {}
    table = Table("", "batch", "p50 ms", box=None)
    for kind in ("generate", "rerank"):
        for batch in BATCHES:
            times = [_round(engine, bundle, kind, batch) for _ in range(arguments.rounds)]
            p50 = float(np.median(np.concatenate(times)))
            figures[f"{kind}_b{batch}_p50_ms"] = p50
            table.add_row(kind, str(batch), f"{p50:.2f}")
    Console().print(table)
    write_report("model_stage", figures, environment())


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--bundle", type=Path, default=Path("bundles/ml-100k/current"))
    parser.add_argument("--precision", choices=("int8", "fp32"), default="int8")
    parser.add_argument("--threads", type=int, default=2, help="of ONNX Runtime")
    parser.add_argument("--rounds", type=int, default=3, help=f"of {CALLS} calls each")
    return parser.parse_args()


def _round(engine: GeneratorEngine, bundle: Bundle, kind: str, batch: int) -> list[float]:
    """Milliseconds of some runs of the model, each for other users of the bundle."""
    asked = questions(bundle, "test")
    rng = np.random.default_rng(0)
    taken = []
    for _ in range(CALLS):
        users = [asked[i] for i in rng.choice(len(asked), batch, replace=False)]
        jobs = [engine.prepare(_query(engine, kind, user, rng), engine.snapshot) for user in users]
        group: dict[Hashable, list[Job]] = {}
        for job in jobs:
            group.setdefault(job.group, []).append(job)
        started = time.perf_counter()
        for together in group.values():
            engine.run(together)
        taken.append((time.perf_counter() - started) * 1e3)
    return taken


def _query(engine: GeneratorEngine, kind: str, user: Question, rng: np.random.Generator) -> Query:
    context = Context(user.user, user.history)
    if kind == "generate":
        return Query(context, Generation(COUNT, None, user.history))
    items = rng.choice(len(engine.snapshot.codes), SHORTLIST, replace=False).astype(np.int32)
    return Query(context, shortlist=items)


if __name__ == "__main__":
    main()
