"""The options that say how the embedder is used, beside which one it is."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import typer


@dataclass(frozen=True)
class EmbedderOptions:
    """What differs from the model's own files."""

    embedder_prompt: Annotated[
        str | None,
        typer.Option(
            help="What the embedder expects before an item text. \\[default: as its files say; "
            "known of E5 and BGE]"
        ),
    ] = None
    embedder_query_prompt: Annotated[
        str | None, typer.Option(help="The same before a text that items are searched for by.")
    ] = None
    embedder_pooling: Annotated[
        Literal["mean", "cls", "lasttoken"] | None,
        typer.Option(help="How the embedder's tokens become one vector. \\[default: the same]"),
    ] = None
    embedding_dimension: Annotated[
        int | None,
        typer.Option(
            help="Keep so many numbers of a vector, the first ones, of an embedder trained for "
            "that (Matryoshka). \\[default: all]",
            min=1,
        ),
    ] = None

    def settings(self) -> dict[str, Any]:
        """As `EmbedderSection` names them."""
        return {
            "prompt": self.embedder_prompt,
            "query_prompt": self.embedder_query_prompt,
            "pooling": self.embedder_pooling,
            "dimension": self.embedding_dimension,
        }
