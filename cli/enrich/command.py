"""`tandem enrich`: text for thin items, from a language model."""

import asyncio
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.enrich.options import ChoiceOptions, EndpointOptions
from cli.support.data_options import ColumnOptions, DataOptions
from cli.support.option_groups import expanded

if TYPE_CHECKING:
    from rich.console import Console

    from offline.dataset import Item
    from offline.enrich.cache import AnswerCache, Stored
    from offline.enrich.endpoint import EndpointConfig
    from offline.enrich.items import ItemTable
    from offline.enrich.run import Run

app = typer.Typer()


@app.command(
    epilog="Examples:\n\n"
    "tandem enrich ml-100k --out enriched.parquet --local\n\n"
    "tandem enrich --items products.csv --text-column title --out enriched.parquet "
    "--model gpt-4.1-mini --price-in 0.4 --price-out 1.6 --dry-run\n\n"
    "tandem build ml-100k --items enriched.parquet --name enriched"
)
@expanded
def enrich(
    data: DataOptions,
    columns: ColumnOptions,
    endpoint: EndpointOptions,
    choice: ChoiceOptions,
    out: Annotated[
        Path,
        typer.Option(help="The table to write, .parquet or .csv: yours, with generated columns."),
    ] = Path("enriched.parquet"),
    concurrency: Annotated[
        int, typer.Option(help="Questions that are asked at a time.", min=1, max=256)
    ] = 8,
    cache: Annotated[
        Path, typer.Option(help="Where answers are kept; whatever is in it is not asked again.")
    ] = Path("build/enrich/answers.sqlite"),
    retry_failed: Annotated[
        bool,
        typer.Option("--retry-failed", help="Ask again about items without a valid answer."),
    ] = False,
) -> None:
    """Have a language model describe items whose texts say little, for `tandem build` to read.

    With --interactions only items that a build would keep are asked about. What is generated stands
    in columns of its own, and items keep the mark: the attribute generated_text, in every answer
    that shows attributes, names the model. A run that was stopped or killed goes on where it was.
    """
    from rich.console import Console

    from offline.enrich.cache import AnswerCache
    from offline.enrich.endpoint import Endpoint
    from offline.enrich.items import check_output
    from offline.enrich.run import Run

    check_output(out)
    console = Console(stderr=True)
    table, ids = _table(data, columns)
    items = table.chosen(ids, max_words=choice.max_words, sample=choice.count(local=endpoint.local))
    if not items:
        raise typer.BadParameter("no item is to be asked about", param_hint="--max-words")

    async def asked(config: "EndpointConfig", opened: "AnswerCache") -> "list[Stored]":
        async with Endpoint(config) as server:
            run = Run(server, opened, concurrency, retry_failed)
            _confirm(run, items, choice, console)
            return await _ask(run, items, console)

    with AnswerCache.opened(cache) as opened, endpoint.endpoint(concurrency, console) as config:
        answers = asyncio.run(asked(config, opened))
    if choice.dry_run:
        _print(items, answers)
        return
    by_id = {item.item_id: stored for item, stored in zip(items, answers, strict=True)}
    table.written(out, by_id, config.model)
    typer.echo(f"{sum(s.answer is not None for s in answers):,} items described in {out}")


def _table(data: DataOptions, columns: ColumnOptions) -> "tuple[ItemTable, Sequence[str]]":
    """The items, and the ids of those that a build keeps as far as that is known."""
    from offline.enrich.items import ItemTable

    if data.movielens is None and data.items is not None and data.interactions is None:
        table = ItemTable.of_logs(columns.logs(data.items, data.items))
        return table, list(table.items)
    if data.movielens is not None and data.items is not None:
        raise typer.BadParameter("MovieLens brings its own items", param_hint="--items")
    kept = data.source(columns).load()
    if data.items is not None and data.interactions is not None:
        return ItemTable.of_logs(columns.logs(data.interactions, data.items)), kept.item_ids
    return ItemTable.of_dataset(kept), kept.item_ids


def _confirm(
    run: "Run", items: "Sequence[Item]", choice: ChoiceOptions, console: "Console"
) -> None:
    """Says what it will cost, and asks whether to begin where nobody said so before."""
    from offline.enrich.estimate import Prices, estimate

    texts = [item.text for item in items]
    pending = run.pending(texts)
    known = run.cache.known(map(run.endpoint.digest, texts)).values()
    expected = estimate(list(pending.values()), list(known))
    basis = f"from {expected.measured:,} answers" if expected.measured else "from prompt lengths"
    console.print(
        f"{len(items):,} items, {expected.questions:,} to ask {run.endpoint.config.model} about: "
        f"about {expected.prompt_tokens:,} tokens of prompts and {expected.completion_tokens:,} of "
        f"answers ({basis})",
        highlight=False,
    )
    if choice.price_in is not None or choice.price_out is not None:
        prices = Prices(choice.price_in or 0.0, choice.price_out or 0.0)
        console.print(f"about {expected.cost(prices):,.2f} at these prices", highlight=False)
    if expected.questions and not (choice.yes or choice.dry_run):
        typer.confirm("Begin?", abort=True, err=True)


async def _ask(run: "Run", items: "Sequence[Item]", console: "Console") -> "list[Stored]":
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    loop = asyncio.get_running_loop()

    def stop() -> None:
        console.print("stopping: waiting for the answers under way")
        loop.remove_signal_handler(signal.SIGINT)  # the next one ends it at once
        run.stop()

    loop.add_signal_handler(signal.SIGINT, stop)
    columns = (TextColumn("enriching"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("", total=len(items))
        answers = await run.ask([i.text for i in items], lambda count: bar.advance(task, count))
    failed = sum(stored.answer is None for stored in answers) - len(run.unanswered)
    if run.stopped:
        console.print("stopped: answers so far are kept; run again to go on")
        raise typer.Exit(130)
    if failed:
        console.print(f"{failed:,} items have no valid answer: --retry-failed asks again")
    if run.unanswered:
        console.print(
            f"{len(run.unanswered):,} items got no answer: run again to ask about them. "
            f"The last said {run.unanswered[-1]}",
            highlight=False,
            markup=False,
        )
    return answers


def _print(items: "Sequence[Item]", answers: "Sequence[Stored]") -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    shown = Table("item", "what was generated", box=None, header_style="bold")
    for item, stored in zip(items, answers, strict=True):
        text = "[red]no valid answer" if stored.answer is None else escape(stored.answer.text)
        shown.add_row(escape(item.text), text)
    Console().print(shown)
