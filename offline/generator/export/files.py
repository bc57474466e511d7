"""Everything that the generator service loads, written into one directory."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer
from transformers import T5ForConditionalGeneration

from offline.generator.export.rerank import rerank_graph
from offline.generator.export.search import search_graph
from offline.generator.export.weights import save_graphs
from offline.generator.model import special_tokens
from runtime.bundle import sha256
from runtime.manifest import GeneratorSection
from services.generator.codes import write_code_texts

FILES: Final = (
    "generate.onnx",
    "rerank.onnx",
    "generator.weights",
    "generator_tokenizer.json",
    "codes.txt",
    "code_tokens.npy",
    "prompts.txt",
)


@dataclass(frozen=True)
class GeneratorExport:
    """What is exported beside the model."""

    tokenizer: Tokenizer
    code_texts: Sequence[str]
    codes: NDArray[np.int32]
    """[items, levels] token ids."""
    prompts: str
    """The text of the prompt file."""
    max_input_tokens: int
    max_history: int
    beams: int


def export_generator(
    model: T5ForConditionalGeneration, parts: GeneratorExport, directory: Path
) -> GeneratorSection:
    """Writes `FILES` and returns the manifest's section about them."""
    tokenizer_file = directory / "generator_tokenizer.json"
    parts.tokenizer.save(str(tokenizer_file))
    write_code_texts(directory / "codes.txt", parts.code_texts)
    np.save(directory / "code_tokens.npy", parts.codes, allow_pickle=False)
    (directory / "prompts.txt").write_text(parts.prompts, encoding="utf-8")
    pad, eos = special_tokens(model)
    section = GeneratorSection(
        code_length=parts.codes.shape[1],
        max_input_tokens=parts.max_input_tokens,
        max_history=parts.max_history,
        beams=parts.beams,
        pad_token=pad,
        eos_token=eos,
        vocabulary=int(model.config.vocab_size),
    )
    shape = {"levels": section.code_length, "max_tokens": section.max_input_tokens}
    save_graphs(
        directory,
        "generator.weights",
        {
            "generate.onnx": search_graph(model, **shape, ends=bool((parts.codes == eos).any())),
            "rerank.onnx": rerank_graph(model, **shape),
        },
        {
            "code_length": str(section.code_length),
            "vocabulary": str(section.vocabulary),
            "max_input_tokens": str(section.max_input_tokens),
            "tokenizer_sha256": sha256(tokenizer_file),
        },
    )
    return section
