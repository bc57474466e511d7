"""The bundle of the soak: a small random T5, as exact to check as a trained one, and faster."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from transformers import T5Config, T5ForConditionalGeneration

from bench.random_bundle import manifest
from core.bundle import write_bundle
from core.catalog import Catalog, CatalogItem
from core.codes import code_tokens
from core.manifest import Precision
from offline.generator.export.files import GeneratorExport, export_generator
from offline.generator.tokenizer import from_scratch
from services.generator.prompts import read_templates
from tests.robustness.soak.catalog import LEVELS, Version
from tests.robustness.soak.requests import USERS

BEAMS: Final = 20
T5: Final[Mapping[str, Any]] = {
    "d_model": 64, "d_kv": 16, "d_ff": 128, "num_layers": 2, "num_heads": 4,
    "decoder_start_token_id": 0,
}  # fmt: skip
PROMPT_TOKENS: Final = 64
PROMPTS: Final = "sequential; seen; {user} {history}; {target}\ndirect; seen; {user}; {target}\n"


def make_bundle(directory: Path, first: Version, precision: Precision) -> Path:
    """Exports a random T5 for a catalog, in one precision.

    Returns:
        The directory of the bundle.
    """
    texts = [item.code_text for item in first.items.values()]
    every = [f"<{'abc'[level]}_{n}>" for level, width in enumerate(LEVELS) for n in range(width)]
    (directory / "prompts.txt").write_text(PROMPTS, encoding="utf-8")
    tokenizer = from_scratch(read_templates(directory / "prompts.txt"), "soak", every)
    codes = code_tokens(tokenizer, texts, eos=1, pad=0, unknown=2)
    rng = np.random.default_rng(0)
    parts = GeneratorExport(
        tokenizer=tokenizer,
        code_texts=texts,
        codes=codes,
        prompts=PROMPTS,
        max_input_tokens=PROMPT_TOKENS,
        max_history=PROMPT_TOKENS // len(LEVELS),
        beams=BEAMS,
        precisions=(precision,),
        calibration=[codes[rng.integers(0, len(codes), 16)].flatten().tolist() for _ in range(16)],
    )
    staged = directory / "staged"
    staged.mkdir()
    generator = export_generator(_random_t5(tokenizer.get_vocab_size()), parts, staged)
    written = manifest("soak", generator, items=len(texts), users=USERS)
    with write_bundle(directory, written) as bundle:
        _catalog(first).write(bundle / "catalog.jsonl")
        users = ", ".join(f'"u{n}"' for n in range(USERS))
        (bundle / "users.json").write_text(f"[{users}]", encoding="utf-8")
        np.save(bundle / "histories_indptr.npy", np.zeros(USERS + 1, np.int64))
        np.save(bundle / "histories_items.npy", np.empty(0, np.int32))
        for file in staged.iterdir():
            file.replace(bundle / file.name)
    return directory / written.name / written.version


def _random_t5(vocabulary: int) -> T5ForConditionalGeneration:
    torch.manual_seed(0)
    config = T5Config(vocab_size=vocabulary, **T5)
    model = T5ForConditionalGeneration(config)
    model.train(False)
    return model


def _catalog(first: Version) -> Catalog:
    items = first.items.values()
    return Catalog([CatalogItem(item.item_id, "", "", item.attributes, 0) for item in items])
