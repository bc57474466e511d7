"""Training the models of a seed, each once."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.prove.models import Models
from bench.results.pieces import Pieces
from bench.results.stages import stages_of
from offline.build.cache import Built
from offline.build.config import BuildConfig
from offline.build.source import Source

SECOND: Final = 1000
"""What is added to a seed for the second query encoder."""


@dataclass(frozen=True)
class Trainer:
    """Trains what is not trained yet, by the stages of `tandem build`.

    Attributes:
        source: the data.
        config: of the build, whatever its seed.
        work: where the stages are kept, together with those of other builds.
        pieces: where it is noted what is done.
    """

    source: Source
    config: BuildConfig
    work: Path
    pieces: Pieces

    def train(self, seed: int) -> Models:
        """The models of a seed.

        Raises:
            OutOfTime: before a training, or between two of its epochs.
        """
        own = self.config.model_copy(update={"seed": seed})
        second = own.model_copy(update={"seed": seed + SECOND})
        codes = own.codes.model_copy(update={"kind": "random"})
        without_meaning = own.model_copy(update={"codes": codes})
        with self.pieces.piece("data"):
            self._stage(own, "embeddings")
        with self.pieces.piece(f"seed {seed}, query encoder"):
            query_encoder = self._stage(own, "query-encoder")
        with self.pieces.piece(f"seed {seed}, generator"):
            generator = self._stage(own, "generator")
        with self.pieces.piece(f"seed {seed}, second query encoder"):
            second_encoder = self._stage(second, "query-encoder")
        with self.pieces.piece(f"seed {seed}, generator with random codes"):
            random_codes = self._stage(without_meaning, "generator")
        return Models(
            self._stage(own, "dataset"),
            self._stage(own, "transitions"),
            query_encoder,
            second_encoder,
            generator,
            random_codes,
        )

    def _stage(self, config: BuildConfig, stage: str) -> Built:
        return stages_of(self.source, config, self.work).stage(stage)
