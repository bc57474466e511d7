"""What a model that reads whole items makes of every item: exact, in torch, and without a search.

Training validates by it, an export must agree with it, and proofs are made of it.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from offline.generator.items.code_tree import CodeTree
from offline.generator.items.model import SEEN_SCALE, ItemT5

_HISTORIES_AT_ONCE: Final = 16


@torch.inference_mode()
def exact_scores(
    model: ItemT5,
    words: Sequence[int],
    histories: Sequence[NDArray[np.int32]],
    max_history: int,
    *,
    decoder: bool = True,
) -> NDArray[np.float32]:
    """The log-probability of every item's code after every history: exact, and slow.

    Args:
        model: whose scores they are.
        words: the prompt before the history, as token ids.
        histories: items, oldest first; the newest `max_history` are read, and all are seen.
        max_history: items that are read.
        decoder: whether it has a say; else a code's probability is the softmax over the items.

    Returns:
        float32 [histories, items].
    """
    device = model.item_vectors.device
    model.tree = model.tree.to(device)
    table, prefixes = model.table(), _Prefixes.of(model.tree)
    scores = np.empty((len(histories), model.tree.items), dtype=np.float32)
    order = np.argsort([len(history) for history in histories], kind="stable")
    for start in range(0, len(order), _HISTORIES_AT_ONCE):
        rows = order[start : start + _HISTORIES_AT_ONCE]
        part = [torch.from_numpy(histories[i].astype(np.int64)).to(device) for i in rows]
        prompt = torch.tensor([list(words)] * len(part), device=device)
        read = nn.utils.rnn.pad_sequence([h[-max_history:] for h in part], batch_first=True)
        memory = model.encode(prompt, read, table)
        ends = torch.tensor([len(words) + min(len(h), max_history) for h in part], device=device)
        state = memory[torch.arange(len(ends), device=device), ends - 1]
        likely = _likelihoods(model, state, part, table)
        if decoder:
            total = _corrected(model, likely, state, memory, ends, prefixes)
        else:
            total = likely.log_softmax(dim=1)
        scores[rows] = total.float().cpu().numpy()
    return scores


def _likelihoods(model: ItemT5, state: Tensor, seen: Sequence[Tensor], table: Tensor) -> Tensor:
    """How likely each item is before the decoder speaks, float64 [batch, items].

    Args:
        model: whose scores they are.
        state: float32 [batch, d_model] the last of each prompt.
        seen: the items of each history.
        table: what `table` returned.
    """
    scores: Tensor = (model.query(state) @ table.T).double()
    for row, items in zip(scores, seen, strict=True):
        row[items] += SEEN_SCALE * float(model.seen)
    return scores


def _corrected(
    model: ItemT5,
    scores: Tensor,
    state: Tensor,
    memory: Tensor,
    ends: Tensor,
    prefixes: "_Prefixes",
) -> Tensor:
    """The log-probability of every item's code, float64 [batch, items].

    Args:
        model: whose scores they are.
        scores: what `_likelihoods` returned.
        state: float32 [batch, d_model] the last of each prompt.
        memory: what `encode` returned.
        ends: int64 [batch] how many of its positions are each prompt's.
        prefixes: of the codes.
    """
    count = len(prefixes.tokens)
    tokens = prefixes.tokens.expand(len(ends), -1, -1)
    visible = torch.arange(memory.shape[1], device=ends.device) < ends[:, None]
    visible = visible[:, None].expand(-1, count, -1)
    hidden = model.decode(tokens, state[:, None].expand(-1, count, -1), memory, visible)
    total = torch.zeros_like(scores)
    for level in range(model.tree.levels):
        said = model.token_logits(hidden[:, :, level], level)
        weight = scores + said[:, prefixes.row, model.tree.columns[:, level]]
        total += _log_sums(weight, prefixes.node[level + 1])
        total -= _log_sums(weight, prefixes.node[level])
    return total


class _Prefixes:
    """The distinct codes without their last tokens, and which of them each item's begins with."""

    def __init__(self, tokens: Tensor, row: Tensor, node: tuple[Tensor, ...]) -> None:
        self.tokens = tokens
        """int64 [prefixes, levels - 1]"""
        self.row = row
        """int64 [items] the one that each item's code begins with."""
        self.node = node
        """For each level, the root's included, int64 [items]: the node above or at an item."""

    @classmethod
    def of(cls, tree: CodeTree) -> "_Prefixes":
        # The root is a prefix like others, but torch finds no distinct rows among empty ones.
        root = torch.zeros_like(tree.tokens[:, 0])
        rest = [
            torch.unique(tree.tokens[:, :level], dim=0, return_inverse=True)[1]
            for level in range(1, tree.levels + 1)
        ]
        node = (root, *rest)
        row = node[tree.levels - 1]
        tokens = tree.tokens.new_empty(int(row.max()) + 1, tree.levels - 1)
        tokens[row] = tree.tokens[:, :-1]
        return cls(tokens, row, node)


def _log_sums(values: Tensor, group: Tensor) -> Tensor:
    """For each value, the logarithm of the sum of the exponentials of its group of columns."""
    largest = values.amax(dim=1, keepdim=True)
    sums = values.new_zeros(len(values), int(group.max()) + 1)
    sums.index_add_(1, group, (values - largest).exp())
    return sums.log()[:, group] + largest
