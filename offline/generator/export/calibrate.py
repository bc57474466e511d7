"""The ranges of activations, which 8-bit products need to know beforehand.

A layer's input is written with one scale, so one channel that is a hundred times larger than the
others costs them their precision. Such channels are smoothed away first: dividing a channel where
it comes from, and multiplying it into the weights that read it, changes nothing but its range
(SmoothQuant, Xiao et al., https://arxiv.org/abs/2211.10438).
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from transformers import PreTrainedModel

from offline.generator.export.backbone import Peaks, Weights
from offline.generator.export.t5.layers import WORDS
from offline.generator.items.model import ItemT5
from offline.generator.items.texts import write_texts

CODES_PER_PROMPT: Final = 8


@dataclass(frozen=True)
class TextCalibration:
    """What texts are written for."""

    prompts: Sequence[Sequence[int]]
    """As they are served."""
    max_tokens: int
    """Of a text."""


def observe(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    codes: NDArray[np.int32],
    texts: TextCalibration | None = None,
    seed: int = 0,
) -> dict[str, NDArray[np.float32]]:
    """Runs prompts through a model, decodes some codes after each, and records all layers' peaks.

    Args:
        model: one that reads tokens.
        prompts: token ids, as they are served.
        codes: [items, levels] the catalog's codes, of which some are decoded after each prompt.
        texts: what the model writes texts for, which it does.
        seed: of the choice of codes.
    """
    rng = np.random.default_rng(seed)
    device = next(model.parameters()).device
    with _recorded(model) as peaks, torch.inference_mode():
        for prompt in prompts:
            decoded = codes[rng.integers(0, len(codes), CODES_PER_PROMPT)].astype(np.int64)
            ids = torch.tensor([prompt], device=device).expand(len(decoded), -1)
            _read(model, ids, torch.from_numpy(decoded).to(device))
        if texts:
            for prompt in texts.prompts:
                _write(model, torch.tensor([prompt], device=device), texts.max_tokens)
    return peaks


def _write(model: Any, prompt: torch.Tensor, max_tokens: int) -> None:
    """Has a model that reads tokens write what is likeliest."""
    model.generate(prompt, max_new_tokens=max_tokens, do_sample=False, num_beams=1)


def _read(model: Any, prompts: torch.Tensor, codes: torch.Tensor) -> None:
    """Runs prompts and codes through a model, and through its head what predicts the codes."""
    if model.config.is_encoder_decoder:
        model(input_ids=prompts, labels=codes)
    else:
        read = torch.cat([prompts, codes[:, :-1]], dim=1)
        model(input_ids=read, logits_to_keep=codes.shape[1], use_cache=False)


def observe_items(
    model: ItemT5,
    words: Sequence[int],
    histories: Sequence[NDArray[np.int32]],
    texts: TextCalibration | None = None,
    seed: int = 0,
) -> dict[str, NDArray[np.float32]]:
    """As `observe`, for a model that reads whole items.

    Args:
        model: what is to be exported.
        words: the prompt before the history, as token ids.
        histories: as they are served, each with at least one item.
        texts: as for `observe`.
        seed: of the choice of codes.
    """
    rng = np.random.default_rng(seed)
    with _recorded(model.t5) as peaks, _head(model.t5, peaks), torch.inference_mode():
        for history in histories:
            items = torch.from_numpy(rng.integers(0, model.tree.items, CODES_PER_PROMPT))
            read = torch.from_numpy(history.astype(np.int64))[None]
            memory = model.encode(torch.tensor([list(words)]), read, model.table())
            states = memory[:, -1:].expand(-1, len(items), -1)
            model.decode(model.tree.tokens[items][None, :, :-1], states, memory)
        if texts and texts.prompts:
            write_texts(model, texts.prompts, texts.max_tokens)
    return {**peaks, WORDS: peaks["lm_head"]}  # both heads read the decoder's states


@contextmanager
def _recorded(model: nn.Module) -> Iterator[dict[str, NDArray[np.float32]]]:
    """Records the peaks of the input of every linear layer that runs meanwhile."""
    peaks: dict[str, NDArray[np.float32]] = {}
    hooks = [
        module.register_forward_pre_hook(
            lambda _, inputs, name=name: _record(peaks, name, inputs[0])
        )
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
    ]
    try:
        yield peaks
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def _head(t5: nn.Module, peaks: dict[str, NDArray[np.float32]]) -> Iterator[None]:
    """Records what the head reads where it is no layer of its own: the decoder's states."""
    last: Any = t5.get_submodule("decoder.final_layer_norm")
    hook = last.register_forward_hook(lambda _, __, rows: _record(peaks, "lm_head", rows))
    try:
        yield
    finally:
        hook.remove()


def _record(peaks: dict[str, NDArray[np.float32]], name: str, rows: torch.Tensor) -> None:
    largest = rows.detach().abs().flatten(0, -2).amax(dim=0).float().cpu().numpy()
    peaks[name] = np.maximum(peaks.get(name, 0.0), largest)


@dataclass(frozen=True)
class Smoothed:
    """A model that computes what it did, with inputs that fit 8 bits better."""

    model: Weights
    ranges: Mapping[str, float]
    """Layer → the largest absolute value of its input."""


def smooth(model: Weights, peaks: Peaks, fixed: frozenset[str] = frozenset()) -> Smoothed:
    """Evens out the channels of every layer's input.

    Args:
        model: the weights.
        peaks: of all its layers.
        fixed: normalizations whose output something else reads too, so that it must stay.
    """
    arrays = {name: array.copy() for name, array in model.arrays.items()}
    ranges = {}
    for read in model.activations():
        weights = [arrays[f"{reader}.weight"] for reader in read.readers]
        largest = np.max([np.abs(w).max(axis=0) for w in weights], axis=0)
        peak = np.max([peaks[reader] for reader in read.readers], axis=0)
        own = _factor(read.gathered(peak), read.gathered(largest))
        if read.source in fixed:
            own = np.ones_like(own)
        factor = read.repeated(own)
        for reader in read.readers:
            arrays[f"{reader}.weight"] *= factor
            ranges[reader] = float((peak / factor).max())
        for name in {f"{read.source}.weight", f"{read.source}.bias"} & arrays.keys():
            arrays[name] = _divided(arrays[name], own)
    return Smoothed(model.having(arrays), ranges)


def _factor(peak: NDArray[np.float32], largest: NDArray[np.float32]) -> NDArray[np.float32]:
    """The geometric mean between evening out the activations and leaving the weights alone."""
    factor = np.sqrt(peak / np.maximum(largest, np.float32(1e-12)))
    factor[(peak == 0) | (largest == 0)] = 1.0
    bounded: NDArray[np.float32] = np.maximum(factor / factor.max(), np.float32(1e-4))
    return bounded


def _divided(array: NDArray[np.float32], factor: NDArray[np.float32]) -> NDArray[np.float32]:
    """A normalization's weights by channel, a linear layer's by output."""
    divided: NDArray[np.float32] = array / (factor if array.ndim == 1 else factor[:, None])
    return divided
