"""The models of a bundle, read out of its float32 graphs and compared with them."""

import copy
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from onnx import ModelProto, numpy_helper
from safetensors.torch import save_file
from tokenizers import Tokenizer
from torch import nn
from transformers import PreTrainedModel

from core.bundle import Bundle
from offline.build.files import FACTS, write_json
from offline.evaluate.protocol import questions
from offline.generator.export.backbone import Backbone
from offline.generator.export.files import backbone_of
from offline.generator.export.item_parity import compare_items
from offline.generator.export.linear import Float32
from offline.generator.export.parity import compare
from offline.generator.export.search import search_graph
from offline.generator.items.model import SEEN_SCALE, ItemT5
from offline.generator.tokens.backbones import from_checkpoint, from_preset
from offline.onnx_graph import OnnxGraphBuilder
from offline.query_encoder.config import QueryEncoderConfig
from offline.query_encoder.export import GRAPH, require_equal
from offline.query_encoder.graph import query_graph
from offline.query_encoder.model import QueryEncoder
from offline.training import checkpoint
from offline.warm.before import CODES, GENERATOR, ITEM_VECTORS, QUERY_ENCODER, TOKENIZER
from offline.warm.read_back import numbered, read_back, scalar_at
from offline.warm.rows import FloatArray
from services.generator.catalog import coded
from services.generator.decoding.engine import (
    Generation,
    GeneratorEngine,
    RankingQuery,
    UserContext,
)
from services.generator.decoding.graphs import graph_file
from services.generator.decoding.ratings import RATING_CODES, RATING_VECTORS

Module = TypeVar("Module", bound=nn.Module)
Generator = ItemT5 | PreTrainedModel

_SEEN: Final = -1.0
"""Marks where a graph has the learned number for seen items, which it holds scaled."""
_NOTHING: Final = np.empty(0, np.int32)
_COMPARED: Final = 16
"""Users whose lists are compared."""


def write_models(bundle: Bundle, directory: Path, pretrained: Path | None = None) -> None:
    """Writes what `offline.warm.before.Before` reads.

    Args:
        bundle: verified.
        directory: where to.
        pretrained: the checkpoint that its generator started from, where that was a GGUF file.

    Raises:
        BundleError: the bundle's files are of other models than its manifest says.
        ParityError: what was read does not compute what the graphs compute.
    """
    config = bundle.manifest.provenance.config
    shape = {name: config["query_encoder"][name] for name in ("dimension", "layers", "heads")}
    encoder = stored_query_encoder(bundle, QueryEncoderConfig(**shape))
    vectors = torch.from_numpy(behavior_vectors(bundle))
    save_file(checkpoint.state_of(encoder) | {ITEM_VECTORS: vectors}, directory / QUERY_ENCODER)
    tokenizer = Tokenizer.from_file(str(bundle.file("generator_tokenizer.json")))
    section = config["generator"]
    if section["checkpoint"] is None:
        backbone = section.get("backbone", "t5")
        like = from_preset(backbone, section["preset"], tokenizer, dropout=0.0)
    else:
        like, _ = from_checkpoint(pretrained or section["checkpoint"], dropout=0.0)
    generator = stored_generator(bundle, like)
    state = {name: tensor.detach() for name, tensor in checkpoint.state_of(generator).items()}
    save_file(state, directory / GENERATOR)
    tokenizer.save(str(directory / TOKENIZER))
    np.save(directory / CODES, bundle.array("code_tokens", np.int32), allow_pickle=False)
    facts = {
        "item_ids": [item.item_id for item in bundle.catalog.items],
        "user_ids": list(bundle.histories.user_index),
        "user_tokens": bundle.manifest.generator.user_tokens,
    }
    write_json(directory / FACTS, facts)


def behavior_vectors(bundle: Bundle) -> FloatArray:
    """The query encoder's item vectors, float32 [items, dimension], of unit norm."""
    return np.array(bundle.array("behavior_vectors", np.float32))


def stored_query_encoder(bundle: Bundle, config: QueryEncoderConfig) -> QueryEncoder:
    """The query encoder of a bundle.

    Args:
        bundle: verified.
        config: its shape.

    Raises:
        BundleError: it has another shape.
        ParityError: what was read does not compute what the graph computes.
    """
    numbers = numbered({n: tuple(p.shape) for n, p in QueryEncoder(config).named_parameters()})
    longest = bundle.manifest.candidate.max_history
    file = bundle.file(GRAPH)
    counting = _filled(QueryEncoder(config).double(), numbers)
    stored = read_back(numbers, [query_graph(counting, longest)], [file])
    encoder = _filled(QueryEncoder(config), stored)
    require_equal(encoder, behavior_vectors(bundle), longest, file)
    return encoder


def stored_generator(bundle: Bundle, like: PreTrainedModel) -> Generator:
    """The generator of a bundle.

    Args:
        bundle: verified.
        like: a model of its shape, but for the size of the vocabulary.

    Raises:
        BundleError: it has another shape.
        ParityError: what was read does not compute what the graphs compute.
    """
    config = copy.deepcopy(like.config)
    config.vocab_size = bundle.manifest.generator.vocabulary
    made: Any = type(like)(config)
    model: Generator = made
    if bundle.manifest.generator.inputs == "items":
        vectors = np.array(bundle.array(coded.ITEM_VECTORS.removesuffix(".npy"), np.float32))
        model = ItemT5(made, vectors, np.array(bundle.array("code_tokens", np.int32)))
        _add_ratings(bundle, model)
    stored = _generator_arrays(bundle, model)
    _filled(model, {name: stored[key] for name, key in _keys(model) if key in stored})
    _require_parity(bundle, model)
    return model


@torch.no_grad()
def _add_ratings(bundle: Bundle, model: ItemT5) -> None:
    """What the model knows of ratings is in no graph, but in files of its own."""
    if not bundle.manifest.generator.ratings:
        return
    codes = bundle.array(RATING_CODES.removesuffix(".npy"), np.int32)
    model.add_ratings(codes[:, 0].tolist())
    if model.rating_vectors is not None:
        stored = np.array(bundle.array(RATING_VECTORS.removesuffix(".npy"), np.float32))
        model.rating_vectors.copy_(torch.from_numpy(stored))


def _keys(model: Generator) -> list[tuple[str, str]]:
    """The names of parameters, and those that the export has for them."""
    return [(name, name.removeprefix("t5.")) for name, _ in model.named_parameters()]


def _generator_arrays(bundle: Bundle, model: Generator) -> dict[str, FloatArray]:
    section = bundle.manifest.generator
    backbone = backbone_of(model, section.max_input_tokens, section.code_length)
    # The export multiplies one norm by a number, which is done here afterwards.
    config, scale = copy.deepcopy(backbone.weights.config), 1.0
    if getattr(config, "scale_decoder_outputs", False):
        config.scale_decoder_outputs, scale = False, config.d_model**-0.5
    numbers = numbered({n: a.shape for n, a in backbone.weights.arrays.items() if n != "seen"})
    arrays: dict[str, NDArray[Any]] = {**numbers, "seen": np.array(_SEEN)}
    counting = backbone.having(replace(backbone.weights, config=config, arrays=arrays))
    graphs = _graphs(bundle, counting)
    files = [bundle.file(graph_file(name, "fp32")) for name in ("encode", "generate")]
    stored = read_back(numbers, graphs, files)
    if scale != 1.0:
        stored["decoder.final_layer_norm.weight"] /= np.float32(scale)
    if isinstance(model, ItemT5):
        found = scalar_at(SEEN_SCALE * _SEEN, graphs[0], files[0]) / SEEN_SCALE
        stored["seen"] = np.array(found, np.float32)
    return stored


def _graphs(bundle: Bundle, backbone: Backbone) -> list[ModelProto]:
    """The two graphs that read all parameters, as they were exported."""
    section = bundle.manifest.generator
    ends = bool((bundle.array("code_tokens", np.int32) == section.eos_token).any())
    return [
        _whole(backbone.encode(Float32())),
        _whole(search_graph(backbone, Float32(), levels=section.code_length, ends=ends)),
    ]


def _whole(graph: OnnxGraphBuilder) -> ModelProto:
    """A graph with its weights inside."""
    arrays = graph.weights.items()
    return graph.model("", [numpy_helper.from_array(array.copy(), name) for name, array in arrays])


@torch.no_grad()
def _filled(model: Module, arrays: Mapping[str, NDArray[Any]]) -> Module:
    """Puts values into parameters; those that are NaN, or not there, stay as they are."""
    for name, parameter in model.named_parameters():
        if name in arrays:
            values = torch.from_numpy(arrays[name])
            parameter.copy_(torch.where(values.isnan(), parameter, values))
    return model.eval()


def _require_parity(bundle: Bundle, model: Generator) -> None:
    engine = GeneratorEngine.load(bundle, precision="fp32")
    wish = Generation(min(bundle.manifest.generator.beams, len(bundle.catalog)), None, _NOTHING)
    queries = [
        RankingQuery(UserContext(question.user, question.history), wish)
        for question in questions(bundle, "test")[:_COMPARED]
    ]
    if isinstance(model, ItemT5):
        compare_items(engine, model, queries).require()
    else:
        compare(engine, model, queries).require()
