"""What can be chosen about the query encoder."""

from dataclasses import dataclass


@dataclass(frozen=True)
class QueryEncoderConfig:
    """The query encoder's shape and training. Defaults were chosen on MovieLens validation.

    Attributes:
        dimension: Of the behavior vectors and of the transformer.
        layers: Transformer blocks.
        heads: Attention heads in each.
        max_history: Items of a sequence that training reads at a time.
        served_history: Newest items of a history that are read when serving, at most `max_history`.
            A history of half the length is read in half the time, and says nearly as much.
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
    served_history: int = 100
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
        if not 0 < self.served_history <= self.max_history:
            raise ValueError(
                f"served_history {self.served_history} must be from 1 to max_history "
                f"{self.max_history}"
            )
