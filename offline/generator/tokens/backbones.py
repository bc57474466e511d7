"""The models that read tokens, whatever their backbone: from scratch, a checkpoint, or trained."""

from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    PreTrainedModel,
    T5ForConditionalGeneration,
)

from offline.generator.config import Backbone
from offline.generator.export.llama.layers import require
from offline.generator.tokens import llama
from offline.generator.tokens import model as t5


def from_preset(
    backbone: Backbone, name: str, tokenizer: Tokenizer, *, dropout: float
) -> PreTrainedModel:
    """Makes an untrained model; prompts of the tokenizer end as it needs them from now on.

    Args:
        backbone: an encoder and a decoder, or a decoder alone.
        name: of the preset.
        tokenizer: whose vocabulary is the model's.
        dropout: of the model, in training.
    """
    make = {"t5": t5.from_preset, "llama": llama.from_preset}[backbone]
    return make(name, tokenizer, dropout=dropout)


def from_checkpoint(source: str | Path, *, dropout: float) -> tuple[PreTrainedModel, Tokenizer]:
    """Loads a checkpoint, by hub name or local path, with its own tokenizer.

    Raises:
        OSError: it cannot be found.
        ValueError: it is none that is exported, or its tokenizer has no fast form.
    """
    if AutoConfig.from_pretrained(source).is_encoder_decoder:
        return t5.from_checkpoint(source, dropout=dropout)
    return llama.from_checkpoint(source, dropout=dropout)


def require_positions(model: PreTrainedModel, positions: int) -> None:
    """Refuses, before it is trained, a model that cannot read prompts and codes of such a length.

    Raises:
        ValueError: it cannot.
    """
    if not model.config.is_encoder_decoder:
        require(model.config, positions)


def load(directory: Path) -> PreTrainedModel:
    """A trained model that a build has saved, ready to be asked."""
    encodes = AutoConfig.from_pretrained(directory).is_encoder_decoder
    kind: Any = T5ForConditionalGeneration if encodes else AutoModelForCausalLM
    model: PreTrainedModel = kind.from_pretrained(directory)
    model.train(False)
    return model


def loss_of(model: PreTrainedModel) -> nn.Module:
    """What the model learns by; called with the tensors of a `Batch`."""
    if isinstance(model, T5ForConditionalGeneration):
        return t5.MultiTargetLoss(model)
    return llama.ResponseLoss(model)
