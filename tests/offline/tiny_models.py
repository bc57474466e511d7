"""Tiny random models on disk, as a user's local checkpoints would be."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from gguf import MODEL_ARCH, GGUFWriter, TokenType, get_tensor_name_map
from numpy.typing import NDArray
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedModel, PreTrainedTokenizerFast

from tests.generator.made_up import Backbone, random_llama, random_t5


def save_text_embedder(directory: Path) -> Path:
    """A BERT that knows letters."""
    torch.manual_seed(0)
    alphabet = ["[PAD]", "[UNK]", *"abcdefghijklmnopqrstuvwxyz0123456789 .,:()"]
    config = BertConfig(
        vocab_size=len(alphabet), hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=32, max_position_embeddings=64,
    )  # fmt: skip
    BertModel(config).save_pretrained(directory)
    tokenizer = Tokenizer(models.WordLevel({c: i for i, c in enumerate(alphabet)}, "[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", model_max_length=64
    ).save_pretrained(directory)
    return directory


def save_t5(directory: Path) -> Path:
    """A T5 whose tokenizer cuts text into pieces, as sentencepiece does."""
    torch.manual_seed(0)
    pieces = ["<pad>", "</s>", "<unk>", "▁", "▁item", "_", *"abcdefghijklmnopqrstuvwxyz0123456789"]
    # T5 has more rows than its tokenizer has pieces.
    random_t5(len(pieces) + 10, {}).save_pretrained(directory)
    unigram = models.Unigram([(piece, -float(i)) for i, piece in enumerate(pieces)], 2, False)
    tokenizer = Tokenizer(unigram)
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(directory)
    return directory


def save_llama(directory: Path, *, kind: Backbone = "llama") -> Path:
    """A decoder-only model whose tokenizer begins texts, and pads with what ends them."""
    pieces = ["<s>", "</s>", *"abcdefghijklmnopqrstuvwxyz0123456789_ .,:?R\n"]
    changes = {"pad_token_id": None, "bos_token_id": 0, "max_position_embeddings": 256}
    model = random_llama(len(pieces) + 3, changes, kind)
    model.save_pretrained(directory)
    tokenizer = Tokenizer(models.WordLevel({p: i for i, p in enumerate(pieces)}, "."))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 0)]
    )
    PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="</s>"
    ).save_pretrained(directory)
    return directory


GGUF_PIECES = (
    *("<s>", "</s>", "<|endoftext|>", "Ġ", "Ċ", "is", "in"),
    *"abcdefghijklmnopqrstuvwxyzR0123456789_.,:?<>",
)
"""What the tokenizer of a GGUF file knows, in the bytes of GPT-2."""


def save_gguf(path: Path, *, kind: Backbone = "llama") -> PreTrainedModel:
    """A decoder-only model as llama.cpp's converter writes it; returns what it was made of."""
    changes: dict[str, object] = {"bos_token_id": 0, "max_position_embeddings": 256}
    if kind == "qwen3":
        changes["head_dim"] = 128  # which transformers takes for granted there
    model = random_llama(len(GGUF_PIECES), changes, kind)
    config: Any = model.config
    writer = GGUFWriter(path, kind)
    writer.add_name("tiny")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(config.head_dim)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(GGUF_PIECES)
    writer.add_token_types([TokenType.CONTROL] * 3 + [TokenType.NORMAL] * (len(GGUF_PIECES) - 3))
    writer.add_token_merges(["i s", "i n"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    writer.add_unk_token_id(2)
    for name, array in _gguf_arrays(model, kind).items():
        writer.add_tensor(name, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return model


def _gguf_arrays(model: PreTrainedModel, kind: Backbone) -> dict[str, NDArray[np.float32]]:
    """A model's weights by llama.cpp's names, which wants pairs of a head side by side in LLaMA."""
    config: Any = model.config
    arch = {"llama": MODEL_ARCH.LLAMA, "qwen2": MODEL_ARCH.QWEN2, "qwen3": MODEL_ARCH.QWEN3}[kind]
    names = get_tensor_name_map(arch, config.num_hidden_layers)
    arrays = {}
    for name, weights in model.named_parameters():
        array = weights.detach().numpy()
        if kind == "llama" and name.endswith(("q_proj.weight", "k_proj.weight")):
            halves = array.reshape(-1, 2, config.head_dim // 2, array.shape[1])
            array = np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(array.shape)
        arrays[str(names.get_name(name, try_suffixes=(".weight", ".bias")))] = array
    return arrays
