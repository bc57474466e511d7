"""The generator service when callers come at the same time: what batching brings.

    python -m bench.batching --help

Two servers of the same bundle, one that batches and one that does not, are real processes on this
machine, called by ghz in turns: by one caller, and by 32. Callers share the machine with the
servers, whose figures would be better without them. The bundle is that of `bench.generator`.
"""

import tempfile
from functools import partial
from pathlib import Path
from typing import Annotated, Final

import numpy as np
import typer

from bench.generator import make_subject
from bench.lib.ghz import RATE, Load, Run, find_ghz
from bench.lib.report import publish, run, served_precision
from bench.lib.requests import Requests, write
from bench.lib.stack import serving
from bench.lib.timing import in_turns
from core.bundle import Bundle

CALLERS: Final = (1, 32)
REQUESTS: Final = 512
ROUNDS: Final = 3
GENERATE: Final = "tandem.v1.GeneratorService.Generate"
TABLE: Final = (
    ("`Generate`, calls/s", "one at a time", "batched", "gain"),
    *(
        (
            f"{n} caller{'s' * (n > 1)}",
            f"{{one_at_a_time_{n}_callers_calls_per_second:.1f}}",
            f"{{batched_{n}_callers_calls_per_second:.1f}}",
            f"{{throughput_gain_{n}_callers:.2f}}",
        )
        for n in CALLERS
    ),
)
_PATIENT: Final = ("--max-queue", "1024", "--max-queue-ms", "60000")
"""Nothing is shed: the callers are as many as they are, and wait."""


def measure_batching(
    bundle: Path,
    seconds: float,
    *,
    threads: int = 0,
    max_batch: int = 8,
    rounds: int = ROUNDS,
) -> dict[str, float]:
    """Measures `Generate` with and without batching, for each number of callers.

    Args:
        bundle: the directory of a whole bundle; its generator is served.
        seconds: that a turn lasts.
        threads: of each server; 0 means one per core.
        max_batch: of the server that batches.
        rounds: turns of each server.

    Returns:
        For each number of callers, calls a second and latencies of both servers, and
        `throughput_gain`: the median over rounds of the ratio of their calls a second.

    Raises:
        ChildProcessError: a server did not start.
        GhzError: ghz is missing, or calls failed.
    """
    file = write("generate", mixed_requests(Bundle.open(bundle, verify=False)))
    server = partial(serving, "generator", bundle, "--threads", str(threads), *_PATIENT)
    figures: dict[str, float] = {}
    with server("--max-batch", "1") as one, server("--max-batch", str(max_batch)) as many:
        for callers in CALLERS:
            load = Load(GENERATE, file, seconds, callers=callers)
            sides = {"one_at_a_time": one.address, "batched": many.address}
            turns = in_turns({name: partial(load.run, at) for name, at in sides.items()}, rounds)
            figures |= turns.medians(f"{callers}_callers_calls_per_second", RATE)
            for percent in (50, 99):
                figures |= turns.medians(
                    f"{callers}_callers_p{percent}_ms", partial(Run.percentile, percent=percent)
                )
            gain = turns.ratio("batched", "one_at_a_time", RATE)
            figures[f"throughput_gain_{callers}_callers"] = gain
    return figures


def mixed_requests(bundle: Bundle, count: int = REQUESTS, seed: int = 0) -> Requests:
    """Random histories of every length that the bundle's prompts have room for."""
    rng = np.random.default_rng(seed)
    longest = bundle.manifest.generator.max_history
    requests: Requests = []
    for length in rng.integers(1, longest + 1, count):
        history = bundle.catalog.ids(rng.integers(0, len(bundle.catalog), length).tolist())
        requests.append({"context": {"history_item_ids": list(history)}})
    return requests


def main(
    seconds: Annotated[float, typer.Option(help="That a turn lasts.")] = 2.0,
    threads: Annotated[int, typer.Option(help="Of each server; 0 means one per core.")] = 0,
) -> None:
    """Measure what batching brings."""
    find_ghz()
    with tempfile.TemporaryDirectory() as directory:
        bundle = make_subject(Path(directory)).bundle
        figures = measure_batching(bundle.path, seconds, threads=threads)
    publish(
        "batching", figures, TABLE, precision=served_precision(bundle), caches="warm",
        threads=threads, load_generator="ghz, on this machine",
    )  # fmt: skip


if __name__ == "__main__":
    run(main)
