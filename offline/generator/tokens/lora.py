"""Low-rank adaptation of a checkpoint, as OpenP5 has it (https://arxiv.org/abs/2106.09685).

The checkpoint's own weights stay as they are. What learns is a product of two narrow matrices
beside some of them, and the rows of the embeddings that stand for code tokens, which nobody has
trained before. Both are merged into the weights at the end, so nothing later knows of them.
"""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from peft import LoraConfig, PeftModel, TaskType, get_peft_model
from torch import nn
from transformers import PreTrainedModel

from offline.generator.config import LoraSection
from offline.generator.tokens.model import tables_of

_ATTENTION: Final = ("q", "k", "v", "o")
_FEED_FORWARD: Final = ("wi", "wi_0", "wi_1", "wo", "gate_proj", "up_proj", "down_proj")
"""What the matrices of a feed-forward network are called, in T5 and in LLaMA."""


@contextmanager
def adapted(
    model: PreTrainedModel, section: LoraSection, rows: Sequence[int]
) -> Iterator[PeftModel]:
    """Puts matrices that learn into a model, the rest of which is frozen; merges them at the end.

    Args:
        model: changed in place, so that a loss that is made of it learns; afterwards it is of the
            form that it had.
        section: which matrices, and how narrow.
        rows: ids of the tokens whose rows of the embeddings learn, too.
    """
    tables = _tables(model) if len(rows) else []
    config = LoraConfig(
        task_type=TaskType.SEQ_2_SEQ_LM if model.config.is_encoder_decoder else TaskType.CAUSAL_LM,
        r=section.rank,
        lora_alpha=section.alpha or 2 * section.rank,
        lora_dropout=section.dropout,
        target_modules=_modules(model, section.targets),
        trainable_token_indices={name: list(rows) for name in tables} or None,
    )
    with warnings.catch_warnings():  # peft asks transformers by a name that it will give up
        warnings.simplefilter("ignore", FutureWarning)
        cover: Any = get_peft_model(model, config)
    yield cover
    cover.merge_and_unload()


def _modules(model: nn.Module, targets: Sequence[str]) -> list[str]:
    """The names of the targets' modules, whichever backbone has them."""
    wanted = {name for part in targets if part in _ATTENTION for name in (part, f"{part}_proj")}
    wanted |= set(_FEED_FORWARD) if "ff" in targets else set()
    found = {name.rpartition(".")[2] for name, _ in model.named_modules()}
    return sorted(wanted & found)


def _tables(model: PreTrainedModel) -> list[str]:
    """The tables of token vectors: one, or with an output of its own two."""
    names = {id(module): name for name, module in model.named_modules()}
    return [names[id(table)].rpartition(".")[2] for table in tables_of(model)]
