"""Beside busy neighbors: how soon the services answer, and how long a step of training takes.

    python -m bench.busy --bundle bundles/ml-100k/current

Once on quiet cores, then beside one endless loop for each core, of the usual niceness. Services are
started as `tandem serve all` starts them; their first whole answer is counted from then on, for a
caller who tries again at once, and each of the calls after it has two seconds. What is trained is a
query encoder of the demo's size, on sequences by chance. With half of each core a step may take
twice as long, and twice that for what neighbors take from the caches and from waiting threads.
"""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Annotated, Final

import numpy as np
import torch
import typer

from bench.lib.report import Figures, publish, run, served_precision
from bench.lib.timing import timed
from core.bundle import Bundle
from offline.evaluate.served import serving
from offline.query_encoder.batches import Batch, epoch_batches
from offline.query_encoder.config import QueryEncoderConfig
from offline.query_encoder.model import QueryModel
from tandem import Client, Error

CALLS: Final = 50
DEADLINE: Final = 2.0
MOST_SECONDS: Final = 120.0
STEPS: Final = 30
USERS, ITEMS, LENGTH = 943, 1_349, 100
TABLE: Final = (
    ("beside one busy loop a core", "quiet", "busy"),
    ("the services' first whole answer, s", "{quiet_answer_s:.1f}", "{busy_answer_s:.1f}"),
    ("the slowest of the next 50 calls, ms", "{quiet_slowest_ms:.0f}", "{busy_slowest_ms:.0f}"),
    ("of them failed, or degraded", "{quiet_failed}", "{busy_failed}"),
    ("a step of training, ms", "{quiet_step_ms:.0f}", "{busy_step_ms:.0f}"),
)


@contextmanager
def neighbors(count: int) -> Iterator[None]:
    """So many busy processes."""
    command = [sys.executable, "-c", "while True: pass"]
    loops = [subprocess.Popen(command) for _ in range(count)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def measure_services(bundle: Path) -> Figures:
    """How soon they answer, and how the first calls go."""
    user_id = next(iter(Bundle.open(bundle, verify=False).histories.user_index))
    started = time.perf_counter()
    with serving(bundle) as addresses, Client(addresses["gateway"]) as client:

        def answered() -> bool:
            try:
                return not client.recommend(user_id, timeout=DEADLINE).degraded
            except Error:
                return False

        while not answered():
            if time.perf_counter() - started > MOST_SECONDS:
                raise TimeoutError(f"no whole answer came within {MOST_SECONDS:.0f} s")
        first = time.perf_counter() - started
        calls = [timed(answered) for _ in range(CALLS)]
    slowest, whole = max(ms for _, ms in calls), sum(ok for ok, _ in calls)
    return {"answer_s": first, "slowest_ms": slowest, "failed": CALLS - whole}


def measure_training() -> Figures:
    """The median step, batches in the order of an epoch."""
    rng, config = np.random.default_rng(0), QueryEncoderConfig()
    model = QueryModel(config, rng.normal(size=(ITEMS, config.dimension)).astype(np.float32))
    optimizer = torch.optim.AdamW(model.parameters())
    sequences = [rng.integers(0, ITEMS, LENGTH).astype(np.int32) for _ in range(USERS)]

    def step(batch: Batch) -> None:
        optimizer.zero_grad()
        torch.autograd.backward([model.loss(batch)])
        optimizer.step()

    batches = islice(epoch_batches(sequences, config.max_history, 1_600, rng), STEPS)
    taken = [timed(partial(step, batch))[1] for batch in batches]
    return {"step_ms": statistics.median(taken[STEPS // 5 :])}


def main(
    bundle: Annotated[Path, typer.Option(help="What is served.")] = Path("bundles/ml-100k/current"),
) -> None:
    """Measure starting services, and training, beside busy neighbors."""
    figures: dict[str, float | int] = {}
    for name, loops in {"quiet": 0, "busy": os.cpu_count() or 1}.items():
        with neighbors(loops):
            found = {**measure_training(), **measure_services(bundle)}
        figures |= {f"{name}_{figure}": value for figure, value in found.items()}
    precision = served_precision(Bundle.open(bundle, verify=False))
    publish("busy", figures, TABLE, precision=precision, caches="warm files, cold processes")


if __name__ == "__main__":
    run(main)
