"""How a sequence model is trained, apart from the training, which takes seconds to import."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


def batch_items_for(interactions: int) -> int:
    """Items in a batch, padding included, for so many training interactions.

    About a hundred batches an epoch: fewer and larger ones learn less in an epoch, which takes as
    long, and more and smaller ones learn what is chance.
    """
    return min(max(interactions // 100, 1200), 3200)


class TrainingConfig(BaseModel):
    """What the loop of `offline.training.trainer` is told."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    epochs: int = Field(default=15, gt=0)
    """Passes over the training sequences, at most."""
    learning_rate: float = Field(default=3e-3, gt=0)
    """At its peak, after warm-up; it then falls as a cosine to a fiftieth."""
    warmup_steps: int = Field(default=100, ge=0)
    weight_decay: float = Field(default=0.01, ge=0)
    """Of matrices; vectors and item vectors have none."""
    clip: float = Field(default=1.0, gt=0)
    """The largest norm of a gradient."""
    average: float = Field(default=0.0, ge=0, lt=1)
    """Decay of the running average of the weights that is validated and kept; 0 keeps the weights
    themselves."""
    evaluate_every: int = Field(default=3, gt=0)
    """Epochs between validations; the last epoch always has one."""
    patience: int = Field(default=4, gt=0)
    """Validations without a better one after which training stops."""
    validation_users: int = Field(default=2000, gt=0)
    """Users that are asked in a validation, at most: picked once, by the seed."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """auto: bf16 on CUDA, fp32 elsewhere."""
    seed: int = 0
    """Decides everything that is random."""
