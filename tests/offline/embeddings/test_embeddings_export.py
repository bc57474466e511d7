"""The text embedder as ONNX: it serves without torch, and gives what the model gives."""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from tokenizers import Tokenizer

from offline.embeddings import (
    EmbedderConfig,
    export_text_encoder,
    load_embedder,
    quantize_text_encoder,
)
from offline.embeddings.export import _export_graph
from offline.parity import ParityError
from services.candidate.retrieval.encoders import OnnxTextEncoder
from tests.offline.embeddings.tiny_embedders import (
    MODELS,
    TEXTS,
    WORDS,
    bert,
    embed,
    gpt2,
    qwen,
    t5,
)


@pytest.mark.parametrize("make", MODELS)
def test_export_serves_without_torch(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    make(tmp_path / "model")
    embedder = load_embedder(EmbedderConfig(model=str(tmp_path / "model"), prompt="the film "))
    export = export_text_encoder(embedder, tmp_path, probes=TEXTS)
    assert export.min_cosine > 0.9999
    assert (export.dimension, export.prompt) == (16, "the film ")
    assert export.files == ("text_encoder.onnx", "text_tokenizer.json")
    tokenizer = Tokenizer.from_file(str(tmp_path / "text_tokenizer.json"))
    session = ort.InferenceSession(tmp_path / "text_encoder.onnx")
    encodings = tokenizer.encode_batch([export.prompt + text for text in TEXTS])
    inputs = {
        "input_ids": np.array([e.ids for e in encodings]),
        "attention_mask": np.array([e.attention_mask for e in encodings]),
    }
    (vectors,) = session.run(["vectors"], inputs)
    expected = embed(tmp_path / "model", prompt="the film ")
    np.testing.assert_allclose(vectors, expected, atol=1e-5)


def test_weights_beyond_a_protobuf_go_beside_the_graph(tmp_path: Path) -> None:
    embedder = load_embedder(EmbedderConfig(model=str(bert(tmp_path / "model"))))
    graph = tmp_path / "text_encoder.onnx"
    _export_graph(embedder.encoder, graph, limit=0)
    assert sorted(path.name for path in tmp_path.glob("text*")) == [
        graph.name,
        graph.name + ".data",
    ]
    ids, mask = embedder.tokenize(TEXTS)
    inputs = {"input_ids": ids.numpy(), "attention_mask": mask.numpy()}
    (vectors,) = ort.InferenceSession(graph).run(None, inputs)
    np.testing.assert_allclose(vectors, embed(tmp_path / "model"), atol=1e-5)


def test_an_export_that_differs_fails_loudly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedder = load_embedder(EmbedderConfig(model=str(bert(tmp_path / "model"))))
    export = _export_graph

    def broken(encoder: Any, path: Path) -> None:
        export(encoder, path)
        with torch.no_grad():
            next(encoder.parameters()).mul_(-3.0)

    monkeypatch.setattr("offline.embeddings.export._export_graph", broken)
    with pytest.raises(ParityError, match="cosine"):
        export_text_encoder(embedder, tmp_path)


def test_a_graph_without_matrix_products_stays(tmp_path: Path) -> None:
    embedder = load_embedder(EmbedderConfig(model=str(gpt2(tmp_path / "model"))))
    export_text_encoder(embedder, tmp_path)  # GPT-2's are Gemm
    assert quantize_text_encoder(embedder, tmp_path, TEXTS, embed(tmp_path / "model")) is None


@pytest.mark.parametrize("make", [bert, qwen, t5])
def test_int8_replaces_the_graph_where_it_finds_the_same(
    tmp_path: Path, make: Callable[[Path], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    embedder = load_embedder(EmbedderConfig(model=str(make(tmp_path / "model"))))
    export_text_encoder(embedder, tmp_path)
    graph, before = tmp_path / "text_encoder.onnx", (tmp_path / "text_encoder.onnx").read_bytes()
    texts = [" ".join(words) for words in itertools.permutations(WORDS[4:9], 3)]
    vectors = embed(tmp_path / "model", texts)
    monkeypatch.setattr("offline.embeddings.int8.MIN_RECALL", 1.1)
    recall = quantize_text_encoder(embedder, tmp_path, texts, vectors)
    assert recall is not None
    assert graph.read_bytes() == before
    monkeypatch.setattr("offline.embeddings.int8.MIN_RECALL", recall)
    assert quantize_text_encoder(embedder, tmp_path, texts, vectors) == recall
    assert "MatMulIntegerToFloat" in {node.op_type for node in onnx.load(graph).graph.node}
    encoder = OnnxTextEncoder(graph, tmp_path / "text_tokenizer.json", prefix="", threads=1)
    found = encoder.encode_batch(texts)
    assert (found * vectors).sum(1).min() > 0.98
    # What a text is batched with does not matter.
    np.testing.assert_allclose(found[:3], [encoder.encode(t) for t in texts[:3]], atol=1e-5)
