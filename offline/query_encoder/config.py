"""What can be chosen about the query encoder."""

from dataclasses import dataclass


@dataclass(frozen=True)
class QueryEncoderConfig:
    """The query encoder's shape and training. Defaults were chosen on MovieLens validation.

    Attributes:
        dimension: Of the behavior vectors and of the transformer.
        layers: Transformer blocks.
        heads: Attention heads in each.
        max_history: Newest items of a history that are read.
        dropout: Share of activations that training drops.
        epochs: Passes over the training sequences.
        learning_rate: Peak of the schedule, reached after `warmup_steps`, then a cosine to zero.
        warmup_steps: Steps of linear warm-up.
        weight_decay: Of matrices; vectors and item vectors have none.
        batch_items: Items in a batch, padding included.
        evaluate_every: Epochs between validations; the last epoch always has one.
        seed: Decides everything that is random.
    """

    dimension: int = 128
    layers: int = 2
    heads: int = 2
    max_history: int = 100
    dropout: float = 0.3
    epochs: int = 15
    learning_rate: float = 4e-3
    warmup_steps: int = 100
    weight_decay: float = 0.01
    batch_items: int = 3200
    evaluate_every: int = 3
    seed: int = 0

    def __post_init__(self) -> None:
        if self.dimension % (2 * self.heads):
            raise ValueError(
                f"dimension {self.dimension} must be a multiple of twice the {self.heads} heads"
            )
