"""`make bench-generator`: the decoding engine against `transformers`, CTranslate2 and itself.

    python -m bench.generator --help

All sides compute with the same weights, inputs and number of threads, and take turns, so that a
drifting machine slows them all. A ratio is the median over rounds of the ratio of one round's
times. CTranslate2 searches without any constraint, which is less work.
"""

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Final

import numpy as np
import torch
import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from bench.gemm import gemm_rate, multiplications
from bench.generator_load import measure_load
from bench.report import environment, write_report
from bench.subjects import (
    BEAMS,
    ITEMS,
    LEVELS,
    PROMPT_TOKENS,
    SHAPE,
    VOCABULARY,
    CTranslate2,
    Subject,
    larger_catalog,
    make_subject,
    queries,
)
from core.bundle import Bundle
from core.manifest import Precision
from offline.build.precision import measure_loss
from offline.build.precision import questions as precision_questions
from offline.generator.export.parity import reference
from services.generator.decoding.engine import GeneratorEngine
from services.generator.decoding.providers import Compute

BIG: Final = 1_000_000
EXCLUDED: Final = 10_000
PRECISIONS: Final[tuple[Precision, ...]] = ("fp32", "int8")

Work = Callable[[], object]
Figures = dict[str, float]


def seconds(work: Work) -> float:
    """How long a call takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


class Turns:
    """Times of several sides that took turns."""

    def __init__(self, sides: Mapping[str, Work], rounds: int, label: str) -> None:
        for work in sides.values():
            work()  # warm
            work()
        self._times = [
            {name: seconds(work) for name, work in sides.items()}
            for _ in track(range(rounds), label, transient=True)
        ]

    def ms(self, side: str) -> float:
        """The median time of a side."""
        return statistics.median(times[side] for times in self._times) * 1e3

    def ratio(self, slow: str, fast: str) -> float:
        """The median over rounds of how many times longer one side takes than another."""
        return statistics.median(times[slow] / times[fast] for times in self._times)


def against_others(
    subject: Subject, engines: Mapping[Precision, GeneratorEngine], threads: int, rounds: int
) -> Figures:
    """Batches of 1 and 8, in both precisions, against both libraries."""
    figures: Figures = {}
    columns = [f"{name}\n{p}" for name in ("CTranslate2", "Tandem") for p in PRECISIONS]
    table = Table("T5-small's\nshape, ms", "transformers\nfp32", *columns)
    with tempfile.TemporaryDirectory() as directory:
        others = {
            precision: CTranslate2(subject, Path(directory) / precision, precision, threads)
            for precision in PRECISIONS
        }
        for batch in (1, 8):
            asked = queries(batch)
            snapshot = engines["fp32"].snapshot
            prompts = [engines["fp32"].render(query.context, snapshot) for query in asked]
            sides: dict[str, Work] = {
                "transformers": lambda a=asked: reference(engines["fp32"], subject.model, a),  # type: ignore[misc]
                **{f"ct2_{p}": lambda o=others[p], x=prompts: o.generate(x) for p in PRECISIONS},  # type: ignore[misc]
                **{p: lambda e=engines[p], a=asked: e.generate(a) for p in PRECISIONS},  # type: ignore[misc]
            }
            turns = Turns(sides, rounds, f"batch {batch}")
            table.add_row(f"batch {batch}", *(f"{turns.ms(side):.1f}" for side in sides))
            figures |= {f"ms_{side}_b{batch}": turns.ms(side) for side in sides}
            figures[f"speedup_vs_transformers_b{batch}"] = turns.ratio("transformers", "int8")
            figures[f"speedup_fp32_vs_transformers_b{batch}"] = turns.ratio("transformers", "fp32")
            for precision in PRECISIONS:
                figures[f"speedup_vs_ctranslate2_{precision}_b{batch}"] = turns.ratio(
                    f"ct2_{precision}", precision
                )
    Console().print(table)
    return figures


def against_the_machine(
    engines: Mapping[Precision, GeneratorEngine], compute: Compute, rounds: int
) -> Figures:
    """What share of a plain matrix product's speed the whole search reaches, at batch 8."""
    figures: Figures = {}
    asked = queries(8)
    work = multiplications(SHAPE, VOCABULARY, PROMPT_TOKENS, LEVELS, BEAMS, batch=8)
    for precision in PRECISIONS:
        engine = engines[precision]
        engine.generate(asked)
        best = gemm_rate(precision, compute)
        times = [seconds(lambda e=engine: e.generate(asked)) for _ in range(rounds)]  # type: ignore[misc]
        rate = 2 * work / statistics.median(times) / 1e9
        figures[f"gflops_{precision}_b8"] = rate
        figures[f"gflops_gemm_{precision}"] = best
        figures[f"gemm_fraction_{precision}"] = rate / best
    figures["gemm_fraction"] = figures["gemm_fraction_int8"]
    return figures


def against_itself(subject: Subject, engine: GeneratorEngine, rounds: int) -> Figures:
    """What a catalog of a million items costs, and what a request's limits do."""
    big = GeneratorEngine(engine.parts, larger_catalog(subject, BIG))
    rng = np.random.default_rng(0)
    denied = rng.integers(0, BIG, EXCLUDED).astype(np.int32)
    hundredth = rng.random(BIG) < 0.01
    free, excluding, filtering = (
        queries(1, BIG),
        queries(1, BIG, denied=denied),
        queries(1, BIG, allowed=hundredth),
    )
    plain = queries(1)
    turns = Turns(
        {
            "small": lambda: engine.generate(plain),
            "big": lambda: big.generate(free),
            "excluding": lambda: big.generate(excluding),
            "filtering": lambda: big.generate(filtering),
        },
        3 * rounds,
        "catalog",
    )
    table = Table("one call, ms", f"{ITEMS:,} items", f"{BIG:,}", "10,000 excluded", "1% allowed")
    table.add_row(
        "int8", *(f"{turns.ms(s):.1f}" for s in ("small", "big", "excluding", "filtering"))
    )
    Console().print(table)
    return {
        "latency_ratio_1m_items": turns.ratio("big", "small"),
        "trie_1m_bytes": big.snapshot.trie.nbytes,
        "latency_ratio_exclude_10k": turns.ratio("excluding", "big"),
        "latency_ratio_filter_1pct": turns.ratio("filtering", "big"),
    }


def quality(path: Path) -> Figures:
    """What 8-bit products cost on real data."""
    if not path.exists():
        Console().print(f"[yellow]{path} is not there: run `make demo`; int8's loss not measured")
        return {}
    bundle = Bundle.open(path, verify=False)
    loss = measure_loss(bundle, "int8", precision_questions(bundle))
    Console().print(
        f"int8 on {bundle.manifest.provenance.dataset}: NDCG@10 {loss.ndcg:.4f}, fp32 "
        f"{loss.ndcg_fp32:.4f}: {loss.relative_loss:+.2%} ± {loss.half_width:.2%} lost over "
        f"{loss.questions} rankings"
    )
    return {
        "int8_ndcg_relative_loss": loss.relative_loss,
        "int8_ndcg_relative_loss_half_width": loss.half_width,
    }


def main(
    threads: Annotated[int, typer.Option(help="Of all sides; 0 means one per core.")] = 0,
    rounds: Annotated[int, typer.Option(help="Turns of each side.")] = 7,
    spin: Annotated[bool, typer.Option(help="As `tandem serve generator --spin`.")] = True,
    bundle: Annotated[
        Path, typer.Option(help="Of real data, on which int8 is compared with fp32.")
    ] = Path("bundles/ml-100k/current"),
    load_seconds: Annotated[float, typer.Option(help="Of each load on a real server.")] = 10.0,
) -> None:
    """Measure the generator engine."""
    threads = threads or len(os.sched_getaffinity(0))
    torch.set_num_threads(threads)
    compute = Compute(threads=threads, spin=spin)
    with tempfile.TemporaryDirectory() as directory:
        subject = make_subject(Path(directory))
        engines = {precision: subject.engine(precision, compute) for precision in PRECISIONS}
        figures = against_others(subject, engines, threads, rounds)
        figures |= against_the_machine(engines, compute, rounds)
        figures |= against_itself(subject, engines["int8"], rounds)
        del engines
        figures |= measure_load(subject.bundle.path, load_seconds)
    figures |= quality(bundle)
    rounded = {name: round(value, 4) for name, value in figures.items()}
    table = Table("figure", "value")
    for name, value in rounded.items():
        table.add_row(name, f"{value:g}")
    Console().print(table)
    facts = {**environment(), "threads": threads, "spin": int(spin)}
    Console().print(f"written to {write_report('generator', rounded, facts)}")


if __name__ == "__main__":
    typer.run(main)
