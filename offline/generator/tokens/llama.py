"""Decoder-only models: a LLaMA from scratch, or any checkpoint that is built like one.

A prompt ends with a response part, and the code is what follows it. The loss is on the code alone.
"""

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
    positions that it would have alone, so it costs and learns what it would alone.
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
        batch, targets, length = labels.shape
        read = labels[:, :, :-1].clamp(min=0).flatten(1)  # the last token is only predicted
        ends = attention_mask.sum(1, keepdim=True)
        levels = torch.arange(length - 1, device=labels.device).repeat(targets)
        places = torch.arange(input_ids.shape[1], device=labels.device).expand_as(input_ids)
        states = causal.model(
            input_ids=torch.cat([input_ids, read], dim=1),
            attention_mask=_visible(attention_mask, targets, length - 1)[:, None],
            position_ids=torch.cat([places, ends + levels], dim=1),
            use_cache=False,
        ).last_hidden_state
        last = states[torch.arange(batch, device=labels.device), ends[:, 0] - 1]
        behind = states[:, input_ids.shape[1] :].view(batch, targets, length - 1, states.shape[-1])
        # The first token of every target of a prompt is said by the same row, which is asked once.
        first, rest = labels[:, :, 0], labels[:, :, 1:]
        learned = rest != IGNORE
        logits = causal.lm_head(torch.cat([last, behind[learned]]))
        told = logits[:batch].log_softmax(-1).gather(1, first.clamp(min=0))
        followed = nn.functional.cross_entropy(logits[batch:], rest[learned], reduction="sum")
        total = followed - told[first != IGNORE].sum()
        return total / (labels != IGNORE).sum()


def _visible(attention_mask: Tensor, targets: int, length: int) -> Tensor:
    """What each row may look at, bool [batch, rows, rows]: prompts, then so many targets.

    Args:
        attention_mask: [batch, tokens] of the prompts.
        targets: how many follow each.
        length: rows of a target.
    """
    device = attention_mask.device
    batch, tokens = attention_mask.shape
    behind = torch.arange(targets * length, device=device)
    target, level = behind.div(max(length, 1), rounding_mode="floor"), behind % max(length, 1)
    own = (target[:, None] == target) & (level[:, None] >= level)
    within = torch.ones(tokens, tokens, dtype=torch.bool, device=device).tril()
    prompt = attention_mask.bool()[:, None].expand(-1, len(behind), -1)
    upper = torch.cat([within, within.new_zeros(tokens, len(behind))], dim=1)
    lower = torch.cat([prompt, own.expand(batch, -1, -1)], dim=2)
    return torch.cat([upper.expand(batch, -1, -1), lower], dim=1)
