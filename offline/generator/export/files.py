"""Everything that the generator service loads, written into one directory."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer
from transformers import PreTrainedModel, T5ForConditionalGeneration

from core.bundle import sha256
from core.codes import write_code_texts
from core.manifest import GeneratorSection, Precision, TextSection
from offline.generator.export.backbone import Backbone
from offline.generator.export.calibrate import TextCalibration, observe, observe_items, smooth
from offline.generator.export.linear import Float16, Float32, Int8, Linears
from offline.generator.export.llama.backbone import LlamaBackbone
from offline.generator.export.rerank import rerank_graph
from offline.generator.export.search import search_graph
from offline.generator.export.t5.backbone import T5Backbone
from offline.generator.export.weights import save_graphs
from offline.generator.items.model import ItemT5
from offline.onnx_graph import OnnxGraphBuilder
from offline.query_encoder.projection import fit_projection
from services.generator.catalog.coded import ITEM_PROJECTION, ITEM_VECTORS
from services.generator.decoding.graphs import graph_file, weights_file
from services.generator.decoding.ratings import RATING_CODES, RATING_VECTORS

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
    user_tokens: int = 0
    """Tokens of the vocabulary that stand for users."""
    words: Sequence[int] = ()
    """For a model that reads whole items: the prompt before the history, as token ids, …"""
    histories: Sequence[NDArray[np.int32]] = ()
    """… what 8-bit products are fitted to instead of `calibration`, …"""
    content: NDArray[np.float32] | None = None
    """… the vectors of the items' texts, [items, content dimension], …"""
    interactions: NDArray[np.int64] | None = None
    """… and how often each item occurs in training."""
    ratings: Sequence[float] = ()
    """What a rating may be, where the model rates, and …"""
    rating_codes: NDArray[np.int32] | None = None
    """… [values, levels] token ids of each."""
    in_float32: frozenset[str] = frozenset()
    """Layers whose products stay in float32 among 8-bit ones."""
    text_tokens: int = 0
    """The most tokens of a text, for a model that was taught to write; else 0."""
    text_prompts: Sequence[Sequence[int]] = ()
    """What it writes texts for, as it is served: 8-bit products are fitted to them too. Without
    any, texts are written with products in float32."""


def export_generator(
    model: PreTrainedModel | ItemT5, parts: GeneratorExport, directory: Path
) -> GeneratorSection:
    """Writes the model in every precision, and what belongs to it.

    Args:
        model: one that reads tokens, or one that reads whole items.
        parts: what is exported beside it.
        directory: where to.

    Returns:
        The manifest's section about them.
    """
    backbone = backbone_of(model, parts.max_input_tokens, parts.codes.shape[1], parts.text_tokens)
    config = backbone.weights.config
    parts.tokenizer.save(str(tokenizer_file := directory / "generator_tokenizer.json"))
    write_code_texts(directory / "codes.txt", parts.code_texts)
    np.save(directory / "code_tokens.npy", parts.codes, allow_pickle=False)
    (directory / "prompts.txt").write_text(parts.prompts, encoding="utf-8")
    if isinstance(model, ItemT5):
        _write_items(model, parts, directory)
    if parts.rating_codes is not None:
        np.save(directory / RATING_CODES, parts.rating_codes, allow_pickle=False)
    section = GeneratorSection(
        inputs="items" if isinstance(model, ItemT5) else "tokens",
        user_tokens=parts.user_tokens,
        code_length=parts.codes.shape[1],
        max_input_tokens=parts.max_input_tokens,
        max_history=parts.max_history,
        beams=parts.beams,
        pad_token=int(config.pad_token_id),
        eos_token=int(config.eos_token_id),
        vocabulary=int(config.vocab_size),
        precisions=parts.precisions,
        text=_text_section(config, parts.text_tokens),
        ratings=tuple(parts.ratings),
    )
    facts = {
        "code_length": str(section.code_length),
        "vocabulary": str(section.vocabulary),
        "max_input_tokens": str(section.max_input_tokens),
        "inputs": section.inputs,
        "tokenizer_sha256": sha256(tokenizer_file),
    }
    ends, levels = bool((parts.codes == section.eos_token).any()), section.code_length
    for precision in parts.precisions:
        written, linears = _in_precision(backbone, model, precision, parts)
        graphs = {
            "encode": written.encode(linears),
            "generate": search_graph(written, linears, levels=levels, ends=ends),
            "rerank": rerank_graph(written, linears, levels=levels),
            **_text_graph(written, linears, precision, parts),
        }
        save_graphs(
            directory,
            weights_file(precision),
            {graph_file(name, precision): graph for name, graph in graphs.items()},
            {**facts, "precision": precision},
        )
    return section


def _text_graph(
    written: Backbone, linears: Linears, precision: Precision, parts: GeneratorExport
) -> dict[str, OnnxGraphBuilder]:
    """How a model writes text, if it was taught to."""
    if not parts.text_tokens:
        return {}
    # Without prompts of texts the ranges of activations are those of codes alone.
    known = precision != "int8" or parts.text_prompts
    return {"text": written.text(linears if known else Float32(), parts.text_tokens)}


def _text_section(config: Any, max_tokens: int) -> TextSection | None:
    if not max_tokens:
        return None
    return TextSection(
        max_tokens=max_tokens,
        start_token=config.decoder_start_token_id if config.is_encoder_decoder else None,
        end_token=int(config.eos_token_id),
    )


def backbone_of(
    model: PreTrainedModel | ItemT5, max_tokens: int, levels: int, text_tokens: int = 0
) -> Backbone:
    """What a model is exported as.

    Args:
        model: one that reads tokens, or one that reads whole items.
        max_tokens: the most positions of a prompt.
        levels: the length of the codes.
        text_tokens: the most tokens of a text; 0 where it writes none.

    Raises:
        ValueError: it is built in a way that is not exported.
    """
    if isinstance(model, ItemT5 | T5ForConditionalGeneration):
        return T5Backbone.of(model, max_tokens, writes=text_tokens > 0)
    return LlamaBackbone.of(model, max_tokens + max(levels, text_tokens))


def _write_items(model: ItemT5, parts: GeneratorExport, directory: Path) -> None:
    vectors = model.table().detach().numpy()
    np.save(directory / ITEM_VECTORS, vectors, allow_pickle=False)
    np.save(directory / ITEM_PROJECTION, _projection(parts, vectors), allow_pickle=False)
    if model.rating_vectors is not None:
        ratings = model.rating_vectors.detach().numpy()
        np.save(directory / RATING_VECTORS, ratings, allow_pickle=False)


def _projection(parts: GeneratorExport, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """What makes an item's vector of the vector of its text, for items that come later."""
    if parts.content is None or parts.interactions is None:
        raise ValueError("a model that reads whole items is exported with the vectors of the texts")
    return fit_projection(parts.content, vectors, parts.interactions)


def _in_precision(
    backbone: Backbone,
    model: PreTrainedModel | ItemT5,
    precision: Precision,
    parts: GeneratorExport,
) -> tuple[Backbone, Linears]:
    texts = TextCalibration(parts.text_prompts, parts.text_tokens)
    match precision:
        case "fp32":
            return backbone, Float32()
        case "fp16":
            return backbone, Float16()
        case "int8" if isinstance(model, ItemT5):
            peaks = observe_items(model, parts.words, parts.histories, texts)
            # The encoder's states are the items' queries and the decoder's start as well.
            smoothed = smooth(
                backbone.weights, peaks, fixed=frozenset({"encoder.final_layer_norm"})
            )
        case "int8":
            peaks = observe(model, parts.calibration, parts.codes, texts)
            smoothed = smooth(backbone.weights, peaks)
    return backbone.having(smoothed.model), Int8(smoothed.ranges, parts.in_float32)
