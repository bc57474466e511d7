"""The ranges of activations, which 8-bit products need to know beforehand.

A layer's input is written with one scale, so one channel that is a hundred times larger than the
others costs them their precision. Such channels are smoothed away first: dividing a channel where
it comes from, and multiplying it into the weights that read it, changes nothing but its range
(SmoothQuant, Xiao et al., https://arxiv.org/abs/2211.10438).
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from transformers import T5ForConditionalGeneration

from offline.generator.export.layers import T5Weights
from offline.generator.items.model import ItemT5

Peaks = Mapping[str, NDArray[np.float32]]
"""Layer → [in] the largest absolute value that each channel of its input had."""

CODES_PER_PROMPT: Final = 8


def observe(
    model: T5ForConditionalGeneration,
    prompts: Sequence[Sequence[int]],
    codes: NDArray[np.int32],
    seed: int = 0,
) -> dict[str, NDArray[np.float32]]:
    """Runs prompts through a model, decodes some codes after each, and records all layers' peaks.

    Args:
        model: a T5.
        prompts: token ids, as they are served.
        codes: [items, levels] the catalog's codes, of which some are decoded after each prompt.
        seed: of the choice of codes.
    """
    rng = np.random.default_rng(seed)
    device = next(model.parameters()).device
    with _recorded(model) as peaks, torch.inference_mode():
        for prompt in prompts:
            decoded = codes[rng.integers(0, len(codes), CODES_PER_PROMPT)].astype(np.int64)
            ids = torch.tensor([prompt], device=device).expand(len(decoded), -1)
            model(input_ids=ids, labels=torch.from_numpy(decoded).to(device))
    return peaks


def observe_items(
    model: ItemT5, words: Sequence[int], histories: Sequence[NDArray[np.int32]], seed: int = 0
) -> dict[str, NDArray[np.float32]]:
    """As `observe`, for a model that reads whole items.

    Args:
        model: what is to be exported.
        words: the prompt before the history, as token ids.
        histories: as they are served, each with at least one item.
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
    return peaks


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

    model: T5Weights
    ranges: Mapping[str, float]
    """Layer → the largest absolute value of its input."""


def smooth(model: T5Weights, peaks: Peaks, fixed: frozenset[str] = frozenset()) -> Smoothed:
    """Evens out the channels of every layer's input.

    Args:
        model: a T5.
        peaks: of all its layers.
        fixed: normalizations whose output something else reads too, so that it must stay.
    """
    arrays = {name: array.copy() for name, array in model.arrays.items()}
    ranges = {}
    for source, readers in _rooms(model.config):
        weights = [arrays[f"{reader}.weight"] for reader in readers]
        largest = np.max([np.abs(w).max(axis=0) for w in weights], axis=0)
        peak = np.max([peaks[reader] for reader in readers], axis=0)
        factor = np.ones_like(peak) if source in fixed else _factor(peak, largest)
        for reader in readers:
            arrays[f"{reader}.weight"] *= factor
            ranges[reader] = float((peak / factor).max())
        arrays[f"{source}.weight"] = _divided(arrays[f"{source}.weight"], factor)
    return Smoothed(replace(model, arrays=arrays), ranges)


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


def _rooms(config: Any) -> Iterator[tuple[str, list[str]]]:
    """Where each activation comes from, and the layers that read it."""
    decoders = range(int(config.num_decoder_layers))
    for stack, layers in (("encoder", range(int(config.num_layers))), ("decoder", decoders)):
        for layer in layers:
            block = f"{stack}.block.{layer}.layer"
            own = f"{block}.0.SelfAttention"
            yield f"{block}.0.layer_norm", [f"{own}.{part}" for part in "qkv"]
            yield f"{own}.v", [f"{own}.o"]
            if stack == "decoder":
                cross = f"{block}.1.EncDecAttention"
                yield f"{block}.1.layer_norm", [f"{cross}.q"]
                yield f"{cross}.v", [f"{cross}.o"]
            yield from _feed_forward(config, f"{block}.{2 if stack == 'decoder' else 1}")
    cross_readers = [
        f"decoder.block.{layer}.layer.1.EncDecAttention.{part}"
        for layer in decoders
        for part in "kv"
    ]
    yield "encoder.final_layer_norm", cross_readers
    yield "decoder.final_layer_norm", ["lm_head"]


def _feed_forward(config: Any, block: str) -> Iterator[tuple[str, list[str]]]:
    dense = f"{block}.DenseReluDense"
    if config.is_gated_act:  # the product of a gate and a linear layer: the latter is divided
        yield f"{block}.layer_norm", [f"{dense}.wi_0", f"{dense}.wi_1"]
        yield f"{dense}.wi_1", [f"{dense}.wo"]
    else:  # ReLU commutes with positive factors
        yield f"{block}.layer_norm", [f"{dense}.wi"]
        yield f"{dense}.wi", [f"{dense}.wo"]
