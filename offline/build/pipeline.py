"""The stages of a build, in order: each a directory that is made from the ones before it."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Final

from core.manifest import StoreSection
from offline.build.config import BuildConfig
from offline.build.publish import prompt_text, publish
from offline.build.source import Source
from offline.build.stages import Built, Workshop, fingerprint
from offline.codes.code import CodeKind

STAGES: Final = (
    "dataset",
    "embeddings",
    "query-encoder",
    "codes",
    "index",
    "transitions",
    "generator",
    "export",
    "blend",
    "evaluate",
    "bundle",
)
CODED_VECTORS: Final[dict[CodeKind, tuple[str, str]]] = {
    "semantic": ("embeddings", "content_vectors.npy"),
    "behavior": ("query-encoder", "behavior_vectors.npy"),
}
"""The stage and the file of the vectors that an indexing is made from; the others need none."""


@dataclass
class Pipeline:
    """A build of one bundle.

    Args:
        source: the data.
        config: everything else.
        name: of the bundle.
        workshop: where stages are kept.
        bundles: where bundles are kept.
    """

    source: Source
    config: BuildConfig
    name: str
    workshop: Workshop
    bundles: Path
    _built: dict[str, Built] = field(default_factory=dict)

    def run(self, until: str = "bundle") -> Path:
        """Builds the stages up to one, and returns the directory of that one."""
        makers: dict[str, Callable[[], Built]] = {
            "dataset": self._dataset,
            "embeddings": self._embeddings,
            "query-encoder": self._query_encoder,
            "codes": self._codes,
            "index": self._index,
            "transitions": self._transitions,
            "generator": self._generator,
            "export": self._export,
            "blend": self._blend,
            "evaluate": self._evaluate,
        }
        for stage in STAGES[:-1]:
            self._built[stage] = makers[stage]()
            if stage == until:
                return self._built[stage].path
        return self._publish(self._built["evaluate"], self.source.store)

    @staticmethod
    def _steps() -> ModuleType:
        """Imported by the first stage that is not built yet: it takes torch and many seconds."""
        from offline.build import steps

        return steps

    @staticmethod
    def _generator_steps() -> ModuleType:
        """As `_steps`."""
        from offline.build import generator

        return generator

    def _paths(self, *stages: str) -> dict[str, Path]:
        return {stage: self._path(stage) for stage in stages}

    def _path(self, stage: str) -> Path:
        return self._built[stage].path

    def _after(self, *stages: str) -> tuple[Built, ...]:
        return tuple(self._built[stage] for stage in stages)

    def _dataset(self) -> Built:
        return self.workshop.stage(
            "dataset",
            lambda out: self.source.load().save(out),
            version=1,
            config=self.source.facts(),
        )

    def _embeddings(self) -> Built:
        return self.workshop.stage(
            "embeddings",
            lambda out: self._steps().embed(self._path("dataset"), self.config.embedder, out),
            version=3,
            config=self.config.embedder.model_dump(mode="json"),
            after=self._after("dataset"),
        )

    def _codes(self) -> Built:
        section = self.config.codes
        stage, file = CODED_VECTORS.get(section.kind, (None, ""))
        vectors = self._path(stage) / file if stage else None
        return self.workshop.stage(
            "codes",
            lambda out: self._steps().assign_codes(
                self._path("dataset"), vectors, section, self.config.seed, out
            ),
            version=1,
            config={**section.model_dump(mode="json"), "seed": self.config.seed},
            after=self._after("dataset", *([stage] if stage else [])),
        )

    def _query_encoder(self) -> Built:
        section = self.config.query_encoder
        return self.workshop.stage(
            "query-encoder",
            lambda out: self._steps().train_retrieval(
                self._path("dataset"), self._path("embeddings"), section, self.config.seed, out
            ),
            version=6,
            config={**section.model_dump(mode="json"), "seed": self.config.seed},
            after=self._after("dataset", "embeddings"),
        )

    def _index(self) -> Built:
        from offline.build.indexes import build_indexes

        kind, needed = self.config.index.kind, ("dataset", "embeddings", "query-encoder")
        return self.workshop.stage(
            "index",
            lambda out: build_indexes(
                *(self._path(stage) for stage in needed), kind=kind, seed=self.config.seed, out=out
            ),
            version=1,
            config={"kind": kind, "seed": self.config.seed},
            after=self._after(*needed),
        )

    def _transitions(self) -> Built:
        return self.workshop.stage(
            "transitions",
            lambda out: self._steps().count_transitions(self._path("dataset"), out),
            version=1,
            config={},
            after=self._after("dataset"),
        )

    def _generator(self) -> Built:
        section = self.config.generator
        needed = ("dataset", "embeddings", "query-encoder", "codes")
        return self.workshop.stage(
            "generator",
            lambda out: self._generator_steps().train_generator(
                self._paths(*needed), self.config, out
            ),
            version=3,
            config={
                **section.model_dump(mode="json", exclude={"beams", "prompts", "precisions"}),
                "prompts": prompt_text(section.prompts),
                "reads_items": self.config.reads_items,
                "seed": self.config.seed,
            },
            after=self._after(*needed),
        )

    def _export(self) -> Built:
        needed = (
            "dataset",
            "embeddings",
            "codes",
            "query-encoder",
            "index",
            "transitions",
            "generator",
        )
        return self.workshop.stage(
            "export",
            lambda out: self._generator_steps().export(
                self._paths(*needed), self.config, self.name, out
            ),
            version=6,
            config={
                "name": self.name,
                "precisions": self.config.generator.precisions,
                "beams": self.config.generator.beams,
                "parity_users": self.config.parity_users,
                "shortlist": self.config.shortlist,
            },
            after=self._after(*needed),
        )

    def _blend(self) -> Built:
        return self.workshop.stage(
            "blend",
            lambda out: self._steps().choose_blend(
                self._path("export"), self.config.shortlist, out
            ),
            version=5,
            config={"shortlist": self.config.shortlist},
            after=self._after("export"),
        )

    def _evaluate(self) -> Built:
        return self.workshop.stage(
            "evaluate",
            lambda out: self._steps().evaluate(self._path("export"), self._path("blend"), out),
            version=2,
            config={},
            after=self._after("export", "blend"),
        )

    def _publish(self, evaluated: Built, store: StoreSection | None) -> Path:
        """No stage knows the store: the same items at a later sequence are another version only."""
        digest = evaluated.digest
        if store is not None:
            digest = fingerprint("bundle", 1, store.model_dump(), [digest])
        return publish(evaluated.path, digest[:12], self.bundles, store)


def check_torchrun(until: str) -> None:
    """Under torchrun only the generator is trained together.

    Raises:
        ValueError: another stage is asked for.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and until != "generator":
        raise ValueError(
            "under torchrun, build with --until generator; "
            "before and after it, run `tandem build` by itself"
        )
