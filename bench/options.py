"""The options that several measurements have in common."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from offline.build.config import BuildConfig, configure

CodeKind = Literal["random", "sequential", "collaborative", "semantic", "behavior"]

MovieLensName = Annotated[
    Literal["ml-100k", "ml-1m"] | None,
    typer.Argument(help="MovieLens; or name your own logs with --interactions and --items."),
]
Minutes = Annotated[
    float | None,
    typer.Option(
        help="Stop after so many, between two epochs or blocks; run again to go on from there.",
        min=0,
    ),
]
Preset = Annotated[Literal["demo", "base", "small"], typer.Option(help="As in tandem build.")]
Levels = Annotated[int | None, typer.Option(help="Tokens of a code.", min=1, max=8)]
Epochs = Annotated[int | None, typer.Option(help="Of the generators.", min=1)]
QueryEpochs = Annotated[int | None, typer.Option(help="Of the query encoders.", min=1)]
Embedder = Annotated[str | None, typer.Option(help="As in tandem build.")]
Interactions = Annotated[
    Path | None, typer.Option(help="Your interactions: CSV (also gzipped) or Parquet.")
]
Items = Annotated[Path | None, typer.Option(help="Your items: CSV (also gzipped) or Parquet.")]
Name = Annotated[str | None, typer.Option(help="Of your data. [default: logs]")]
Work = Annotated[
    Path, typer.Option(help="Where trained stages are kept, also those of tandem build.")
]
Data = Annotated[Path, typer.Option(help="Where MovieLens is kept.")]


def build_config(options: dict[str, Any]) -> BuildConfig:
    """The configuration that a command's options describe; those it has not are the preset's."""
    epochs = options.get("epochs")
    return configure(
        options["preset"],
        {
            "seed": options.get("seed"),
            "embedder": {"model": options.get("embedder")},
            "codes": {"kind": options.get("codes"), "levels": options.get("levels")},
            "query_encoder": {"train": {"epochs": options.get("query_epochs")}},
            "generator": {"items": {"loop": {"epochs": epochs}}, "tokens": {"epochs": epochs}},
        },
    )
