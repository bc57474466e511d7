"""The T5 model: presets from scratch, or any checkpoint."""

from pathlib import Path
from typing import Any, Final

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import AutoTokenizer, PreTrainedModel, T5Config, T5ForConditionalGeneration

PRESETS: Final[dict[str, dict[str, Any]]] = {
    # T5 v1.0's recipe (ReLU, tied embeddings) at sizes from a demo's to the original's. The small
    # ones decode with less than they read with: a code is short, a history is not.
    "tiny": {"d_model": 128, "d_kv": 32, "d_ff": 512, "num_heads": 4}
    | {"num_layers": 2, "num_decoder_layers": 1},
    "mini": {"d_model": 256, "d_kv": 64, "d_ff": 1024, "num_heads": 4}
    | {"num_layers": 3, "num_decoder_layers": 1},
    "small": {"d_model": 512, "d_kv": 64, "d_ff": 2048, "num_heads": 8}
    | {"num_layers": 6, "num_decoder_layers": 6},
}


def from_preset(name: str, tokenizer: Tokenizer, *, dropout: float) -> T5ForConditionalGeneration:
    """Makes an untrained model whose vocabulary is the tokenizer's."""
    special: dict[str, Any] = {"decoder_start_token_id": 0, "pad_token_id": 0, "eos_token_id": 1}
    config = T5Config(
        vocab_size=tokenizer.get_vocab_size(),
        dropout_rate=dropout,
        **special,
        **PRESETS[name],
    )
    return T5ForConditionalGeneration(config)


def from_checkpoint(
    source: str | Path, *, dropout: float
) -> tuple[T5ForConditionalGeneration, Tokenizer]:
    """Loads a T5 checkpoint, by hub name or local path, with its own tokenizer.

    Raises:
        OSError: it cannot be found.
        ValueError: it is not a T5, or its tokenizer has no fast form.
    """
    model = T5ForConditionalGeneration.from_pretrained(source, dropout_rate=dropout)
    fast = AutoTokenizer.from_pretrained(source, use_fast=True)
    if not hasattr(fast, "backend_tokenizer"):
        raise ValueError(f"the tokenizer of {source} has no fast form, which serving needs")
    return model, fast.backend_tokenizer


def tables_of(model: PreTrainedModel) -> list[nn.Module]:
    """The tables of token vectors: one, or with an output of its own two."""
    untyped: Any = model
    tables = [untyped.get_input_embeddings()]
    if not model.config.tie_word_embeddings:
        tables.append(untyped.get_output_embeddings())
    return tables


def fit_vocabulary(model: PreTrainedModel, tokenizer: Tokenizer) -> None:
    """Grows the model's embeddings for added tokens; a larger table, as T5 has it, is kept."""
    needed = tokenizer.get_vocab_size(with_added_tokens=True)
    if needed > model.config.vocab_size:
        model.resize_token_embeddings(needed, mean_resizing=False)


def special_tokens(model: PreTrainedModel) -> tuple[int, int]:
    """The ids of padding and of the end of a sequence."""
    config: Any = model.config  # its class types what every checkpoint has as optional
    return config.pad_token_id, config.eos_token_id


class MultiTargetLoss(nn.Module):
    """A T5 that learns several targets from each encoded history.

    Encoding is most of the work, so the decoder reads all targets of a history in one pass:
    attention to the encoder sees them as one long query, and self-attention as separate sequences.
    """

    def __init__(self, t5: T5ForConditionalGeneration) -> None:
        super().__init__()
        self.t5 = t5

    def forward(self, input_ids: Tensor, attention_mask: Tensor, labels: Tensor) -> Tensor:
        """The mean cross-entropy per target token.

        Args:
            input_ids: [batch, tokens] prompts.
            attention_mask: [batch, tokens] 1 for prompt, 0 for padding.
            labels: [batch, targets, code length] codes; -100 where there is nothing to learn.
        """
        encoded = self.t5.encoder(input_ids=input_ids, attention_mask=attention_mask)
        logits = self._decode(encoded.last_hidden_state, attention_mask, labels)
        return nn.functional.cross_entropy(logits.flatten(0, -2), labels.flatten())

    def _decode(self, encoded: Tensor, attention_mask: Tensor, labels: Tensor) -> Tensor:
        """Logits [batch, targets, code length, vocabulary]."""
        decoder: Any = self.t5.decoder  # torch types a submodule as one that cannot be indexed
        config = self.t5.config
        batch, targets, length = labels.shape
        tokens = labels.roll(1, dims=-1).clamp(min=0)  # clamped ones never reach a counted loss
        tokens[..., 0] = config.decoder_start_token_id
        hidden = decoder.dropout(decoder.embed_tokens(tokens.view(batch * targets, length)))
        future = torch.full((length, length), torch.finfo(hidden.dtype).min, device=hidden.device)
        bias = decoder.block[0].layer[0].SelfAttention.compute_bias(length, length)
        bias = bias + future.triu(1)
        padding = (1.0 - attention_mask[:, None, None, :]) * torch.finfo(hidden.dtype).min
        for block in decoder.block:
            hidden = block.layer[0](hidden, position_bias=bias)[0]
            wide = hidden.view(batch, targets * length, -1)
            wide = block.layer[1](wide, encoded, attention_mask=padding)[0]
            hidden = block.layer[2](wide).view(batch * targets, length, -1)
        hidden = decoder.dropout(decoder.final_layer_norm(hidden))
        if config.scale_decoder_outputs:
            hidden = hidden * config.d_model**-0.5
        logits: Tensor = self.t5.lm_head(hidden)
        return logits.view(batch, targets, length, -1)
