"""`make bench-generator`: the decoding engine against `transformers` and against itself.

    python -m bench.generator --help

Model: T5-small's shape with random weights, codes of 4 tokens, prompts of 96 tokens, 20 beams.
Both sides compute with the same weights, inputs and number of threads, and take turns, so that a
drifting machine slows both. The figure is the median over rounds of the ratio of one turn's times.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table
from transformers import T5Config, T5ForConditionalGeneration

from bench.report import environment, write_report
from offline.generator.export.files import GeneratorExport, export_generator
from offline.generator.export.parity import reference
from offline.generator.model import PRESETS
from offline.generator.tokenizer import from_scratch
from runtime.bundle import Bundle, write_bundle
from runtime.manifest import (
    BlendSection,
    CandidateSection,
    GeneratorSection,
    Manifest,
    Provenance,
)
from services.generator.codes import code_tokens
from services.generator.engine import Context, GenerateQuery, GeneratorEngine
from services.generator.prompts import read_templates

LEVELS, WIDTH = 4, 32
ITEMS, BIG = 1_700, 1_000_000
BEAMS = 20
PROMPT_TOKENS = 96
VOCABULARY = 32_128  # T5's
NOTHING = np.empty(0, dtype=np.int32)


@dataclass(frozen=True)
class Subject:
    """A model and its engine."""

    model: T5ForConditionalGeneration
    engine: GeneratorEngine


def random_codes(items: int, seed: int = 0) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Distinct random codes. Shape [items, LEVELS]."""
    numbers = np.random.default_rng(seed).permutation(WIDTH**LEVELS)[:items]
    return np.stack(np.unravel_index(numbers, (WIDTH,) * LEVELS), axis=1)


def make_subject(directory: Path, threads: int) -> Subject:
    """Exports a random T5 of the small shape, its codes among T5's 32,128 tokens."""
    levels = random_codes(ITEMS)
    texts = ["".join(f"<{'abcd'[i]}_{v}>" for i, v in enumerate(row)) for row in levels.tolist()]
    every = [f"<{'abcd'[i]}_{v}>" for i in range(LEVELS) for v in range(WIDTH)]
    prompts = "sequential; seen; {history}; {target}\ndirect; seen; {user}; {target}\n"
    (directory / "prompts.txt").write_text(prompts, encoding="utf-8")
    tokenizer = from_scratch(read_templates(directory / "prompts.txt"), "bench", every)
    torch.manual_seed(0)
    config = T5Config(vocab_size=VOCABULARY, **PRESETS["small"])
    config.decoder_start_token_id = 0
    model = T5ForConditionalGeneration(config)
    model.train(False)
    codes = code_tokens(tokenizer, texts, eos=1, pad=0, unknown=2)
    history = PROMPT_TOKENS // LEVELS
    parts = GeneratorExport(tokenizer, texts, codes, prompts, PROMPT_TOKENS, history, BEAMS)
    staged = directory / "staged"
    staged.mkdir()
    manifest = bench_manifest(export_generator(model, parts, staged))
    with write_bundle(directory, manifest) as bundle:
        for file in staged.iterdir():
            file.rename(bundle / file.name)
    opened = Bundle.open(directory / manifest.name / manifest.version, verify=False)
    return Subject(model, GeneratorEngine.load(opened, threads=threads))


def bench_manifest(generator: GeneratorSection) -> Manifest:
    """A manifest around a generator that comes from no data."""
    return Manifest(
        name="bench",
        version="1",
        items=ITEMS,
        users=0,
        candidate=CandidateSection(
            max_history=1,
            transition_window=1,
            transition_decay=1,
            behavior_weight=1,
            transition_weight=0,
        ),
        generator=generator,
        blend=BlendSection(retrieval_weight=1, generator_weight=1, shortlist=100),
        provenance=Provenance(
            dataset="bench", seed=0, config={}, git_revision="", created="", libraries={}
        ),
    )


def queries(count: int, items: int = ITEMS, seed: int = 1) -> list[GenerateQuery]:
    """Random histories that fill the prompt."""
    rng = np.random.default_rng(seed)
    length = PROMPT_TOKENS // LEVELS
    return [
        GenerateQuery(
            Context(None, rng.integers(0, items, length).astype(np.int32)), BEAMS, None, NOTHING
        )
        for _ in range(count)
    ]


def seconds(work: Callable[[], object]) -> float:
    """How long a call takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def paired(
    ours: Callable[[], object], theirs: Callable[[], object], rounds: int
) -> tuple[float, float, float]:
    """Median seconds of both, and the median over rounds of theirs / ours."""
    ours(), theirs()  # warm
    pairs = [(seconds(ours), seconds(theirs)) for _ in track(range(rounds), transient=True)]
    a, b = (statistics.median(side) for side in zip(*pairs, strict=True))
    return a, b, statistics.median(theirs / ours for ours, theirs in pairs)


def against_transformers(subject: Subject, batch: int, rounds: int) -> tuple[float, float, float]:
    """`generate` with `prefix_allowed_tokens_fn`, beam search over the same trie."""
    asked = queries(batch)
    return paired(
        lambda: subject.engine.generate(asked),
        lambda: reference(subject.engine, subject.model, asked),
        rounds,
    )


def main(
    threads: Annotated[int, typer.Option(help="Of both sides.")] = 2,
    rounds: Annotated[int, typer.Option(help="Turns of each side.")] = 7,
) -> None:
    """Measure the generator engine."""
    torch.set_num_threads(threads)
    figures: dict[str, float] = {}
    table = Table("T5-small's shape", "transformers", "Tandem fp32", "ratio")
    with tempfile.TemporaryDirectory() as directory:
        subject = make_subject(Path(directory), threads)
        for batch in (1, 8):
            ours, theirs, ratio = against_transformers(subject, batch, rounds)
            figures[f"speedup_fp32_vs_transformers_b{batch}"] = round(ratio, 2)
            figures[f"fp32_ms_b{batch}"] = round(ours * 1e3, 1)
            figures[f"transformers_ms_b{batch}"] = round(theirs * 1e3, 1)
            table.add_row(
                f"batch {batch}", f"{theirs * 1e3:.0f} ms", f"{ours * 1e3:.1f} ms", f"{ratio:.1f}×"
            )
    Console().print(table)
    Console().print(f"written to {write_report('generator', figures, environment())}")


if __name__ == "__main__":
    typer.run(main)
