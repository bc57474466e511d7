"""The sources of scores: what each trained model makes of every item after a history."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from bench.prove.models import Models
from offline.blend.sources import Recency
from offline.dataset import Dataset
from offline.generator.items.model import ItemT5
from offline.generator.items.scores import exact_scores
from offline.generator.items.train import ItemPrompts
from offline.training.together import device
from services.candidate.retrieval.encoders import OnnxQueryEncoder
from services.candidate.retrieval.transitions import Transitions
from services.generator.prompts import read_templates

Histories = Sequence[NDArray[np.int32]]
Scores = NDArray[np.float32]
"""float32 [histories, items]"""

_QUERIES_AT_ONCE: Final = 64


class Scorer(Protocol):
    """Scores all items: a log-probability, or one up to a constant of the history."""

    def scores(self, histories: Histories) -> Scores:
        """float32 [histories, items]"""


@dataclass(frozen=True)
class QueryEncoderScorer:
    """The query encoder as it is served, by exact search."""

    encoder: OnnxQueryEncoder
    vectors: Scores
    max_history: int

    @classmethod
    def read(cls, directory: Path) -> "QueryEncoderScorer":
        """Reads what the stage wrote."""
        facts = json.loads((directory / "facts.json").read_text(encoding="utf-8"))
        return cls(
            OnnxQueryEncoder(directory / "query_encoder.onnx", threads=0),
            np.load(directory / "behavior_vectors.npy", allow_pickle=False),
            facts["max_history"],
        )

    def scores(self, histories: Histories) -> Scores:
        """See `Scorer`."""
        rows = []
        for start in range(0, len(histories), _QUERIES_AT_ONCE):
            part = histories[start : start + _QUERIES_AT_ONCE]
            read = [self.vectors[history[-self.max_history :]] for history in part]
            rows.append(self.encoder.encode_batch(read) @ self.vectors.T)
        return np.concatenate(rows)


@dataclass(frozen=True)
class TransitionScorer:
    """What people went on to, as the candidate service scores it."""

    table: Transitions

    @classmethod
    def read(cls, directory: Path, recency: Recency) -> "TransitionScorer":
        """Reads what the stage wrote."""
        arrays = {
            name: np.load(directory / f"transitions_{name}.npy", allow_pickle=False)
            for name in ("indptr", "items", "weights")
        }
        return cls(Transitions(**arrays, window=recency.window, decay=recency.decay))

    def scores(self, histories: Histories) -> Scores:
        """See `Scorer`."""
        every = np.arange(len(self.table), dtype=np.int32)
        rows = [self.table.log_probability(every, *self.table.after(h)) for h in histories]
        return np.stack(rows).astype(np.float32)


@dataclass(frozen=True)
class GeneratorScorer:
    """The generator by the probability of each item's code, exactly: no beam is lost."""

    model: ItemT5
    words: Sequence[int]
    max_history: int
    decoder: bool = True
    """Whether the decoder has a say, or the softmax over items alone."""

    @classmethod
    def read(cls, directory: Path, data: Dataset, max_history: int) -> "GeneratorScorer":
        """Reads what the stage wrote."""
        codes = np.load(directory / "code_tokens.npy", allow_pickle=False)
        prompts = ItemPrompts(
            read_templates(directory / "prompts.txt"),
            Tokenizer.from_file(str(directory / "tokenizer.json")),
            data.name,
            user_tokens=0,  # what serves names no user
        )
        model = ItemT5.load(directory / "model", codes).to(device())
        return cls(model, prompts.words(prompts.serving, None), max_history)

    def scores(self, histories: Histories) -> Scores:
        """See `Scorer`."""
        return exact_scores(
            self.model, self.words, histories, self.max_history, decoder=self.decoder
        )


def read_scorers(
    models: Models, data: Dataset, max_history: int, recencies: Mapping[str, Recency]
) -> dict[str, Scorer]:
    """All sources by name.

    Args:
        models: of one seed.
        data: what they were trained on.
        max_history: newest items that a generator reads.
        recencies: how the newest items of a history count, for each source of transitions.
    """
    generator = GeneratorScorer.read(models.generator.path, data, max_history)
    return {
        "query_encoder": QueryEncoderScorer.read(models.query_encoder.path),
        **{
            name: TransitionScorer.read(models.transitions.path, recency)
            for name, recency in recencies.items()
        },
        "second_encoder": QueryEncoderScorer.read(models.second_encoder.path),
        "generator": generator,
        "random_codes": GeneratorScorer.read(models.random_codes.path, data, max_history),
        "item_softmax": GeneratorScorer(
            generator.model, generator.words, generator.max_history, decoder=False
        ),
    }
