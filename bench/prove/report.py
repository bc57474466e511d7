"""The result in a terminal, as JSON, and as a page of docs/results."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from bench.lib.report import environment
from bench.prove.arms import MEANING
from bench.prove.proof import Proof, SeedOutcome
from bench.prove.scoring import ROWS
from bench.prove.verdicts import METRICS, Verdict, values, verdicts
from bench.results.files import write_json, write_text
from bench.results.pages import how_it_was_made, interval, markdown_table, provenance, share
from offline.evaluate.protocol import RANKINGS

HEADER = ("", *(f"{metric.upper()} {ranking}" for ranking in RANKINGS for metric in METRICS))
_WIDTH = 110
COLUMNS = [(ranking, metric) for ranking in RANKINGS for metric in METRICS]


@dataclass(frozen=True)
class Result:
    """All seeds that are done."""

    title: str
    facts: Mapping[str, Any]
    """How it was made: configuration, revision, hardware, seconds by piece."""
    outcomes: Sequence[SeedOutcome]
    verdicts: Sequence[Verdict]

    @classmethod
    def of(
        cls, proof: Proof, outcomes: Sequence[SeedOutcome], seconds: Mapping[str, float]
    ) -> "Result":
        """Sums up.

        Args:
            proof: what was asked.
            outcomes: of at least one seed.
            seconds: by piece of work.
        """
        first = outcomes[0]
        title = (
            f"{proof.source.name}, {proof.protocol}: {len(first.ranks):,} questions of "
            f"{len(np.unique(first.users)):,} users, {len(outcomes)} of {proof.seeds} seeds"
        )
        facts = {
            "data": proof.source.name,
            "protocol": proof.protocol,
            "config": provenance(proof.config),
            "environment": environment(),
            "seconds": dict(seconds),
        }
        return cls(title, facts, outcomes, verdicts(outcomes))

    def rows(self) -> list[tuple[str, list[float]]]:
        """Each source and arm with its metrics, the mean over seeds, by `COLUMNS`."""
        return [
            (_label(row), [float(values(self.outcomes, row, *column).mean()) for column in COLUMNS])
            for row in ROWS
        ]

    def to_json(self) -> dict[str, Any]:
        """Everything, each seed by itself too."""
        seeds = [
            {"seed": outcome.seed, **outcome.fitted.to_json(), "rows": _figures(outcome)}
            for outcome in self.outcomes
        ]
        found = [verdict.to_json() for verdict in self.verdicts]
        return {"title": self.title, **self.facts, "seeds": seeds, "verdicts": found}

    def to_markdown(self, command: str) -> str:
        """A page."""
        rows = [[name, *map(share, figures)] for name, figures in self.rows()]
        gains = [
            [verdict.claim.name, interval(verdict.hr), interval(verdict.ndcg)]
            for verdict in self.verdicts
        ]
        weights = [
            f"seed {outcome.seed}, {arm}: "
            + ", ".join(f"{name} {weight:.2f}" for name, weight in own.items())
            for outcome in self.outcomes
            for arm, own in outcome.fitted.weights.items()
        ]
        return "\n\n".join(
            [
                f"# {self.title}",
                f"Made by `{command}`. Test items, means over seeds; weights are fitted on "
                "validation items alone. Differences are filtered, with 95% intervals by bootstrap "
                "over users and seeds in pairs.",
                "\n".join(f"- {verdict}" for verdict in self.verdicts),
                markdown_table(HEADER, rows),
                markdown_table(("", *(metric.upper() for metric in METRICS)), gains),
                "## Weights",
                "\n".join(f"- {line}" for line in weights),
                how_it_was_made(self.facts),
            ]
        )


def print_result(result: Result, console: Console) -> None:
    """The table, and the verdicts below."""
    if not console.is_terminal:
        console = Console(width=_WIDTH)  # a log or a pipe: nothing to fit into
    table = Table("", title=result.title, box=None, header_style="bold")
    for name in HEADER[1:]:
        table.add_column(name, justify="right", no_wrap=True)
    for name, figures in result.rows():
        table.add_row(name, *map(share, figures))
    console.print(table)
    for verdict in result.verdicts:
        console.print(str(verdict), highlight=False, soft_wrap=True)


def write_result(result: Result, json_file: Path, page: Path | None, command: str) -> None:
    """Writes the JSON, and where a page is wanted that, with the JSON beside it."""
    write_json(json_file, result.to_json())
    if page is not None:
        write_text(page, result.to_markdown(command) + "\n")
        write_json(page.with_suffix(".json"), result.to_json())


def _label(row: str) -> str:
    return f"{row}: {MEANING[row]}" if row in MEANING else row.replace("_", " ")


def _figures(outcome: SeedOutcome) -> dict[str, dict[str, float]]:
    """One seed's metrics by row."""
    return {
        row: {
            f"{metric} {ranking}": float(values([outcome], row, ranking, metric).mean())
            for ranking, metric in COLUMNS
        }
        for row in ROWS
    }
