"""What can be chosen about the query encoder."""

from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from offline.training.config import TrainingConfig


class QueryEncoderConfig(BaseModel):
    """The query encoder's shape and training. Defaults were chosen on MovieLens validation."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dimension: int = Field(default=128, gt=0)
    """Of the behavior vectors and of the transformer."""
    layers: int = Field(default=2, gt=0)
    heads: int = Field(default=2, gt=0)
    max_history: int = Field(default=100, gt=0)
    """Newest items of a history that are read."""
    dropout: float = Field(default=0.3, ge=0, lt=1)
    batch_items: int | None = Field(default=None, gt=0)
    """Items in a batch, padding included. None goes by the data, see `batch_items_for`."""
    train: TrainingConfig = TrainingConfig(learning_rate=4e-3)

    @model_validator(mode="after")
    def _heads_divide_the_dimension(self) -> Self:
        if self.dimension % (2 * self.heads):
            raise ValueError(
                f"dimension {self.dimension} must be a multiple of twice the {self.heads} heads"
            )
        return self
