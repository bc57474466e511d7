"""The models that training starts from, as the stage `warm` leaves them, for today's data."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor, nn

from offline.build.files import FACTS, read_json
from offline.dataset.errors import DataError
from offline.dataset.schema import Dataset
from offline.query_encoder.config import QueryEncoderConfig
from offline.query_encoder.model import QueryEncoder
from offline.query_encoder.train import QueryStart
from offline.training import checkpoint
from offline.warm.rows import FloatArray, Kept, item_vectors
from offline.warm.vocabulary import TABLES, Vocabulary, token_rows

QUERY_ENCODER: Final = "query_encoder.safetensors"
GENERATOR: Final = "generator.safetensors"
TOKENIZER: Final = "tokenizer.json"
CODES: Final = "code_tokens.npy"
ITEM_VECTORS: Final = "item_vectors"
"""The parameter that has a row for each item."""
RATING_VECTORS: Final = "rating_vectors"
"""The parameter that has a row for each value of a rating."""


@dataclass(frozen=True)
class Before:
    """The models of a bundle.

    Attributes:
        path: The directory of the stage.
    """

    path: Path

    def query_start(
        self, config: QueryEncoderConfig, data: Dataset, content: FloatArray
    ) -> QueryStart:
        """The query encoder, and its vectors for today's items.

        Args:
            config: its shape.
            data: of today.
            content: float32 [items, content dimension], the vectors of today's texts.
        """
        stored = load_file(self.path / QUERY_ENCODER)
        vectors = self._item_vectors(stored, data, content)
        encoder = QueryEncoder(config)
        checkpoint.restore(encoder, stored)
        # Vectors from nothing have this length. A bundle has that of the trained ones at 1, and
        # only their direction means something.
        length = np.float32(np.sqrt(config.dimension))
        return QueryStart(encoder, vectors * length)

    def item_vectors(self, data: Dataset, content: FloatArray) -> FloatArray:
        """The generator's vectors for today's items, of unit norm."""
        return self._item_vectors(load_file(self.path / GENERATOR), data, content)

    @torch.no_grad()
    def give(self, model: nn.Module, now: Vocabulary) -> None:
        """Gives the generator's parameters to another one of its shape; those of items stay.

        Args:
            model: as from scratch, or from a checkpoint.
            now: what its tokens stand for.
        """
        stored = load_file(self.path / GENERATOR)
        for name, parameter in model.named_parameters():
            if name.removeprefix("t5.") in TABLES:
                ours, theirs = parameter.detach().numpy(), stored[name].numpy()
                rows = token_rows(ours, now, theirs, self._vocabulary)
                parameter.copy_(torch.from_numpy(rows))
            elif name == RATING_VECTORS:
                self._give_ratings(parameter, stored)
            elif name != ITEM_VECTORS:
                parameter.copy_(stored[name])

    @staticmethod
    def _give_ratings(parameter: Tensor, stored: Mapping[str, Tensor]) -> None:
        """Ratings begin as they were, if they may have as many values as they had."""
        before = stored.get(RATING_VECTORS)
        if before is not None and before.shape == parameter.shape:
            parameter.copy_(before)

    @cached_property
    def _vocabulary(self) -> Vocabulary:
        facts = read_json(self.path / FACTS)
        return Vocabulary(
            Tokenizer.from_file(str(self.path / TOKENIZER)),
            np.load(self.path / CODES, allow_pickle=False),
            facts["item_ids"],
            facts["user_ids"],
            facts["user_tokens"],
        )

    def _item_vectors(
        self, stored: Mapping[str, Tensor], data: Dataset, content: FloatArray
    ) -> FloatArray:
        kept = Kept.of(data.item_ids, self._vocabulary.item_ids)
        if not len(kept.now):
            raise DataError("the bundle to start from has none of the items of these data")
        return item_vectors(stored[ITEM_VECTORS].numpy(), kept, content, data.popularity())
