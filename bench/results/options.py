"""The options that measurements of hours have in common."""

from pathlib import Path
from typing import Annotated

import typer

Minutes = Annotated[
    float | None,
    typer.Option(
        help="Stop after so many, between two epochs or blocks; run again to go on from there.",
        min=0,
    ),
]
Work = Annotated[
    Path, typer.Option(help="Where trained stages are kept, also those of tandem build.")
]
