"""Writing text beside `transformers` and CTranslate2, and beside itself one text at a time.

    python -m bench.text --help

T5-small's shape, prompts of 96 tokens, texts of 32, greedy, random weights. All sides compute with
the same weights, inputs and number of threads, and take turns; none may end a text early. A ratio
is the median over rounds of the ratio of one round's figures. CTranslate2 is measured where it is
installed (the extra `bench`).
"""

import importlib.util
import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final

import numpy as np
import torch
import typer
from transformers.generation.streamers import BaseStreamer

from bench.generator import MODEL, CTranslate2, make_catalog
from bench.lib.random_model import RandomModel, Subject, code_texts, random_levels
from bench.lib.report import publish, run
from bench.lib.timing import Turns, in_turns
from core.manifest import Precision
from services.generator.decoding.engine import GeneratorEngine
from services.generator.decoding.providers import Compute, multiplies_bytes
from services.generator.text.engine import TextEngine, TextJob

ITEMS: Final = 100
BATCHES: Final = (1, 8)
TOKENS: Final = 32
PRECISIONS: Final[tuple[Precision, ...]] = ("fp32", "int8")
SHAPE: Final[RandomModel] = replace(MODEL, text_tokens=TOKENS, precisions=PRECISIONS)

Prompts = Sequence[Sequence[int]]
Seconds = Callable[[], float]
"""A clock."""


@dataclass(frozen=True)
class Written:
    """A batch of texts of equal length."""

    first: float
    """Seconds to the first tokens."""
    seconds: float
    """To the last ones."""
    tokens: int
    """Of all texts."""

    @property
    def rate(self) -> float:
        """Tokens a second."""
        return self.tokens / self.seconds


class Streamer(BaseStreamer):
    """Notes when the first tokens come: what `transformers` tells its streamers first is the
    prompt."""

    def __init__(self, clock: Seconds) -> None:
        self.clock, self.started = clock, clock()
        self.told: list[float] = []

    def put(self, value: torch.Tensor) -> None:  # noqa: ARG002 - the library's signature
        """Is told of each step's tokens."""
        self.told.append(self.clock() - self.started)

    def end(self) -> None:
        """Is told of the end."""


def by_tandem(
    engine: TextEngine, subject: GeneratorEngine, prompts: Prompts, clock: Seconds
) -> Written:
    """In one batch of the engine, without the queue and the server around it."""
    jobs = [TextJob(subject.snapshot, prompt, TOKENS) for prompt in prompts]
    started = clock()
    engine.change([], jobs, engine.encode(jobs))
    engine.step()
    first = clock() - started
    for _ in range(TOKENS - 1):
        engine.step()
    return Written(first, clock() - started, TOKENS * len(prompts))


def by_transformers(model: Any, prompts: Prompts, clock: Seconds) -> Written:
    """`generate`; only a batch of one may be streamed, so the others get no time to the first."""
    streamer = Streamer(clock) if len(prompts) == 1 else None
    started = clock()
    written = model.generate(
        torch.tensor(prompts),
        max_new_tokens=TOKENS,
        min_new_tokens=TOKENS,
        do_sample=False,
        num_beams=1,
        streamer=streamer,
    )
    seconds = clock() - started
    if written.shape[1] != TOKENS + 1:
        raise RuntimeError(f"wrote {written.shape[1] - 1} tokens instead of {TOKENS}")
    first = streamer.told[1] if streamer else float("nan")
    return Written(first, seconds, TOKENS * len(prompts))


def sides(
    subject: Subject,
    engines: Mapping[Precision, GeneratorEngine],
    others: Mapping[Precision, CTranslate2],
    batch: int,
    clock: Seconds,
) -> dict[str, Callable[[], Written]]:
    """Who writes."""
    rng = np.random.default_rng(1)
    prompts = rng.integers(100, 1_000, (batch, MODEL.prompt_tokens)).tolist()
    found: dict[str, Callable[[], Written]] = {
        "transformers": partial(by_transformers, subject.model, prompts, clock),
    }
    for precision, other in others.items():
        found[f"ctranslate2_{precision}"] = partial(by_ctranslate2, other, prompts, clock)
    for precision, engine in engines.items():
        found[precision] = partial(by_tandem, TextEngine(engine.parts), engine, prompts, clock)
    return found


def by_ctranslate2(other: CTranslate2, prompts: Prompts, clock: Seconds) -> Written:
    """Greedy search, streamed to know when the first token comes."""
    started, told = clock(), list[float]()

    def tell(_: object) -> bool:
        told.append(clock() - started)
        return False

    other.write([list(prompt) for prompt in prompts], TOKENS, tell)
    seconds = clock() - started
    return Written(min(told, default=float("nan")), seconds, TOKENS * len(prompts))


def figures_of(turns: Turns[Written], batch: int) -> dict[str, float]:
    """Tokens a second, milliseconds to the first, and how many times those of the others."""
    found = {}
    for side in turns.sides:
        found[f"tokens_per_s_{side}_b{batch}"] = turns.median(side, lambda w: w.rate)
        found[f"first_ms_{side}_b{batch}"] = 1e3 * turns.median(side, lambda w: w.first)
    for precision in set(PRECISIONS) & turns.sides.keys():
        for other in turns.sides.keys() & {"transformers", f"ctranslate2_{precision}"}:
            ratio = turns.ratio(precision, other, lambda w: w.rate)
            found[f"speedup_{precision}_vs_{other}_b{batch}"] = ratio
    return found


def main(
    threads: Annotated[int, typer.Option(help="Of all sides; 0 means one per core.")] = 0,
    rounds: Annotated[int, typer.Option(help="Turns of each side.")] = 5,
    processor_time: Annotated[
        bool,
        typer.Option(
            "--processor-time",
            help="Count the processor's seconds: for a busy machine, with one thread.",
        ),
    ] = False,
    spin: Annotated[bool, typer.Option(help="As `tandem serve generator --spin`.")] = False,
) -> None:
    """Measure how fast text is written."""
    clock = time.process_time if processor_time else time.perf_counter
    threads = threads or len(os.sched_getaffinity(0))
    torch.set_num_threads(threads)
    compute, figures = Compute(threads=threads, spin=spin), dict[str, float]()
    # Without VNNI 8-bit products saturate, and are served by nobody.
    precisions = PRECISIONS if multiplies_bytes() else PRECISIONS[:1]
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        levels = random_levels(SHAPE.widths, ITEMS)
        subject = SHAPE.export(directory, make_catalog(ITEMS), code_texts(levels))
        engines = {p: GeneratorEngine.load(subject.bundle, compute, p) for p in precisions}
        others: dict[Precision, CTranslate2] = {}
        if importlib.util.find_spec("ctranslate2"):
            others = {p: CTranslate2(subject, directory / p, p, threads) for p in precisions}
        for batch in BATCHES:
            found = sides(subject, engines, others, batch, clock)
            turns = in_turns(found, rounds, f"batch {batch}")
            figures |= figures_of(turns, batch)
    publish(
        "text", figures, table(list(turns.sides)), precision=" and ".join(precisions),
        caches="warm", threads=threads, spin=int(spin),
        clock=clock.__name__,
    )  # fmt: skip


def table(found: Sequence[str]) -> list[list[str]]:
    """Tokens a second, and milliseconds to the first, of each side."""
    names = {"transformers": "`transformers` fp32"}
    for precision in PRECISIONS:
        names |= {precision: f"Tandem {precision}"}
        names |= {f"ctranslate2_{precision}": f"CTranslate2 {precision}"}
    rows = [["", *(names[side] for side in found)]]
    for batch in BATCHES:
        rates = (f"{{tokens_per_s_{side}_b{batch}:,.0f}}" for side in found)
        rows.append([f"batch {batch}, tokens/s", *rates])
    firsts = (f"{{first_ms_{side}_b1:.0f}}" for side in found)
    return [*rows, ["batch 1, ms to the first token", *firsts]]


if __name__ == "__main__":
    run(main)
