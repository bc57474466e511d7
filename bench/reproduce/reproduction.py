"""What there is to train and to measure for one data set, piece by piece."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from bench.reproduce import tables
from bench.reproduce.tables import TASKS, beam_figures, seen_rows, task_rows
from bench.results.files import write_json
from bench.results.pieces import Pieces
from bench.results.stages import stages_of
from offline.build.cache import Built, StageCache
from offline.build.config import BuildConfig
from offline.build.drafts import open_draft
from offline.build.files import read_json
from offline.build.source import Source
from offline.codes.code import CodeKind
from offline.dataset import Dataset
from offline.evaluate.protocol import questions

INDEXINGS: Final[tuple[CodeKind, ...]] = (
    "random",
    "sequential",
    "collaborative",
    "semantic",
    "behavior",
)
TOKENS: Final = "sequential, read as tokens"
"""P5 as published: a history is the tokens of its items' codes."""
_MEASURED: Final = (*(f"{task}/{kind}" for task, kind in TASKS), "exact")


@dataclass
class Findings:
    """What is done so far."""

    rows: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    """By indexing, and of the whole pipeline, as `offline.metrics.Row.to_json` gives them."""
    curves: dict[str, dict[str, float]] = field(default_factory=dict)
    """By indexing: validation NDCG@10 by epoch."""
    beams: list[dict[str, float]] = field(default_factory=list)


@dataclass(frozen=True)
class Reproduction:
    """All tables of a data set.

    Attributes:
        source: The data.
        config: How models are trained; the indexings differ in their codes alone.
        tokens: Whether a model that reads tokens is trained as well, which takes many times longer.
        work: Where trained stages are kept.
        out: Where rows are kept.
    """

    source: Source
    config: BuildConfig
    tokens: bool
    work: Path
    out: Path

    def configs(self) -> dict[str, BuildConfig]:
        """What is trained, by name."""
        found: dict[str, BuildConfig] = {kind: self._with(kind, "items") for kind in INDEXINGS}
        return found | ({TOKENS: self._with("sequential", "tokens")} if self.tokens else {})

    def _with(self, kind: CodeKind, inputs: str) -> BuildConfig:
        codes = self.config.codes.model_copy(update={"kind": kind})
        changes = {"inputs": inputs, "precisions": ("fp32",)}
        generator = self.config.generator.model_copy(update=changes)
        return self.config.model_copy(update={"codes": codes, "generator": generator})

    def pieces(self) -> Pieces:
        """What there is to do."""
        planned = [
            f"{name}, {piece}"
            for name in self.configs()
            for piece in ("training", "export", *_MEASURED)
            if (name, piece) != (TOKENS, "exact")
        ]
        return Pieces(self.out / "seconds.json", (*planned, "pipeline", "beams"))

    def run(self, pieces: Pieces, findings: Findings) -> None:
        """Does what there is time for.

        Args:
            pieces: that are noted.
            findings: that are filled in.

        Raises:
            OutOfTime: there was not enough for all.
        """
        for name, config in self.configs().items():
            self._indexing(name, config, pieces, findings)
        with pieces.piece("pipeline"):
            evaluated = self._stage(self.config, "evaluate")
            findings.rows["pipeline"] = read_json(evaluated.path / "metrics.json")["rows"]
        with pieces.piece("beams"):
            findings.beams += self._measure(
                "beams", self._beams, self._stage(self.config, "export")
            )

    def _indexing(self, name: str, config: BuildConfig, pieces: Pieces, findings: Findings) -> None:
        with pieces.piece(f"{name}, training"):
            generator = self._stage(config, "generator")
            facts = read_json(generator.path / "facts.json")
            findings.curves[name] = facts.get("curve", {})
        with pieces.piece(f"{name}, export"):
            export = self._stage(config, "export")
        rows = findings.rows.setdefault(name, [])
        for task, kind in TASKS:
            with pieces.piece(f"{name}, {task}/{kind}"):

                def ask(built: Built, task: str = task, kind: Any = kind) -> list[Any]:
                    bundle = open_draft(built.path)
                    asked = questions(bundle, "test")
                    return [row.to_json() for row in task_rows(bundle, task, kind, asked)]

                rows += self._measure(f"{task}/{kind}", ask, export)
        if config.reads_items:
            with pieces.piece(f"{name}, exact"):
                data = Dataset.load(self._stage(config, "dataset").path)

                def score(built: Built) -> list[Any]:
                    read = config.generator.max_history
                    return [row.to_json() for row in seen_rows(built.path, data, read)]

                rows += self._measure("exact", score, generator)

    def _beams(self, built: Built) -> list[Any]:
        bundle = open_draft(built.path)
        return beam_figures(bundle, questions(bundle, "test"))

    def _stage(self, config: BuildConfig, stage: str) -> Built:
        return stages_of(self.source, config, self.work).stage(stage)

    def _measure(self, name: str, figures: Callable[[Built], list[Any]], of: Built) -> list[Any]:
        """Figures about a stage, which are taken once."""

        def make(out: Path) -> None:
            write_json(out / "figures.json", {"figures": figures(of)})

        cache = StageCache(self.out, Console(quiet=True))
        stage = cache.stage("figures", make, settings=name, after=(of,), code=tables.__name__)
        found: list[Any] = read_json(stage.path / "figures.json")["figures"]
        return found
