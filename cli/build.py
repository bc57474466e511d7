"""`tandem build`: from interaction logs to a bundle."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from cli import logs

app = typer.Typer()

CodeKind = Literal["random", "sequential", "collaborative", "semantic", "behavior"]


@app.command(
    epilog="Examples:\n\n"
    "tandem build ml-100k\n\n"
    "tandem build --interactions orders.csv --items products.csv --name shop\n\n"
    "tandem build --interactions orders.csv --items products.csv --name shop --store items.db\n\n"
    "tandem build ml-1m --preset base --until codes\n\n"
    "torchrun --nproc-per-node 4 -m cli.main build ml-1m --preset base --until generator"
)
def build(
    movielens: Annotated[
        Literal["ml-100k", "ml-1m"] | None,
        typer.Argument(help="MovieLens; or name your own logs with --interactions and --items."),
    ] = None,
    interactions: Annotated[
        Path | None, typer.Option(help="Your interactions: CSV (also gzipped) or Parquet.")
    ] = None,
    items: Annotated[
        Path | None, typer.Option(help="Your items: CSV (also gzipped) or Parquet.")
    ] = None,
    store: Annotated[
        Path | None,
        typer.Option(
            help="A candidate service's store, which may be in use: the items added or replaced in "
            "it join the item table. Their texts are embedded here, whatever vectors they have "
            "there. What was deleted stays."
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Of the bundle. [default: that of the data]")
    ] = None,
    preset: Annotated[
        Literal["demo", "base", "small"],
        typer.Option(help="How large and how long: minutes on a CPU, an hour, T5-small on a GPU."),
    ] = "demo",
    codes: Annotated[
        CodeKind | None, typer.Option(help="How items get their codes. [default: collaborative]")
    ] = None,
    levels: Annotated[int | None, typer.Option(help="Tokens of a code.", min=1, max=8)] = None,
    code_style: Annotated[
        Literal["tokens", "text"] | None,
        typer.Option(help="New tokens, or text such as item_1081 in a checkpoint's own."),
    ] = None,
    embedder: Annotated[
        str | None,
        typer.Option(
            help="Embeds item texts: any sentence-transformers or Hugging Face model, by hub name "
            "or path. [default: all-MiniLM-L6-v2]"
        ),
    ] = None,
    embedder_prompt: Annotated[
        str | None, typer.Option(help="An instruction that the embedder expects before a text.")
    ] = None,
    checkpoint: Annotated[
        str | None, typer.Option(help="A T5 to start from, by hub name or path.")
    ] = None,
    inputs: Annotated[
        Literal["auto", "items", "tokens"],
        typer.Option(
            help="How the generator reads a history: one position an item, or the tokens of the "
            "items' codes; auto is tokens for a checkpoint."
        ),
    ] = "auto",
    precision: Annotated[
        list[str] | None,
        typer.Option(
            metavar="int8|fp16|fp32",
            help="Of the generator, beside fp32; once for each. int8 is for CPUs, and left out "
            "where it loses too much; fp16 is for GPUs. "
            "[default: int8, and fp16 with --preset small]",
        ),
    ] = None,
    prompts: Annotated[
        Path | None, typer.Option(help="Your prompt file: task; seen|unseen; input; output.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Of the generator.", min=1)] = None,
    query_epochs: Annotated[int | None, typer.Option(help="Of the query encoder.", min=1)] = None,
    index: Annotated[
        Literal["auto", "flat", "hnsw", "ivfpq"],
        typer.Option(
            help="How item vectors are searched: all of them, a graph, or cells of quantized "
            "vectors; auto goes by the size of the catalog."
        ),
    ] = "auto",
    seed: Annotated[int, typer.Option(help="Decides everything that is random.")] = 0,
    until: Annotated[
        str, typer.Option(help="Stop after this stage; --until help names them.")
    ] = "bundle",
    force: Annotated[
        bool, typer.Option("--force", help="Build again what is built already.")
    ] = False,
    work: Annotated[Path, typer.Option(help="Where stages are kept.")] = Path("build/work"),
    data: Annotated[Path, typer.Option(help="Where MovieLens is kept.")] = Path("build/data"),
    bundles: Annotated[Path, typer.Option(help="Where bundles are kept.")] = Path("bundles"),
    user_column: logs.UserColumn = "user_id",
    item_column: logs.ItemColumn = "item_id",
    timestamp_column: logs.TimestampColumn = "timestamp",
    rating_column: logs.RatingColumn = None,
    min_rating: logs.MinRating = None,
    item_id_column: logs.ItemIdColumn = "item_id",
    text_column: logs.TextColumn = None,
    attribute_column: logs.AttributeColumn = None,
    separator: logs.Separator = None,
    encoding: logs.Encoding = "utf-8",
    value_separator: logs.ValueSeparator = "|",
    min_core: logs.MinCore = 5,
) -> None:
    """Build a bundle: dataset, embeddings, retrieval, codes, training, export, evaluation.

    Stages that were built from the same inputs before are not built again, and one that was
    killed goes on where it was.
    """
    options = locals()
    from rich.console import Console

    from offline.build.config import configure
    from offline.build.pipeline import STAGES, Pipeline, check_torchrun
    from offline.build.source import LogsSource, MovieLensSource, Source, WithStore
    from offline.build.stages import Workshop
    from services.candidate.catalog.store import read_items

    if until not in STAGES:
        raise typer.BadParameter(f"the stages are: {', '.join(STAGES)}", param_hint="--until")
    if (movielens is None) == (interactions is None) or (interactions is None) != (items is None):
        raise typer.BadParameter("name ml-100k or ml-1m, or both --interactions and --items")
    check_torchrun(until)
    console = Console()
    source: Source
    if movielens is not None:
        source = MovieLensSource(movielens, data)
    else:
        source = LogsSource(logs.logs_config({**options, "name": name or "logs"}))
    if store is not None:
        snapshot = read_items(store)
        source = WithStore(source, snapshot)
        console.print(f"{store}: {len(snapshot.items):,} items, as of change {snapshot.sequence:,}")
    config = configure(
        preset,
        {
            "seed": seed,
            "embedder": {"model": embedder, "prompt": embedder_prompt},
            "codes": {"kind": codes, "levels": levels, "style": code_style},
            "query_encoder": {"train": {"epochs": query_epochs}},
            "index": {"kind": index},
            "generator": {
                "checkpoint": checkpoint,
                "inputs": inputs,
                "prompts": prompts,
                "precisions": precision,
                "items": {"loop": {"epochs": epochs}},
                "tokens": {"epochs": epochs},
            },
        },
    )
    workshop = Workshop(work, console, force=force)
    path = Pipeline(source, config, name or source.name, workshop, bundles).run(until)
    console.print(f"[bold green]{until}[/]: {path}")
