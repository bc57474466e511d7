"""A model that reads whole items, writing text.

It reads words and items mixed, and writes with the decoder that writes codes, which starts from the
encoder's last state as it does there; the head is that of a T5 with tied embeddings, over the words
alone. So `transformers`' parameters are all that it has.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from offline.generator.items.model import ItemT5
from offline.generator.items.t5_layers import encode_causally
from offline.generator.texts.batches import IGNORE, TextBatch


def text_loss(model: ItemT5, batch: TextBatch) -> Tensor:
    """The mean over tokens of the negative log-probability of the texts."""
    batch = batch.to(model.item_vectors.device)
    memory = encode_mixed(model, batch.ids)
    tokens = batch.labels[:, :-1].clamp(min=0)
    hidden = _decode(model, tokens, memory, batch.lengths)
    known = batch.labels != IGNORE
    return F.cross_entropy(word_logits(model, hidden[known]), batch.labels[known])


def encode_mixed(model: ItemT5, ids: Tensor) -> Tensor:
    """The encoder's states, float32 [batch, tokens, d_model].

    Args:
        model: what reads.
        ids: int64 [batch, tokens] words, and items by their positions in the catalog behind the
            words; padding stands at the end, and has no part in what stands before it.
    """
    size, table = model.t5.config.vocab_size, model.table()
    words = model.t5.shared(ids.clamp(max=size - 1))
    items = F.embedding((ids - size).clamp(min=0), table) * math.sqrt(table.shape[1])
    return encode_causally(model.t5, torch.where((ids >= size)[..., None], items, words))


def word_logits(model: ItemT5, hidden: Tensor) -> Tensor:
    """What the decoder says about each word, float32 [..., words]; see `ItemT5.words`."""
    return F.linear(hidden, model.t5.shared.weight[: model.words])


@torch.inference_mode()
def write_texts(
    model: ItemT5, prompts: Sequence[Sequence[int]], max_tokens: int
) -> list[list[int]]:
    """The likeliest token after each, until the end token or so many: exact, and slow.

    Args:
        model: what writes, in evaluation mode.
        prompts: as `encode_mixed` reads them, unpadded.
        max_tokens: the most tokens of a text, the end token included.

    Returns:
        Token ids, without the end token.
    """
    batch = TextBatch.of(prompts, [[]] * len(prompts)).to(model.item_vectors.device)
    memory = encode_mixed(model, batch.ids)
    written = torch.empty((len(prompts), 0), dtype=torch.int64, device=memory.device)
    end: Any = model.t5.config.eos_token_id  # one token
    while written.shape[1] < max_tokens and not (written == end).any(dim=1).all():
        hidden = _decode(model, written, memory, batch.lengths)
        likeliest = word_logits(model, hidden[:, -1]).argmax(dim=-1)
        written = torch.cat([written, likeliest[:, None]], dim=1)
    return [_before(row, end) for row in written.tolist()]


def _decode(model: ItemT5, tokens: Tensor, memory: Tensor, lengths: Tensor) -> Tensor:
    """The decoder's states before each token and after the last, [batch, tokens + 1, d_model]."""
    places = torch.arange(memory.shape[1], device=memory.device)
    last = memory[torch.arange(len(memory), device=memory.device), lengths - 1]
    visible = (places < lengths[:, None])[:, None]
    return model.decode(tokens[:, None], last[:, None], memory, visible)[:, 0]


def _before(tokens: list[int], end: int) -> list[int]:
    return tokens[: tokens.index(end)] if end in tokens else tokens
