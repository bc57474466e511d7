"""The text embedder against transformers and against pooling by hand, on tiny random models."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.progress import Progress
from safetensors.torch import save_file
from transformers import (
    AutoModel,
    PreTrainedTokenizerFast,
)

from offline.embeddings import (
    EmbedderConfig,
    load_embedder,
)
from offline.embeddings import embed as embed_all
from offline.embeddings.layout import UnsupportedModel
from tests.offline.embeddings.tiny_embedders import MODELS, TEXTS, bert, embed, gpt2, qwen, t5


def write_json(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")


def sentence_transformer(directory: Path, pooling: dict[str, object], *extra: str) -> None:
    steps = [("Transformer", ""), ("Pooling", "1_Pooling")]
    steps += [(kind, f"{i}_{kind}") for i, kind in enumerate(extra, start=2)]
    modules = [{"type": f"sentence_transformers.models.{k}", "path": p} for k, p in steps]
    write_json(directory / "modules.json", modules)
    write_json(directory / "1_Pooling" / "config.json", pooling)


def by_hand(directory: Path, text: str, pooling: str) -> np.ndarray[Any, Any]:
    """One text at a time, without padding, through transformers."""
    tokenizer = PreTrainedTokenizerFast.from_pretrained(directory)
    model = AutoModel.from_pretrained(directory).eval()
    if model.config.is_encoder_decoder:
        model = model.get_encoder()
    with torch.no_grad():
        ids = torch.tensor([tokenizer(text)["input_ids"]])
        states = model(input_ids=ids)[0][0].numpy()
    vector = {"cls": states[0], "mean": states.mean(0), "lasttoken": states[-1]}[pooling]
    return np.asarray(vector / np.linalg.norm(vector))


@pytest.mark.parametrize("make", MODELS)
@pytest.mark.parametrize("pooling", ["mean", "cls", "lasttoken"])
def test_a_batch_equals_one_text_at_a_time(
    tmp_path: Path, make: Callable[[Path], Path], pooling: Any
) -> None:
    make(tmp_path)
    vectors = embed(tmp_path, pooling=pooling)
    expected = np.stack([by_hand(tmp_path, text, pooling) for text in TEXTS])
    np.testing.assert_allclose(vectors, expected, atol=1e-5)
    assert vectors.dtype == np.float32


@pytest.mark.parametrize("batch_size", [1, 2, 3, 100])
def test_batching_keeps_the_order(tmp_path: Path, batch_size: int) -> None:
    texts = TEXTS * 3
    vectors = embed(bert(tmp_path), texts, batch_size=batch_size)
    np.testing.assert_allclose(vectors, np.tile(embed(tmp_path), (3, 1)), atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, rtol=1e-5)


def test_default_pooling_is_mean_for_encoders_and_last_token_for_decoders(tmp_path: Path) -> None:
    for make, expected in [(bert, "mean"), (t5, "mean"), (qwen, "lasttoken"), (gpt2, "lasttoken")]:
        directory = make(tmp_path / make.__name__)
        assert load_embedder(EmbedderConfig(model=str(directory))).encoder.head.pooling == expected


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, "cls"),
        ({"pooling_mode_mean_tokens": True, "include_prompt": True}, "mean"),
        ({"pooling_mode_mean_sqrt_len_tokens": True}, "mean"),
        ({"pooling_mode_lasttoken": True}, "lasttoken"),
        ({"embedding_dimension": 16, "pooling_mode": "cls"}, "cls"),
    ],
)
def test_pooling_is_read_from_the_model(
    tmp_path: Path, settings: dict[str, object], expected: str
) -> None:
    sentence_transformer(bert(tmp_path), settings)
    np.testing.assert_allclose(embed(tmp_path), embed(tmp_path, pooling=expected), atol=1e-6)


@pytest.mark.parametrize(
    "settings",
    [
        {"pooling_mode_max_tokens": True},
        {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True},
        {"pooling_mode_mean_tokens": True, "include_prompt": False},
        {},
    ],
)
def test_an_unknown_pooling_is_an_error(tmp_path: Path, settings: dict[str, object]) -> None:
    sentence_transformer(bert(tmp_path), settings)
    with pytest.raises(UnsupportedModel, match="choose mean, cls or lasttoken"):
        embed(tmp_path)


def test_an_unknown_step_is_an_error(tmp_path: Path) -> None:
    sentence_transformer(bert(tmp_path), {"pooling_mode_cls_token": True}, "LSTM")
    with pytest.raises(UnsupportedModel, match="LSTM"):
        embed(tmp_path)


def test_dense_steps_are_applied(tmp_path: Path) -> None:
    sentence_transformer(bert(tmp_path), {"pooling_mode_cls_token": True}, "Dense", "Normalize")
    weight = torch.randn(4, 16, generator=torch.Generator().manual_seed(1))
    dense = tmp_path / "2_Dense"
    settings = {"in_features": 16, "out_features": 4, "bias": False}
    activation = "torch.nn.modules.linear.Identity"
    write_json(dense / "config.json", settings | {"activation_function": activation})
    save_file({"linear.weight": weight}, dense / "model.safetensors")
    projected = np.stack([by_hand(tmp_path, text, "cls") for text in TEXTS]) @ weight.numpy().T
    expected = projected / np.linalg.norm(projected, axis=1, keepdims=True)
    np.testing.assert_allclose(embed(tmp_path), expected, atol=1e-5)


def test_the_prompt_goes_before_every_text(tmp_path: Path) -> None:
    qwen(tmp_path)
    prompted = embed(tmp_path, ["the film , " + text for text in TEXTS])
    np.testing.assert_allclose(embed(tmp_path, prompt="the film , "), prompted, atol=1e-6)
    own = {"prompts": {"query": "bad ", "document": "the film , "}, "default_prompt_name": "query"}
    write_json(tmp_path / "config_sentence_transformers.json", own)
    np.testing.assert_allclose(embed(tmp_path), prompted, atol=1e-6)
    assert not np.allclose(embed(tmp_path, prompt=""), prompted)


def test_lowercase_is_respected(tmp_path: Path) -> None:
    bert(tmp_path)
    assert not np.allclose(embed(tmp_path, ["GOOD FILM"]), embed(tmp_path, ["good film"]))
    settings = {"max_seq_length": 64, "do_lower_case": True}
    write_json(tmp_path / "sentence_bert_config.json", settings)
    sentence_transformer(tmp_path, {"pooling_mode_mean_tokens": True})
    np.testing.assert_array_equal(embed(tmp_path, ["GOOD FILM"]), embed(tmp_path, ["good film"]))


def test_long_texts_are_cut_with_their_closing_token_kept(tmp_path: Path) -> None:
    bert(tmp_path)
    embedder = load_embedder(EmbedderConfig(model=str(tmp_path), max_length=5))
    ids, _ = embedder.tokenize(["good bad film drama drama drama"])
    assert ids.tolist() == [[2, 5, 6, 7, 3]]
    # Without a limit of one's own, the model's positions are the limit.
    assert load_embedder(EmbedderConfig(model=str(tmp_path))).max_length == 64
    assert embed(tmp_path, ["film " * 1000]).shape == (1, 16)


def test_texts_without_tokens_and_no_texts_are_errors(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no token to embed: ''"):
        embed(qwen(tmp_path), ["film", ""])
    with pytest.raises(ValueError, match="no texts"):
        embed(tmp_path, [])


def test_a_missing_directory_is_named() -> None:
    with pytest.raises(FileNotFoundError, match=r"no model directory '\./nowhere'"):
        load_embedder(EmbedderConfig(model="./nowhere"))


def test_a_model_without_fast_tokenizer_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "offline.embeddings.model.AutoTokenizer.from_pretrained", lambda _: object()
    )
    with pytest.raises(UnsupportedModel, match="fast tokenizer"):
        embed(bert(tmp_path))


def test_progress_reaches_the_number_of_texts(tmp_path: Path) -> None:
    progress = Progress(disable=True)
    embed_all(TEXTS, EmbedderConfig(model=str(bert(tmp_path)), batch_size=3), progress)
    assert [(t.completed, t.total) for t in progress.tasks] == [(4, 4)]
