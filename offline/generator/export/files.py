"""Everything that the generator service loads, written into one directory."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer
from transformers import T5ForConditionalGeneration

from offline.generator.export.calibrate import observe, smooth
from offline.generator.export.encode import encode_graph
from offline.generator.export.layers import T5Weights
from offline.generator.export.linear import Float16, Float32, Int8, Linears
from offline.generator.export.rerank import rerank_graph
from offline.generator.export.search import search_graph
from offline.generator.export.weights import save_graphs
from offline.generator.model import special_tokens
from runtime.bundle import sha256
from runtime.manifest import GeneratorSection, Precision
from services.generator.codes import write_code_texts
from services.generator.graphs import graph_file, weights_file

HEAD: Final = "lm_head"
"""The layer whose rounding changes rankings most: every score is made of its products."""


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
    precisions: tuple[Precision, ...] = ("fp32",)
    calibration: Sequence[Sequence[int]] = ()
    """Prompts as they are served, as token ids: 8-bit products are fitted to their activations."""
    in_float32: frozenset[str] = frozenset()
    """Layers whose products stay in float32 among 8-bit ones."""


def export_generator(
    model: T5ForConditionalGeneration, parts: GeneratorExport, directory: Path
) -> GeneratorSection:
    """Writes the model in every precision, and what belongs to it.

    Returns:
        The manifest's section about them.
    """
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
        precisions=parts.precisions,
    )
    facts = {
        "code_length": str(section.code_length),
        "vocabulary": str(section.vocabulary),
        "max_input_tokens": str(section.max_input_tokens),
        "tokenizer_sha256": sha256(tokenizer_file),
    }
    ends = bool((parts.codes == eos).any())
    for precision in parts.precisions:
        weights, linears = _in_precision(model, precision, parts)
        graphs = {
            "encode": encode_graph(weights, linears, max_tokens=section.max_input_tokens),
            "generate": search_graph(weights, linears, levels=section.code_length, ends=ends),
            "rerank": rerank_graph(weights, linears, levels=section.code_length),
        }
        save_graphs(
            directory,
            weights_file(precision),
            {graph_file(name, precision): graph for name, graph in graphs.items()},
            {**facts, "precision": precision},
        )
    return section


def _in_precision(
    model: T5ForConditionalGeneration, precision: Precision, parts: GeneratorExport
) -> tuple[T5Weights, Linears]:
    weights = T5Weights.of(model)
    match precision:
        case "fp32":
            return weights, Float32()
        case "fp16":
            return weights, Float16()
        case "int8":
            smoothed = smooth(weights, observe(model, parts.calibration, parts.codes))
            return smoothed.model, Int8(smoothed.ranges, parts.in_float32)
