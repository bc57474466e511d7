"""Decoder-only models: a LLaMA from scratch, or any checkpoint that is built like one.

A prompt ends with a response part, and the code is what follows it. The loss is on the code alone.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from tokenizers import AddedToken, Tokenizer
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
)

from offline.generator.export.llama.layers import KINDS
from offline.generator.tokenizer import PAD, RESPONSE, end_with_response
from offline.generator.tokens.examples import IGNORE

PRESETS: Final[dict[str, dict[str, Any]]] = {
    # About as many weights as T5's presets. A feed-forward network has three matrices here, so its
    # width is two thirds of T5's; two heads share keys.
    "tiny": {"hidden_size": 128, "intermediate_size": 344, "num_attention_heads": 4}
    | {"num_key_value_heads": 2, "num_hidden_layers": 3},
    "mini": {"hidden_size": 256, "intermediate_size": 688, "num_attention_heads": 4}
    | {"num_key_value_heads": 2, "num_hidden_layers": 4},
    "small": {"hidden_size": 512, "intermediate_size": 1376, "num_attention_heads": 8}
    | {"num_key_value_heads": 4, "num_hidden_layers": 14},
}
ASKED: Final = "\nResponse:"
"""The response part in the pieces of a checkpoint's own tokenizer."""


def from_preset(name: str, tokenizer: Tokenizer, *, dropout: float) -> LlamaForCausalLM:
    """Makes an untrained model whose vocabulary is the tokenizer's.

    The tokenizer ends prompts with a token of its own from now on, where a code follows.
    """
    end_with_response(tokenizer, RESPONSE)
    special: dict[str, Any] = {"bos_token_id": None, "pad_token_id": 0, "eos_token_id": 1}
    config = LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        attention_dropout=dropout,
        tie_word_embeddings=True,
        max_position_embeddings=8192,
        **special,
        **PRESETS[name],
    )
    return LlamaForCausalLM(config)


def from_checkpoint(source: str | Path, *, dropout: float) -> tuple[PreTrainedModel, Tokenizer]:
    """Loads a checkpoint, by hub name or local path, with its own tokenizer.

    The tokenizer ends prompts with `ASKED` from now on, and pads with a token that is not the end.

    Raises:
        OSError: it cannot be found.
        ValueError: it is built in a way that is not exported, or its tokenizer has no fast form.
    """
    kind = AutoConfig.from_pretrained(source).model_type
    if kind not in KINDS:
        raise ValueError(f"{source} is a {kind}; these can be exported: t5, {', '.join(KINDS)}")
    model: Any = AutoModelForCausalLM.from_pretrained(
        source, dtype=torch.float32, attention_dropout=dropout
    )
    fast = AutoTokenizer.from_pretrained(source, use_fast=True)
    if not hasattr(fast, "backend_tokenizer"):
        raise ValueError(f"the tokenizer of {source} has no fast form, which serving needs")
    tokenizer: Tokenizer = end_with_response(fast.backend_tokenizer, ASKED)
    pad, eos = fast.pad_token_id, fast.eos_token_id
    if pad is None or pad == eos:
        tokenizer.add_tokens([AddedToken(PAD, special=True)])
        pad = tokenizer.token_to_id(PAD)
    model.config.pad_token_id, model.config.eos_token_id = pad, eos
    # What a chat model says by default, such as penalties for repetition, is not for codes.
    plain: Any = GenerationConfig  # untyped
    model.generation_config = plain(pad_token_id=pad, eos_token_id=eos)
    return model, tokenizer


class ResponseLoss(nn.Module):
    """A decoder-only model that learns several targets from each prompt that it reads.

    All targets of a prompt stand behind it in one sequence. Each sees the prompt and itself, at the
    positions that it would have alone, so it costs and learns what it would alone; what targets
    begin with alike is read once.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor, labels: Tensor) -> Tensor:
        """The mean cross-entropy per target token.

        Args:
            input_ids: [batch, tokens] prompts, padded on the right.
            attention_mask: [batch, tokens] 1 for prompt, 0 for padding.
            labels: [batch, targets, code length] codes; -100 where there is nothing to learn.
        """
        causal: Any = self.model
        behind = _Beginnings.of(labels)
        ends = attention_mask.sum(1, keepdim=True)
        places = torch.arange(input_ids.shape[1], device=labels.device).expand_as(input_ids)
        states = causal.model(
            input_ids=torch.cat([input_ids, behind.token], dim=1),
            attention_mask=_visible(attention_mask, behind.sees)[:, None],
            position_ids=torch.cat([places, ends + behind.level], dim=1),
            use_cache=False,
        ).last_hidden_state
        prompts = torch.arange(len(labels), device=labels.device)
        last = states[prompts, ends[:, 0] - 1]
        read = states[behind.prompt, input_ids.shape[1] + behind.place]
        told = causal.lm_head(torch.cat([last, read])).log_softmax(-1)
        first, rest = labels[:, :, 0], labels[:, :, 1:]
        begun = told[: len(labels)].gather(1, first.clamp(min=0))[first != IGNORE]
        gone_on = told[len(labels) + behind.which, rest[rest != IGNORE]]
        total: Tensor = begun.sum() + gone_on.sum()
        return -total / (len(begun) + len(gone_on))


@dataclass(frozen=True)
class _Beginnings:
    """What the targets of each prompt begin with, as rows behind it: each beginning once."""

    token: Tensor
    """int64 [batch, rows] the last token of each."""
    level: Tensor
    """int64 [batch, rows] how many tokens are before it."""
    sees: Tensor
    """bool [batch, rows, rows] whether a row continues another one, or is it."""
    prompt: Tensor
    """int64 [beginnings] the prompt that each stands behind, which may have fewer than rows."""
    place: Tensor
    """int64 [beginnings] its row there."""
    which: Tensor
    """int64 [learned] the beginning that each learned token follows, in the order of the labels;
    first tokens follow none."""

    @classmethod
    def of(cls, labels: Tensor) -> "_Beginnings":
        """Those of labels [batch, targets, code length]."""
        prompt, target, level = (labels[:, :, 1:] != IGNORE).nonzero(as_tuple=True)
        levels = torch.arange(labels.shape[2] - 1, device=labels.device)
        tokens = labels[prompt, target, :-1].masked_fill(levels > level[:, None], IGNORE)
        keyed = torch.cat([prompt[:, None], tokens], dim=1)
        distinct, which = torch.unique(keyed, dim=0, return_inverse=True)
        prompt, counts = distinct[:, 0], torch.bincount(distinct[:, 0], minlength=len(labels))
        place = torch.arange(len(prompt), device=labels.device)
        place = place - (counts.cumsum(0) - counts)[prompt]
        rows = labels.new_full((len(labels), int(counts.max()), len(levels)), IGNORE)
        rows[prompt, place] = distinct[:, 1:]
        known = rows != IGNORE
        alike = (rows[:, :, None] == rows[:, None]) | ~known[:, None]
        sees = alike.all(-1) & known.any(-1)[:, None]
        level = (known.sum(-1) - 1).clamp(min=0)
        token = rows.masked_fill(levels != level[:, :, None], 0).sum(-1).clamp(min=0)
        return cls(token, level, sees, prompt, place, which)


def _visible(attention_mask: Tensor, sees: Tensor) -> Tensor:
    """What each row may look at, bool [batch, rows, rows]: prompts, then what stands behind them.

    Args:
        attention_mask: [batch, tokens] of the prompts.
        sees: bool [batch, rows, rows] of what stands behind.
    """
    batch, tokens = attention_mask.shape
    within = attention_mask.new_ones(tokens, tokens, dtype=torch.bool).tril()
    behind = sees.shape[1]
    prompt = attention_mask.bool()[:, None].expand(-1, behind, -1)
    upper = torch.cat([within, within.new_zeros(tokens, behind)], dim=1)
    return torch.cat([upper.expand(batch, -1, -1), torch.cat([prompt, sees], dim=2)], dim=1)
