"""One random T5 in the forms that are measured: Tandem's bundle, `transformers`, CTranslate2.

T5-small's shape, codes of 4 tokens, prompts of 96, 20 beams. All compute with the same weights and
as many threads.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast, T5Config, T5ForConditionalGeneration

from bench.random_bundle import manifest
from core.bundle import Bundle, write_bundle
from core.catalog import Catalog, CatalogItem
from core.codes import code_tokens
from core.manifest import Precision
from offline.generator.export.files import GeneratorExport, export_generator
from offline.generator.tokenizer import from_scratch
from offline.generator.tokens.model import PRESETS
from services.generator.catalog.coded import CodedCatalog
from services.generator.decoding.engine import Context, Generation, GeneratorEngine, Query
from services.generator.decoding.providers import Compute
from services.generator.prompts import read_templates

LEVELS, WIDTH = 4, 32
ITEMS: Final = 1_700
BEAMS: Final = 20
PROMPT_TOKENS: Final = 96
VOCABULARY: Final = 32_128  # T5's
SHAPE: Final = PRESETS["small"]
NOTHING = np.empty(0, dtype=np.int32)

PROMPTS: Final = "sequential; seen; {history}; {target}\ndirect; seen; {user}; {target}\n"


@dataclass(frozen=True)
class Subject:
    """A model, and the bundle that was exported from it."""

    model: T5ForConditionalGeneration
    tokenizer: Tokenizer
    bundle: Bundle

    def engine(self, precision: Precision, compute: Compute) -> GeneratorEngine:
        """Loads the engine."""
        return GeneratorEngine.load(self.bundle, compute, precision)


def random_levels(items: int, seed: int = 0) -> NDArray[np.int64]:
    """Distinct random codes. Shape [items, LEVELS]."""
    numbers = np.random.default_rng(seed).permutation(WIDTH**LEVELS)[:items]
    return np.stack(np.unravel_index(numbers, (WIDTH,) * LEVELS), axis=1)


def code_texts(levels: NDArray[np.int64]) -> list[str]:
    """Codes as prompts show them."""
    return ["".join(f"<{'abcd'[i]}_{v}>" for i, v in enumerate(row)) for row in levels.tolist()]


def make_subject(directory: Path) -> Subject:
    """Makes a random T5, its codes among T5's 32,128 tokens, and exports it."""
    texts = code_texts(random_levels(ITEMS))
    every = [f"<{'abcd'[i]}_{v}>" for i in range(LEVELS) for v in range(WIDTH)]
    (directory / "prompts.txt").write_text(PROMPTS, encoding="utf-8")
    tokenizer = from_scratch(read_templates(directory / "prompts.txt"), "bench", every)
    torch.manual_seed(0)
    config = T5Config(vocab_size=VOCABULARY, **SHAPE)
    config.decoder_start_token_id = 0
    model = T5ForConditionalGeneration(config)
    model.train(False)
    codes = code_tokens(tokenizer, texts, eos=1, pad=0, unknown=2)
    rng = np.random.default_rng(2)
    parts = GeneratorExport(
        tokenizer=tokenizer,
        code_texts=texts,
        codes=codes,
        prompts=PROMPTS,
        max_input_tokens=PROMPT_TOKENS,
        max_history=PROMPT_TOKENS // LEVELS,
        beams=BEAMS,
        precisions=("fp32", "int8"),
        calibration=[codes[rng.integers(0, ITEMS, 24)].flatten().tolist() for _ in range(16)],
    )
    staged = directory / "staged"
    staged.mkdir()
    written = manifest("bench", export_generator(model, parts, staged), items=ITEMS)
    with write_bundle(directory, written) as bundle:
        _catalog(ITEMS).write(bundle / "catalog.jsonl")
        (bundle / "users.json").write_text("[]", encoding="utf-8")
        np.save(bundle / "histories_indptr.npy", np.zeros(1, np.int64))
        np.save(bundle / "histories_items.npy", NOTHING)
        for file in staged.iterdir():
            file.replace(bundle / file.name)
    opened = Bundle.open(directory / written.name / written.version, verify=False)
    return Subject(model, tokenizer, opened)


def larger_catalog(subject: Subject, items: int) -> CodedCatalog:
    """Another catalog for the same model."""
    levels = random_levels(items)
    texts = code_texts(levels)
    token = np.array(
        [
            [subject.tokenizer.token_to_id(f"<{'abcd'[i]}_{v}>") for v in range(WIDTH)]
            for i in range(LEVELS)
        ]
    )
    codes = token[np.arange(LEVELS), levels].astype(np.int32)
    return CodedCatalog.of(_catalog(items), texts, codes)


def queries(
    count: int,
    items: int = ITEMS,
    allowed: NDArray[np.bool_] | None = None,
    denied: NDArray[np.int32] = NOTHING,
) -> list[Query]:
    """Random histories that fill the prompt."""
    rng = np.random.default_rng(1)
    length = PROMPT_TOKENS // LEVELS
    return [
        Query(
            Context(None, rng.integers(0, items, length).astype(np.int32)),
            Generation(BEAMS, allowed, denied),
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
            beam_size=BEAMS,
            num_hypotheses=BEAMS,
            min_decoding_length=LEVELS,
            max_decoding_length=LEVELS,
            length_penalty=0,
            return_scores=True,
        )


def _catalog(items: int) -> Catalog:
    attributes = {"parity": ("even",)}
    return Catalog([CatalogItem(f"i{i}", "", "", attributes, 1) for i in range(items)])
