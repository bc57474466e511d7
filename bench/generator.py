"""The decoding engine beside `transformers` and CTranslate2, and what its catalog costs.

    python -m bench.generator --help

T5-small's shape, codes of 4 tokens, prompts of 96, 20 beams, random weights. All sides compute with
the same weights, inputs and number of threads, and take turns. A ratio is the median over rounds of
the ratio of one round's times. CTranslate2 searches without any constraint, which is less work.
A decoder alone of about as many FLOPs stands beside T5.
"""

import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerFast

from bench.lib.random_model import RandomModel, Subject, code_texts, level_token, random_levels
from bench.lib.report import publish, run
from bench.lib.timing import times_in_turns
from core.catalog import Catalog, CatalogItem
from core.manifest import Precision
from offline.generator.export.parity import reference
from offline.generator.tokens.llama import PRESETS as LLAMA_PRESETS
from offline.generator.tokens.model import PRESETS
from services.generator.catalog.coded import CodedCatalog
from services.generator.decoding.engine import (
    Generation,
    GeneratorEngine,
    RankingQuery,
    UserContext,
)
from services.generator.decoding.providers import Compute, multiplies_bytes

ITEMS, BIG = 1_700, 1_000_000
BATCHES: Final = (1, 8)
EXCLUDED: Final = 10_000
PRECISIONS: Final[tuple[Precision, ...]] = ("fp32", "int8")
MODEL: Final = RandomModel(
    name="bench",
    shape=PRESETS["small"],
    widths=(32, 32, 32, 32),
    prompts="sequential; seen; {history}; {target}\ndirect; seen; {user}; {target}\n",
    prompt_tokens=96,
    beams=20,
    precisions=PRECISIONS,
    vocabulary=32_128,  # T5's
)
DECODER_ONLY: Final = replace(
    MODEL,
    name="bench-llama",
    backbone="llama",
    # 23 million multiplications a row in 8 layers. T5-small has 22 for a token of a prompt, keys
    # and values for its decoder included, and 25 for one of a code.
    shape=LLAMA_PRESETS["small"] | {"num_hidden_layers": 8, "tie_word_embeddings": True},
    precisions=("fp32",),
)
NOTHING: Final = np.empty(0, dtype=np.int32)

Figures = dict[str, float]


def make_subject(directory: Path, model: RandomModel = MODEL) -> Subject:
    """Makes a random model whose codes are among T5's 32,128 tokens, and exports it."""
    texts = code_texts(random_levels(MODEL.widths, ITEMS))
    return model.export(directory, make_catalog(ITEMS), texts)


def queries(
    count: int,
    items: int = ITEMS,
    allowed: NDArray[np.bool_] | None = None,
    denied: NDArray[np.int32] = NOTHING,
) -> list[RankingQuery]:
    """Random histories that fill the prompt."""
    rng = np.random.default_rng(1)
    length = MODEL.prompt_tokens // len(MODEL.widths)
    return [
        RankingQuery(
            UserContext(None, rng.integers(0, items, length).astype(np.int32)),
            Generation(MODEL.beams, allowed, denied),
        )
        for _ in range(count)
    ]


class CTranslate2:
    """The same model in CTranslate2, which cannot constrain its beam search."""

    def __init__(self, subject: Subject, directory: Path, precision: Precision, threads: int):
        import ctranslate2
        from ctranslate2.converters import TransformersConverter

        source = directory / "transformers"
        subject.model.save_pretrained(source)
        special = {"eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
        fast: Any = PreTrainedTokenizerFast  # untyped
        fast(tokenizer_object=subject.tokenizer, **special).save_pretrained(source)
        kind = {"fp32": "float32", "int8": "int8"}[precision]
        target = str(directory / f"ctranslate2-{kind}")
        TransformersConverter(str(source)).convert(target, quantization=kind)
        self._translator: Any = ctranslate2.Translator(
            target, device="cpu", compute_type=kind, intra_threads=threads, inter_threads=1
        )
        self._tokenizer = subject.tokenizer

    def generate(self, prompts: list[list[int]]) -> None:
        """Beam search to the same depth, with as many beams, over the whole vocabulary."""
        self._translator.translate_batch(
            [[self._tokenizer.id_to_token(token) for token in prompt] for prompt in prompts],
            beam_size=MODEL.beams,
            num_hypotheses=MODEL.beams,
            min_decoding_length=len(MODEL.widths),
            max_decoding_length=len(MODEL.widths),
            length_penalty=0,
            return_scores=True,
        )

    def write(self, prompts: list[list[int]], tokens: int, tell: Callable[[Any], bool]) -> None:
        """Greedy search for so many tokens, each of which is told."""
        self._translator.translate_batch(
            [[self._tokenizer.id_to_token(token) for token in prompt] for prompt in prompts],
            beam_size=1,
            min_decoding_length=tokens,
            max_decoding_length=tokens,
            callback=tell,
        )


def against_others(
    subject: Subject, engines: Mapping[Precision, GeneratorEngine], threads: int, rounds: int
) -> Figures:
    """Batches of 1 and 8, in each precision, against both libraries."""
    figures: Figures = {}
    with tempfile.TemporaryDirectory() as directory:
        others = {p: CTranslate2(subject, Path(directory) / p, p, threads) for p in engines}
        for batch in BATCHES:
            sides = _sides(subject, engines, others, queries(batch))
            turns = times_in_turns(sides, rounds, f"batch {batch}")
            figures |= {f"ms_{side}_b{batch}": turns.median(side, float) for side in sides}
            for precision in engines:
                for other in ("transformers", f"ctranslate2_{precision}"):
                    name = f"speedup_{precision}_vs_{other}_b{batch}"
                    figures[name] = turns.ratio(other, precision, float)
    return figures


def _sides(
    subject: Subject,
    engines: Mapping[Precision, GeneratorEngine],
    others: Mapping[Precision, CTranslate2],
    asked: list[RankingQuery],
) -> dict[str, Callable[[], object]]:
    engine = engines["fp32"]
    prompts = [engine.render(query.context) for query in asked]
    return {
        "transformers": partial(reference, engine, subject.model, asked),
        **{f"ctranslate2_{p}": partial(others[p].generate, prompts) for p in engines},
        **{p: partial(engine.generate, asked) for p, engine in engines.items()},
    }


def decoder_only(t5: GeneratorEngine, compute: Compute, rounds: int) -> Figures:
    """A decoder alone beside `transformers` and beside T5, batches of 1 and 8, in float32."""
    figures: Figures = {}
    with tempfile.TemporaryDirectory() as directory:
        subject = make_subject(Path(directory), DECODER_ONLY)
        engine = GeneratorEngine.load(subject.bundle, compute, "fp32")
        for batch in BATCHES:
            asked = queries(batch)
            sides: dict[str, Callable[[], object]] = {
                "transformers": partial(reference, engine, subject.model, asked),
                "llama": partial(engine.generate, asked),
                "t5": partial(t5.generate, asked),
            }
            turns = times_in_turns(sides, rounds, f"a decoder alone, batch {batch}")
            figures[f"ms_llama_b{batch}"] = turns.median("llama", float)
            ratio = turns.ratio("transformers", "llama", float)
            figures[f"speedup_llama_vs_transformers_b{batch}"] = ratio
            figures[f"latency_ratio_llama_b{batch}"] = turns.ratio("llama", "t5", float)
    return figures


def against_itself(subject: Subject, engine: GeneratorEngine, rounds: int) -> Figures:
    """What a catalog of a million items costs, and what a request's limits do."""
    big = GeneratorEngine(engine.parts, _larger_catalog(subject, BIG))
    rng = np.random.default_rng(0)
    denied = rng.integers(0, BIG, EXCLUDED).astype(np.int32)
    hundredth = rng.random(BIG) < 0.01
    turns = times_in_turns(
        {
            "small": partial(engine.generate, queries(1)),
            "big": partial(big.generate, queries(1, BIG)),
            "excluding": partial(big.generate, queries(1, BIG, denied=denied)),
            "filtering": partial(big.generate, queries(1, BIG, allowed=hundredth)),
        },
        3 * rounds,
        "catalog",
    )
    return {
        "latency_ratio_1m_items": turns.ratio("big", "small", float),
        "latency_ratio_exclude_10k": turns.ratio("excluding", "big", float),
        "latency_ratio_filter_1pct": turns.ratio("filtering", "big", float),
    }


def _larger_catalog(subject: Subject, items: int) -> CodedCatalog:
    """Another catalog for the same model."""
    levels = random_levels(MODEL.widths, items)
    tokens = np.array(
        [
            [subject.tokenizer.token_to_id(level_token(level, v)) for v in range(width)]
            for level, width in enumerate(MODEL.widths)
        ]
    )
    codes = tokens[np.arange(len(MODEL.widths)), levels].astype(np.int32)
    return CodedCatalog.of(make_catalog(items), code_texts(levels), codes)


def make_catalog(items: int) -> Catalog:
    """Items without texts."""
    return Catalog([CatalogItem(f"i{i}", "", "", {"parity": ("even",)}, 1) for i in range(items)])


def main(
    threads: Annotated[int, typer.Option(help="Of all sides; 0 means one per core.")] = 0,
    rounds: Annotated[int, typer.Option(help="Turns of each side.")] = 5,
    spin: Annotated[bool, typer.Option(help="As `tandem serve generator --spin`.")] = False,
) -> None:
    """Measure the generator's engine."""
    threads = threads or len(os.sched_getaffinity(0))
    torch.set_num_threads(threads)
    compute = Compute(threads=threads, spin=spin)
    # Without VNNI 8-bit products saturate, and are served by nobody.
    precisions = PRECISIONS if multiplies_bytes() else PRECISIONS[:1]
    with tempfile.TemporaryDirectory() as directory:
        subject = make_subject(Path(directory))
        engines = {p: GeneratorEngine.load(subject.bundle, compute, p) for p in precisions}
        figures = against_others(subject, engines, threads, rounds)
        figures |= against_itself(subject, engines[precisions[-1]], rounds)
        figures |= decoder_only(engines["fp32"], compute, rounds)
    publish(
        "generator", figures, table(precisions), precision=" and ".join(precisions), caches="warm",
        threads=threads, spin=int(spin),
    )  # fmt: skip


def table(precisions: Sequence[Precision]) -> list[list[str]]:
    """Milliseconds a batch, and what a catalog costs."""
    sides = ["transformers", *(f"ctranslate2_{p}" for p in precisions), *precisions]
    names = ["`transformers` fp32", *(f"CTranslate2 {p}" for p in precisions)]
    names += [f"Tandem {p}" for p in precisions]
    ratios = {
        "a catalog of a million items, times one of 1,700": "1m_items",
        "excluding 10,000 of a million items, times without": "exclude_10k",
        "a filter that leaves 1% of a million items, times without": "filter_1pct",
        "a decoder alone of as many FLOPs, batch 1, times T5 in float32": "llama_b1",
        "the same, batch 8": "llama_b8",
    }
    empty = [""] * (len(sides) - 1)
    return [
        ["", *names],
        *([f"batch {n}, ms", *(f"{{ms_{side}_b{n}:.0f}}" for side in sides)] for n in BATCHES),
        *([name, *empty, f"{{latency_ratio_{key}:.2f}}"] for name, key in ratios.items()),
    ]


if __name__ == "__main__":
    run(main)
