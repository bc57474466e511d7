"""Training a generator that reads tokens.

On a CPU, on a GPU with bfloat16, or on several through `torchrun`.

A run that is killed continues from its last checkpoint to the same result: batches follow from the
seed and the step alone (`ExampleSource`), dropout is seeded anew at every step, and a checkpoint
holds everything else, the weights and AdamW's moments, as plain tensors.
"""

import hashlib
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
import torch
from accelerate import Accelerator
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from transformers import T5ForConditionalGeneration

from offline.generator.config import TokenTrainConfig
from offline.generator.tokens.examples import Batch, ExampleSource
from offline.generator.tokens.model import MultiTargetLoss

CHECKPOINT: Final = "checkpoint.safetensors"


def train(
    model: T5ForConditionalGeneration,
    source: ExampleSource,
    config: TokenTrainConfig,
    directory: Path,
) -> T5ForConditionalGeneration:
    """Trains a model in place and returns it.

    Args:
        model: untrained, or a checkpoint to go on from.
        source: what it learns from.
        config: how it learns.
        directory: where checkpoints are kept; one of the same run is continued.
    """
    accelerator = _accelerator(config)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
    )
    schedule = [len(source.epoch(n, config.batch_size)) for n in range(config.epochs)]
    total = sum(schedule)
    checkpoint = _Checkpoint(directory, _run_id(config, source, total), model, optimizer)
    step = checkpoint.load()
    loss_of, optimizer = accelerator.prepare(MultiTargetLoss(model), optimizer)
    loss_of.train()
    with _progress(disable=not accelerator.is_main_process) as bar:
        task = bar.add_task("training the generator", total=total, completed=step, note="")
        for batch in _remaining(source, config, schedule, step):
            torch.manual_seed(_dropout_seed(config.seed, step, accelerator.process_index))
            for group in optimizer.param_groups:
                group["lr"] = config.learning_rate * _warmup_cosine(
                    step, total, config.warmup_steps
                )
            loss = loss_of(*_share(batch, accelerator))
            accelerator.backward(loss)
            accelerator.clip_grad_norm_(loss_of.parameters(), config.clip)
            optimizer.step()
            optimizer.zero_grad()
            step += 1
            bar.update(task, completed=step, note=f"loss {loss.item():.3f}")
            if step % config.checkpoint_every == 0 and accelerator.is_main_process:
                checkpoint.save(step)
    accelerator.wait_for_everyone()
    model.train(False)
    torch.nn.Module.to(model, "cpu")  # transformers wraps its own `to` untyped
    return model


def _accelerator(config: TokenTrainConfig) -> Accelerator:
    cuda = torch.cuda.is_available()
    bf16 = config.precision == "bf16" or (config.precision == "auto" and cuda)
    return Accelerator(cpu=not cuda, mixed_precision="bf16" if bf16 else "no")


def _remaining(
    source: ExampleSource, config: TokenTrainConfig, schedule: list[int], step: int
) -> Iterator[Batch]:
    """The batches from a step on."""
    for number, length in enumerate(schedule):
        if step < length:
            yield from source.batches(number, config.batch_size, skip=step)
        step = max(0, step - length)


def _dropout_seed(*facts: int) -> int:
    return int(np.random.SeedSequence(facts).generate_state(1)[0])


def _share(batch: Batch, accelerator: Accelerator) -> tuple[Tensor, Tensor, Tensor]:
    """This process's rows of a batch; a batch too small to share is learned by all."""
    rank, world = accelerator.process_index, accelerator.num_processes
    rows = slice(rank, None, world) if len(batch.input_ids) >= world else slice(None)
    device = accelerator.device
    return (
        batch.input_ids[rows].to(device),
        batch.attention_mask[rows].to(device),
        batch.labels[rows].to(device),
    )


def _warmup_cosine(step: int, total: int, warmup: int) -> float:
    """The learning rate at a step, as a fraction of its peak."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))


def _run_id(config: TokenTrainConfig, source: ExampleSource, total: int) -> str:
    """Tells runs apart, so that the checkpoint of another is not continued."""
    facts = config.model_dump_json() + json.dumps([source.dataset, source.seed, total])
    digest = hashlib.sha256(facts.encode())
    digest.update(source.codes.tobytes())
    return digest.hexdigest()


class _Checkpoint:
    """Weights and moments in one safetensors file, replaced atomically."""

    def __init__(
        self,
        directory: Path,
        run_id: str,
        model: torch.nn.Module,
        optimizer: torch.optim.Optimizer,
    ) -> None:
        self._path = directory / CHECKPOINT
        self._run_id = run_id
        self._names = {p: name for name, p in model.named_parameters()}
        self._optimizer = optimizer

    def save(self, step: int) -> None:
        tensors: dict[str, Tensor] = {}
        for parameter, name in self._names.items():
            tensors[f"weight/{name}"] = parameter.detach().cpu().contiguous()
            for key, value in self._optimizer.state[parameter].items():
                tensors[f"{key}/{name}"] = value.cpu().contiguous()
        temporary = self._path.with_suffix(".tmp")
        save_file(tensors, temporary, {"run": self._run_id, "step": str(step)})
        temporary.replace(self._path)

    def load(self) -> int:
        """Restores this run's checkpoint and returns its step; 0 when there is none."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        if not self._path.exists():
            return 0
        with safe_open(self._path, "pt") as file:
            metadata = file.metadata()
            if metadata["run"] != self._run_id:
                return 0
            for parameter, name in self._names.items():
                parameter.data.copy_(file.get_tensor(f"weight/{name}"))
                self._optimizer.state[parameter] = {
                    key: file.get_tensor(f"{key}/{name}")
                    for key in ("step", "exp_avg", "exp_avg_sq")
                }
        return int(metadata["step"])


def _progress(*, disable: bool) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        disable=disable,
    )
