"""Training state on disk: one safetensors file, replaced atomically after every epoch.

There is no generator state in it: every epoch seeds its own generators, so that the state after
an epoch is a function of the state before it.
"""

import json
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from serving.files.replacing import replacing

Tensors = dict[str, Tensor]


class CheckpointError(RuntimeError):
    """A checkpoint that belongs to another training, or is not one."""


@dataclass(frozen=True)
class Progress:
    """How far training is, and the best model so far.

    Attributes:
        epoch: Epochs that are done.
        step: Optimizer steps that are done.
        best: State of the model that was best on validation; empty before the first validation.
        average: Running average of the parameters, by name; empty where none is kept.
        best_epoch: When it was.
        curve: Validation NDCG@10 by epoch.
    """

    epoch: int = 0
    step: int = 0
    best: Tensors = field(default_factory=dict)
    average: Tensors = field(default_factory=dict)
    best_epoch: int = 0
    curve: dict[int, float] = field(default_factory=dict)

    def validated(self, ndcg: float, model: nn.Module) -> "Progress":
        """Notes a validation; the model is kept if none was better."""
        curve = self.curve | {self.epoch: ndcg}
        if ndcg < max(self.curve.values(), default=-1.0):
            return replace(self, curve=curve)
        best = {name: tensor.detach().clone() for name, tensor in state_of(model).items()}
        return replace(self, curve=curve, best=best, best_epoch=self.epoch)


def save(
    path: Path,
    progress: Progress,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    fingerprint: str,
) -> None:
    """Replaces the checkpoint; a process that dies on the way leaves the one before."""
    tensors = {f"model.{name}": tensor for name, tensor in state_of(model).items()}
    tensors |= {f"best.{name}": tensor for name, tensor in progress.best.items()}
    tensors |= {f"average.{name}": tensor for name, tensor in progress.average.items()}
    for index, moments in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": tensor for name, tensor in moments.items()}
    meta = {
        "epoch": progress.epoch,
        "step": progress.step,
        "best_epoch": progress.best_epoch,
        "curve": progress.curve,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        save_file(
            {name: tensor.contiguous() for name, tensor in tensors.items()},
            temporary,
            metadata={"progress": json.dumps(meta), "fingerprint": fingerprint},
        )


def load(
    path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, fingerprint: str
) -> Progress:
    """Puts model and optimizer into the saved state; the start, where there is no checkpoint.

    Raises:
        CheckpointError: it is of another training, or damaged.
    """
    if not path.is_file():
        return Progress()
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise CheckpointError(f"{path} is damaged: {error}; delete it to start over") from error
    if metadata.get("fingerprint") != fingerprint:
        raise CheckpointError(
            f"{path} is of a training with other data or settings; "
            "delete it to start over, or give another path"
        )
    restore(model, _under("model.", tensors))
    moments: dict[int, Tensors] = {}
    for name, tensor in _under("optimizer.", tensors).items():
        index, moment = name.split(".")
        moments.setdefault(int(index), {})[moment] = tensor
    optimizer.load_state_dict(optimizer.state_dict() | {"state": moments})
    meta = json.loads(metadata["progress"])
    return Progress(
        epoch=meta["epoch"],
        step=meta["step"],
        best=_under("best.", tensors),
        average=_under("average.", tensors),
        best_epoch=meta["best_epoch"],
        curve={int(epoch): ndcg for epoch, ndcg in meta["curve"].items()},
    )


def state_of(model: nn.Module) -> Tensors:
    """The parameters of a model that learn, which are all its state; those that are shared, once.

    Frozen ones are as they were before training, wherever that starts again.
    """
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


@torch.no_grad()
def restore(model: nn.Module, state: Tensors) -> None:
    """Puts back what `state_of` gave."""
    for name, parameter in state_of(model).items():
        parameter.copy_(state[name])


def _under(prefix: str, tensors: Tensors) -> Tensors:
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }
