"""`make reproduce`: the tables of a data set, by one command.

python -m bench.reproduce --help
"""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from bench.results.options import Minutes, Work
from bench.results.pages import command_line, provenance
from cli.support.data_options import ColumnOptions, DataOptions
from cli.support.option_groups import expanded
from cli.support.training_options import TrainingOptions
from offline.training.deadline import OutOfTime, limited

app = typer.Typer(add_completion=False)


@app.command(
    epilog="Examples:\n\n"
    "python -m bench.reproduce ml-100k --minutes 30\n\n"
    "python -m bench.reproduce ml-1m --preset base --docs /tmp/tables"
)
@expanded
def reproduce(
    data: DataOptions,
    training: TrainingOptions,
    columns: ColumnOptions,
    seed: Annotated[int, typer.Option(help="Decides everything that is random.")] = 0,
    tokens: Annotated[
        bool,
        typer.Option(
            "--tokens",
            help="Also train a generator that reads a history as the tokens of its items' codes, "
            "as P5 was published; this takes many times longer.",
        ),
    ] = False,
    minutes: Minutes = None,
    work: Work = Path("build/work"),
    out: Annotated[Path, typer.Option(help="Where rows are kept.")] = Path("build/reproduce"),
    docs: Annotated[Path, typer.Option(help="Where the page, JSON and plots go.")] = Path(
        "docs/results"
    ),
) -> None:
    """Train, evaluate and write the tables of a data set: five indexings, two tasks, two prompts.

    OpenP5's published figures stand beside them where there are some. Beside these: rows with and
    without the learned number for seen items, everything that `tandem build` reports, quality by
    beams and by latency, and validation by training time.

    Models are trained by the stages of `tandem build`, each once, and every row is measured once:
    stopped at any time, the same command goes on from there. The page says what is not done yet.
    """
    from bench.lib.report import environment  # these take seconds, and --help should not
    from bench.reproduce.report import Page
    from bench.reproduce.reproduction import Findings, Reproduction

    source, config = data.source(columns), training.config(seed=seed)
    work_to_do = Reproduction(source, config, tokens, work, out / source.name)
    console, pieces, findings = Console(), work_to_do.pieces(), Findings()
    try:
        with limited(minutes):
            work_to_do.run(pieces, findings)
    except OutOfTime:
        left = pieces.left
        console.print(f"Out of time; left: {left[0]}, and {len(left) - 1} more pieces of work")
    facts = {
        "config": provenance(config),
        "environment": environment(),
        "seconds": pieces.seconds(),
    }
    command = command_line("bench.reproduce")
    page = Page(source.name, command, facts, findings, pieces.left).write(docs)
    console.print(f"[bold green]written[/]: {page}")


if __name__ == "__main__":
    app()
