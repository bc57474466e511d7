"""Tiny random models of four families, and their tokenizers, in the layout of their hubs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertModel,
    GPT2Config,
    GPT2Model,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2Model,
    T5Config,
    T5Model,
)

from offline.embeddings import (
    EmbedderConfig,
)
from offline.embeddings import embed as embed_all

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "the", "good", "bad", "film", "genres", "drama", ","]
UNKNOWN = WORDS[1]
TEXTS = ["the good film", "film", "the bad film , genres drama , drama , the", "zebra good"]


def save(directory: Path, tokenizer: Tokenizer) -> None:
    wrapped = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        pad_token=WORDS[0],
        unk_token=UNKNOWN,
        model_max_length=64,
        padding_side="left",
    )
    wrapped.save_pretrained(directory)


def save_word_tokenizer(directory: Path) -> None:
    vocabulary = {word: i for i, word in enumerate(WORDS)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    save(directory, tokenizer)


def save_byte_tokenizer(directory: Path) -> None:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {symbol: i for i, symbol in enumerate([*WORDS[:4], *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    save(directory, tokenizer)


def bert(directory: Path) -> Path:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(WORDS),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=64,
    )
    BertModel(config).save_pretrained(directory)
    save_word_tokenizer(directory)
    return directory


def qwen(directory: Path) -> Path:
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=260,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        intermediate_size=32,
        max_position_embeddings=64,
        bos_token_id=None,
        eos_token_id=3,
    )
    Qwen2Model(config).save_pretrained(directory)
    save_byte_tokenizer(directory)
    return directory


def gpt2(directory: Path) -> Path:
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=260,
        n_embd=16,
        n_layer=2,
        n_head=2,
        n_positions=64,
        bos_token_id=3,
        eos_token_id=3,
    )
    GPT2Model(config).save_pretrained(directory)
    save_byte_tokenizer(directory)
    return directory


def t5(directory: Path) -> Path:
    torch.manual_seed(0)
    config = T5Config(vocab_size=len(WORDS), d_model=16, d_kv=8, num_layers=1, num_heads=2, d_ff=32)
    T5Model(config).save_pretrained(directory)
    save_word_tokenizer(directory)
    return directory


MODELS: list[Callable[[Path], Path]] = [bert, qwen, gpt2, t5]


def embed(directory: Path, texts: list[str] = TEXTS, **options: Any) -> np.ndarray[Any, Any]:
    return embed_all(texts, EmbedderConfig(model=str(directory), device="cpu", **options))
