"""Embedders that are ONNX graphs, prompts of known families, and fewer dimensions."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from torch import nn
from transformers import AutoModel

from core.manifest import CandidateSection
from offline.embeddings import (
    EmbedderConfig,
    export_text_encoder,
    load_embedder,
    quantize_text_encoder,
)
from offline.embeddings.layout import UnsupportedModel
from services.candidate.retrieval.encoders import OnnxTextEncoder
from tests.offline.embeddings.tiny_embedders import TEXTS, bert, embed


class States(nn.Module):
    """A BERT whose graph has the inputs and the output that hubs publish."""

    def __init__(self, directory: Path, *, segments: bool, pooled: bool) -> None:
        super().__init__()
        # Older opsets have no fused attention.
        self.model = AutoModel.from_pretrained(directory, attn_implementation="eager").eval()
        self.segments, self.pooled = segments, pooled

    def forward(self, ids: torch.Tensor, mask: torch.Tensor, *segments: torch.Tensor) -> Any:
        types = {"token_type_ids": segments[0]} if self.segments else {}
        states = self.model(input_ids=ids, attention_mask=mask, **types)[0]
        return states[:, 0] if self.pooled else states


@pytest.mark.filterwarnings("ignore")
def as_graph(
    torch_model: Path, target: Path, *, segments: bool = True, pooled: bool = False, opset: int = 17
) -> Path:
    """A directory of `model.onnx`, `tokenizer.json` and, for its 64 positions, `config.json`."""
    target.mkdir()
    ids = torch.ones(2, 3, dtype=torch.int64)
    names = ["input_ids", "attention_mask", *(["token_type_ids"] if segments else [])]
    axes = {name: {0: "batch", 1: "sequence"} for name in names}
    torch.onnx.export(
        States(torch_model, segments=segments, pooled=pooled),
        (ids, ids, ids * 0)[: len(names)],
        str(target / "model.onnx"),
        input_names=names,
        output_names=["last_hidden_state"],
        dynamic_axes=axes | {"last_hidden_state": {0: "batch", **({} if pooled else {1: "seq"})}},
        opset_version=opset,
        dynamo=False,
    )
    for name in ("tokenizer.json", "config.json"):
        shutil.copy(torch_model / name, target)
    return target


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("pooling", ["mean", "cls", "lasttoken"])
@pytest.mark.parametrize(("segments", "opset"), [(True, 11), (False, 17)])
def test_a_graph_embeds_as_its_model_does(
    tmp_path: Path, pooling: Any, segments: bool, opset: int
) -> None:
    model = bert(tmp_path / "model")
    graph = as_graph(model, tmp_path / "graph", segments=segments, opset=opset)
    expected = embed(model, pooling=pooling)
    np.testing.assert_allclose(embed(graph, pooling=pooling), expected, atol=1e-5)
    embedder = load_embedder(EmbedderConfig(model=str(graph), pooling=pooling))
    export = export_text_encoder(embedder, tmp_path, probes=TEXTS)
    assert (export.dimension, export.pooling) == (16, pooling)
    served = OnnxTextEncoder(
        tmp_path / "text_encoder.onnx", tmp_path / "text_tokenizer.json", prefix="", threads=1
    )
    np.testing.assert_allclose(served.encode_batch(TEXTS), expected, atol=1e-5)
    onnx.checker.check_model(tmp_path / "text_encoder.onnx")
    assert quantize_text_encoder(embedder, tmp_path, TEXTS, expected) is not None


@pytest.mark.filterwarnings("ignore")
def test_a_graph_that_pools_is_not_pooled_again(tmp_path: Path) -> None:
    model = bert(tmp_path / "model")
    graph = as_graph(model, tmp_path / "graph", pooled=True)
    expected = embed(model, pooling="cls")
    np.testing.assert_allclose(embed(graph, pooling="mean"), expected, atol=1e-5)
    embedder = load_embedder(EmbedderConfig(model=str(graph)))
    assert export_text_encoder(embedder, tmp_path, probes=TEXTS).min_cosine > 0.9999


@pytest.mark.filterwarnings("ignore")
def test_other_inputs_and_missing_tokenizers_are_refused(tmp_path: Path) -> None:
    graph = as_graph(bert(tmp_path / "model"), tmp_path / "graph")
    (graph / "tokenizer.json").rename(tmp_path / "elsewhere.json")
    with pytest.raises(UnsupportedModel, match=r"no tokenizer\.json"):
        embed(graph)
    loaded = onnx.load(graph / "model.onnx")
    loaded.graph.input[0].name = "pixels"
    for node in loaded.graph.node:
        node.input[:] = ["pixels" if name == "input_ids" else name for name in node.input]
    onnx.save(loaded, graph / "model.onnx")
    with pytest.raises(UnsupportedModel, match="the inputs attention_mask, pixels"):
        embed(graph)


def test_the_first_dimensions_are_kept_and_scaled(tmp_path: Path) -> None:
    model = bert(tmp_path / "model")
    whole = embed(model)
    for dimension in (1, 5, 16):
        expected = whole[:, :dimension]
        expected = expected / np.linalg.norm(expected, axis=1, keepdims=True)
        np.testing.assert_allclose(embed(model, dimension=dimension), expected, atol=1e-5)
    embedder = load_embedder(EmbedderConfig(model=str(model), dimension=5))
    assert export_text_encoder(embedder, tmp_path, probes=TEXTS).dimension == 5
    session = ort.InferenceSession(tmp_path / "text_encoder.onnx")
    assert session.get_outputs()[0].shape[-1] == 5
    with pytest.raises(UnsupportedModel, match="has 16 dimensions, 17 cannot be kept"):
        embed(model, dimension=17)


@pytest.mark.parametrize(
    ("name", "query", "passage", "pooling"),
    [
        ("multilingual-e5-small", "query: ", "passage: ", "mean"),
        ("e5-base-v2", "query: ", "passage: ", "mean"),
        (
            "bge-small-en-v1.5",
            "Represent this sentence for searching relevant passages: ",
            "",
            "cls",
        ),
        ("bge-large-zh", "为这个句子生成表示以用于检索相关文章：", "", "cls"),
        ("e5-large-instruct", "", "", "mean"),
        ("bge-m3", "", "", "mean"),
    ],
)
def test_known_families_have_their_prompts(
    tmp_path: Path, name: str, query: str, passage: str, pooling: str
) -> None:
    embedder = load_embedder(EmbedderConfig(model=str(bert(tmp_path / name))))
    assert (embedder.query_prompt, embedder.prompt) == (query, passage)
    assert embedder.encoder.head.pooling == pooling
    told = EmbedderConfig(
        model=str(tmp_path / name), prompt="the ", query_prompt="good ", pooling="lasttoken"
    )
    embedder = load_embedder(told)
    assert (embedder.query_prompt, embedder.prompt) == ("good ", "the ")
    assert embedder.encoder.head.pooling == "lasttoken"


def test_a_models_own_prompts_come_before_its_familys(tmp_path: Path) -> None:
    model = bert(tmp_path / "e5-small")
    own = '{"prompts": {"query": "good ", "document": "the film , "}}'
    (model / "config_sentence_transformers.json").write_text(own)
    embedder = load_embedder(EmbedderConfig(model=str(model)))
    assert (embedder.query_prompt, embedder.prompt) == ("good ", "the film , ")


def test_one_prompt_is_for_queries_too(tmp_path: Path) -> None:
    embedder = load_embedder(EmbedderConfig(model=str(bert(tmp_path / "x")), prompt="the "))
    assert embedder.query_prompt == "the "


def test_queries_and_items_are_served_with_their_prompts(tmp_path: Path) -> None:
    model = bert(tmp_path / "model")
    embedder = load_embedder(EmbedderConfig(model=str(model)))
    export_text_encoder(embedder, tmp_path)
    served = OnnxTextEncoder(
        tmp_path / "text_encoder.onnx",
        tmp_path / "text_tokenizer.json",
        prefix="the ",
        query_prefix="good ",
        threads=1,
    )
    item, query = embed(model, ["the film", "good film"])
    np.testing.assert_allclose(served.encode_batch(["film"])[0], item, atol=1e-5)
    np.testing.assert_allclose(served.encode("film"), query, atol=1e-5)


def test_a_manifest_names_a_query_prompt_only_where_there_is_one() -> None:
    section = CandidateSection(
        max_history=1,
        transition_window=1,
        transition_decay=1,
        behavior_weight=0,
        transition_weight=0,
    )
    assert "query_prefix" not in section.model_dump()
    own = section.model_copy(update={"query_prefix": ""})
    assert CandidateSection.model_validate(own.model_dump()).query_prefix == ""
