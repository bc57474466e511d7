"""Where the rows of code tokens start from in a checkpoint, which has never read them."""

from collections import defaultdict
from collections.abc import Sequence

import torch
from tokenizers import Tokenizer
from torch import Tensor
from transformers import PreTrainedModel

from offline.generator.tokenizer import level_ids
from offline.generator.tokens.model import tables_of

Pieces = dict[int, list[list[int]]]
"""By code token, the pieces of its items' texts."""


@torch.no_grad()
def start_from_texts(
    model: PreTrainedModel, tokenizer: Tokenizer, code_texts: Sequence[str], texts: Sequence[str]
) -> None:
    """Lets the rows of code tokens start from the words of the items whose codes have them.

    A table that grows gets rows that are all alike, so that codes could not be told apart before
    training has moved them.

    Args:
        model: its tables are changed in place, in the rows of level tokens only.
        tokenizer: its own, which knows the level tokens.
        code_texts: the code of each item.
        texts: of the same items.
    """
    pieces = _pieces(tokenizer, code_texts, texts)
    if not pieces:
        return
    for table in tables_of(model):
        weight = table.get_parameter("weight")
        weight[sorted(pieces)] = _described(weight, pieces)


def _pieces(tokenizer: Tokenizer, code_texts: Sequence[str], texts: Sequence[str]) -> Pieces:
    pieces: Pieces = defaultdict(list)
    encoded = tokenizer.encode_batch(list(texts), add_special_tokens=False)
    for code, text in zip(code_texts, encoded, strict=True):
        if text.ids:
            for token in level_ids(tokenizer, [code]):
                pieces[token].append(text.ids)
    return pieces


def _described(table: Tensor, pieces: Pieces) -> Tensor:
    """Rows of the tokens, ascending, as far from their mean as rows usually are from theirs."""
    means = [torch.stack([table[ids].mean(0) for ids in pieces[t]]).mean(0) for t in sorted(pieces)]
    mean = torch.stack(means).mean(0)
    own = torch.stack(means) - mean
    usual = (table - table.mean(0)).norm(dim=1).median()
    rows: Tensor = mean + own / own.norm(dim=1, keepdim=True).clamp(min=1e-6) * usual
    return rows
