"""The candidate service: its index, its calls, and its catalog as it changes.

    python -m bench.candidate --help

Prints a table of each and writes `build/bench/candidate.json`.
"""

from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

from bench.candidate_echo import measure_echo
from bench.candidate_index import ITEMS, measure_index
from bench.candidate_live import measure_live
from bench.report import environment, write_report
from core.bundle import Bundle


def main(
    bundle: Annotated[Path, typer.Option(help="Whose candidates are served.")] = Path(
        "bundles/ml-100k/current"
    ),
    vectors: Annotated[int, typer.Option(help="In the index.", min=1_000)] = ITEMS,
    kind: Annotated[Literal["hnsw", "ivfpq"], typer.Option(help="Of the index.")] = "hnsw",
    seconds: Annotated[float, typer.Option(help="Of calls, for each of the servers.")] = 60.0,
) -> None:
    """Measure the candidate service."""
    console = Console()
    facts = environment() | {
        "vectors": vectors,
        "index": kind,
        "bundle": Bundle.open(bundle, verify=False).version,
    }
    figures = measure_echo(bundle, seconds)
    figures |= measure_live(bundle, seconds)
    figures |= measure_index(vectors, kind, say=console.print)
    figures = {name: round(value, 4) for name, value in figures.items()}
    console.print(f"written to {write_report('candidate', figures, facts)}")


if __name__ == "__main__":
    typer.run(main)
