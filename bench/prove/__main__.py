"""`make prove`: what the generator is worth beside retrieval.

python -m bench.prove --help
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from bench.results.data import Protocol
from bench.results.options import Minutes, Work
from bench.results.pages import command_line
from cli.support.data_options import ColumnOptions, DataOptions
from cli.support.option_groups import expanded
from cli.support.training_options import CodeKind, TrainingOptions
from offline.training.deadline import OutOfTime, limited

if TYPE_CHECKING:
    from bench.prove.proof import Proof

app = typer.Typer(add_completion=False)


@app.command(
    epilog="Examples:\n\n"
    "python -m bench.prove ml-100k --minutes 30\n\n"
    "python -m bench.prove ml-1m --protocol rolling --write-docs\n\n"
    "python -m bench.prove --name beauty --interactions beauty.csv.gz --items items.csv.gz "
    "--text-column text"
)
@expanded
def prove(
    data: DataOptions,
    training: TrainingOptions,
    columns: ColumnOptions,
    protocol: Annotated[
        Protocol,
        typer.Option(
            help="leave-one-out: the last interaction of every user, as others publish it. "
            "rolling: the last ten of every user, each given all before it; the one before them "
            "chooses, and training ends there."
        ),
    ] = "leave-one-out",
    seeds: Annotated[
        int | None,
        typer.Option(help="Trainings of everything. [default: 5 for ml-100k, else 3]", min=1),
    ] = None,
    codes: Annotated[
        CodeKind | None, typer.Option(help="Of arm B. [default: that of tandem build]")
    ] = None,
    minutes: Minutes = None,
    write_docs: Annotated[
        bool, typer.Option("--write-docs", help="Also write the page of docs/results.")
    ] = False,
    work: Work = Path("build/work"),
    out: Annotated[Path, typer.Option(help="Where results are kept.")] = Path("build/prove"),
    docs: Annotated[Path, typer.Option(help="Where --write-docs writes.")] = Path("docs/results"),
) -> None:
    """Compare arms that share their encoders: does the generator help, and because it generates?

    A is the query encoder with transitions. B adds the generator, C a second query encoder of
    another seed (what ensembling alone gives), D a generator whose codes are random, S the
    generator's softmax over items without its decoder. Weights are fitted on validation items
    alone. B − A above 0 means that the generator helps; B − C above 0, that it does so because it
    is generative.

    Models are trained by the stages of `tandem build`, each once. Whatever is done is kept.
    """
    from bench.prove.proof import Proof  # takes seconds, and --help should not

    source, config = data.source(columns), training.config(codes=codes)
    full_name = source.name if protocol == "leave-one-out" else f"{source.name}-{protocol}"
    count = seeds or (5 if source.name == "ml-100k" else 3)
    proof = Proof(source, protocol, config, count, work, out / full_name)
    with limited(minutes):
        _run(
            proof, out / f"{full_name}.json", docs / f"prove-{full_name}.md" if write_docs else None
        )


def _run(proof: "Proof", json_file: Path, page: Path | None) -> None:
    from bench.prove.report import Result, print_result, write_result

    console, pieces, outcomes = Console(), proof.pieces(), []
    try:
        for outcome in proof.outcomes(pieces):
            outcomes.append(outcome)  # noqa: PERF402 - those before the time is up count
    except OutOfTime:
        left = pieces.left
        console.print(f"Out of time; left: {left[0]}, and {len(left) - 1} more pieces of work")
    if outcomes:
        result = Result.of(proof, outcomes, pieces.seconds())
        print_result(result, console)
        write_result(result, json_file, page, command_line("bench.prove"))


if __name__ == "__main__":
    app()
