"""Tiny random models on disk, as a user's local checkpoints would be."""

from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

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
