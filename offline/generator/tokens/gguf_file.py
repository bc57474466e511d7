"""GGUF files, in which llama.cpp keeps a model and its tokenizer, read through `transformers`.

Their weights are often of a few bits, and are float32 once they are read, which takes a while. So
that is done once: what is written is a checkpoint like any other.
"""

import struct
from pathlib import Path
from typing import Any

import torch
from gguf import GGUFReader, Keys
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from offline.generator.export.llama.layers import KINDS


class GgufError(ValueError):
    """A GGUF file that is damaged, or of a model that is built otherwise."""


def convert(source: Path, directory: Path) -> None:
    """Writes the model and the tokenizer of a GGUF file as `transformers` keeps them, in float32.

    Raises:
        GgufError: the file is damaged, or its model is not exported.
    """
    _require_kind(source)
    _model(source).save_pretrained(directory)
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name)
    except (KeyError, IndexError, ValueError) as error:
        raise GgufError(f"{source} has no tokenizer that can be read: {error}") from error
    tokenizer.save_pretrained(directory)


def _require_kind(source: Path) -> None:
    try:
        found = GGUFReader(source).get_field(Keys.General.ARCHITECTURE)
        kind = str(found.contents()) if found else None
    except (ValueError, LookupError, struct.error, OverflowError) as error:
        raise GgufError(f"{source} is damaged, or no GGUF file: {error}") from error
    if kind not in KINDS:
        raise GgufError(f"{source} is a {kind}; of GGUF files, {', '.join(KINDS)} can be read")


def _model(source: Path) -> PreTrainedModel:
    read: Any = AutoModelForCausalLM.from_pretrained  # typed as if it returned a model only
    try:
        model, loaded = read(
            source.parent, gguf_file=source.name, dtype=torch.float32, output_loading_info=True
        )
    except (ValueError, LookupError, RuntimeError) as error:
        raise GgufError(f"{source} cannot be read: {error}") from error
    if missing := sorted(loaded["missing_keys"]):
        raise GgufError(f"{source} is damaged: it lacks {', '.join(missing[:3])}")
    for name, weights in model.named_parameters():
        if not torch.isfinite(weights).all():
            raise GgufError(f"{source} is damaged: {name} has what is no number")
    # To transformers it is still quantized, and then it writes nothing, though it is float32 now.
    model.hf_quantizer = None
    del model.config.quantization_config
    made: PreTrainedModel = model
    return made
