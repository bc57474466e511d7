"""How the generator is trained, apart from the training, which takes seconds to import."""

from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from offline.training.config import TrainingConfig

Backbone = Literal["t5", "llama"]
"""An encoder and a decoder, or a decoder alone."""


RATING_SHARE: Final = 0.1


class FamilyShares(BaseModel):
    """How much of the training each of P5's families is, beside going on from a history.

    A share is of batches, against those of the sequential family: 0.05 is one for every twenty.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    direct: float = Field(default=0.05, ge=0, le=10)
    """Recommending to a user by name."""
    explanation: float = Field(default=0.0, ge=0, le=100)
    """Writing why a user likes an item; for data with reviews, and models that read whole items."""
    review: float = Field(default=0.0, ge=0, le=100)
    """Writing the summary of a review; the same."""
    rating: float | None = Field(default=None, ge=0, le=10)
    """Predicting how a user rates an item. None goes by the data: `RATING_SHARE` where they have
    ratings, and none of it elsewhere."""

    @property
    def rating_share(self) -> float:
        """That of ratings, where they are learned."""
        return RATING_SHARE if self.rating is None else self.rating

    @property
    def direct_fraction(self) -> float:
        """Of the prompts whose answer is an item, the fraction that name a user."""
        return self.direct / (1 + self.direct)

    @property
    def write_text(self) -> bool:
        """Whether a family writes text."""
        return self.explanation > 0 or self.review > 0


class ItemTrainConfig(BaseModel):
    """How a model that reads whole items is trained."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    batch_items: int | None = Field(default=None, gt=0)
    """Items in a batch, padding included. None goes by the data, see `batch_items_for`."""
    item_share: float | None = Field(default=None, ge=0)
    """How much the loss of the items' own softmax counts beside that of the codes; see `ItemT5`.
    None goes by the data: half where an item has fewer than 20 interactions, which are too few for
    codes to be learned by themselves, and nothing elsewhere."""
    loop: TrainingConfig = TrainingConfig(average=0.98)

    def item_share_for(self, interactions: int, items: int) -> float:
        """The share of the items' softmax, for so many training interactions with so many items."""
        if self.item_share is not None:
            return self.item_share
        return 0.5 if interactions < 20 * items else 0.0


LoraTarget = Literal["q", "k", "v", "o", "ff"]
"""Queries, keys, values and output of an attention, and all of a feed-forward network."""


class LoraSection(BaseModel):
    """How a checkpoint is adapted with low-rank matrices instead of being trained whole."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rank: int = Field(default=8, gt=0, le=1024)
    """The width of the learned matrices."""
    alpha: int | None = Field(default=None, gt=0)
    """Their product counts alpha / rank times; twice by default, whatever the rank."""
    targets: tuple[LoraTarget, ...] = Field(default=("q", "v"), min_length=1)
    """Which of the checkpoint's matrices have learned ones beside them."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Of what the learned matrices read, in training; the checkpoint's own layers have none."""


class TextTrainConfig(BaseModel):
    """How a model learns to write text."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    batch_size: int = Field(default=128, gt=0)
    """Texts in a batch."""
    max_tokens: int = Field(default=64, gt=1)
    """Tokens of a text, at most."""
    pieces: int = Field(default=4000, ge=100)
    """Pieces of words that a model from scratch knows, at most."""


class TokenTrainConfig(BaseModel):
    """How a model that reads codes token by token is trained, such as a pretrained checkpoint."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    batch_size: int = Field(default=32, gt=0)
    """Prompts in a batch."""
    targets: int = Field(default=8, gt=0)
    """Next items that are learned from each prompt."""
    prompts: int | None = Field(default=None, gt=0)
    """Prompts of an epoch, drawn at random; None takes all that there are."""
    loop: TrainingConfig = TrainingConfig(epochs=10, learning_rate=2e-3)
