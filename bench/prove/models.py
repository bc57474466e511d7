"""The models of one seed, each trained once, whichever arms it has a part in."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rich.console import Console

from bench.pieces import Pieces, as_built
from offline.build.config import BuildConfig
from offline.build.pipeline import Pipeline
from offline.build.source import Source
from offline.build.stages import Built, Workshop

SECOND: Final = 1000
"""What is added to a seed for the second query encoder."""


@dataclass(frozen=True)
class Models:
    """Stages of builds."""

    dataset: Built
    transitions: Built
    query_encoder: Built
    second_encoder: Built
    generator: Built
    random_codes: Built
    """The generator whose codes say nothing."""

    def all(self) -> tuple[Built, ...]:
        """Everything that scores depend on."""
        return (
            self.dataset,
            self.transitions,
            self.query_encoder,
            self.second_encoder,
            self.generator,
            self.random_codes,
        )


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
        workshop = Workshop(self.work, Console(quiet=True))
        pipeline = Pipeline(self.source, config, self.source.name, workshop, self.work)
        return as_built(stage, pipeline.run(stage))
