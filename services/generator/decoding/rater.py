"""Predicts ratings: prompts in, expected values out; see `ratings`.

Like the engine it blocks, changes nothing and is safe to call from several threads.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.catalog import ItemArray
from core.errors import FailedPrecondition
from services.generator.catalog.coded import CodedCatalog
from services.generator.decoding.engine import GeneratorEngine
from services.generator.decoding.parts import GeneratorParts
from services.generator.decoding.ratings import RatedItems, RatingParts
from services.generator.prompts import rating_text


@dataclass(frozen=True)
class RatingQuery:
    """What is asked about one user."""

    rated: RatedItems
    items: ItemArray
    """Whose ratings are predicted; at least one."""


@dataclass(frozen=True)
class RatingJob:
    """A query that is ready to run; see `services.generator.batching.BatchJob`."""

    snapshot: CodedCatalog
    """What its positions refer to."""
    prompts: Sequence[Sequence[int]]
    """Of each item, as token ids."""

    @property
    def tokens(self) -> int:
        """The length of the longest prompt."""
        return max(map(len, self.prompts))

    @property
    def prefixes(self) -> int:
        """None of a shortlist: those of ratings are few."""
        return 0

    @property
    def group(self) -> Hashable:
        """Jobs of equal groups may run together."""
        return "ratings", self.snapshot.version


def answer(engine: GeneratorEngine, jobs: Sequence[Any]) -> Sequence[Any]:
    """Answers jobs of one kind and group: those that rank, and those that rate."""
    if isinstance(jobs[0], RatingJob):
        return Rater.of(engine).run(jobs)
    return engine.run(jobs)


@dataclass(frozen=True)
class Rater:
    """The rating family of a model over one version of the catalog."""

    parts: GeneratorParts
    snapshot: CodedCatalog

    @classmethod
    def of(cls, engine: GeneratorEngine) -> "Rater":
        """That of an engine's model and catalog."""
        return cls(engine.parts, engine.snapshot)

    @property
    def known(self) -> RatingParts:
        """What the model knows of ratings.

        Raises:
            FailedPrecondition: reason RATINGS_NOT_LEARNED.
        """
        if self.parts.ratings is None:
            raise FailedPrecondition(
                "the model of this bundle has not learned ratings; build one from data that have "
                "them, with a share of the family `rating`",
                reason="RATINGS_NOT_LEARNED",
            )
        return self.parts.ratings

    def prepare(self, query: RatingQuery) -> RatingJob:
        """Does the part of a query's work that needs no model."""
        prompts = [self.render(query.rated, item) for item in query.items.tolist()]
        return RatingJob(self.snapshot, prompts)

    def run(self, jobs: Sequence[RatingJob]) -> list[NDArray[np.float64]]:
        """The expected ratings of each job's items; all jobs are of one group."""
        section = self.parts.section
        expected = self.known.expected(
            self.parts.graphs,
            [prompt for job in jobs for prompt in job.prompts],
            jobs[0].snapshot,
            vocabulary=section.vocabulary,
            pad=section.pad_token,
        )
        return np.split(expected, np.cumsum([len(job.prompts) for job in jobs])[:-1])

    def render(self, rated: RatedItems, item: int) -> list[int]:
        """The prompt about an item and what its user has rated beside it, as token ids."""
        template, section = self.known.template, self.parts.section
        shown = rated.without(item)
        if section.inputs == "tokens":
            texts = self.snapshot.code_texts
            pairs = zip(shown.items.tolist(), shown.values.tolist(), strict=True)
            history = [f"{texts[at]} {rating_text(value)}" for at, value in pairs]
            return self.parts.words(template, None, history, item=texts[item])
        words = self.parts.words(template, None)
        fits = max(0, section.max_input_tokens - len(words) - 1) // 2
        tokens = self.known.codes[shown.values, 0]
        told = np.stack([shown.items + section.vocabulary, tokens], axis=1)
        newest = told[max(0, len(told) - fits) :]
        return [*words, *newest.ravel().tolist(), item + section.vocabulary]
