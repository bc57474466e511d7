"""What users wrote about items: kept beside the interactions, cleaned and of bounded length.

A `Dataset` has them when it is read from logs; on disk they are a Parquet file of their own, which
only those read who need it.
"""

from __future__ import annotations

import html
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import polars as pl

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["LONGEST", "Reviews", "clean"]

LONGEST: Final = 2000
"""Characters of a text that are kept; 2 in 100 reviews of Amazon's are longer."""
FILE: Final = "reviews.parquet"

_TAG: Final = re.compile(r"<[^<>]{0,200}>")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\ufeff]")
_RUN_ON: Final = re.compile(r"([a-z)\]][.!?]+)(?=[A-Z])")


def clean(text: str | None, longest: int = LONGEST) -> str:
    """One line of plain text, cut behind a word.

    Entities and tags of HTML are undone, and a space is put between sentences that were written
    without one, as line breaks that got lost leave them.

    >>> clean("It's <b>loud</b>.I like it &amp; <br/> more")
    "It's loud. I like it & more"
    """
    if not text:
        return ""
    plain = _CONTROL.sub(" ", _TAG.sub(" ", html.unescape(text)))
    plain = " ".join(_RUN_ON.sub(r"\1 ", plain).split()).replace(" .", ".")
    if len(plain) <= longest:
        return plain
    cut = plain[: longest + 1]
    return (cut[: cut.rfind(" ")] if " " in cut else plain[:longest]).rstrip()


@dataclass(frozen=True)
class Reviews:
    """The texts of a dataset's interactions, in its order; empty where there is none.

    Attributes:
        texts: `[interactions]` what users wrote.
        summaries: `[interactions]` how they put it in a line.
    """

    texts: tuple[str, ...]
    summaries: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.texts) != len(self.summaries):
            raise ValueError(f"{len(self.texts)} texts with {len(self.summaries)} summaries")

    def save(self, directory: Path) -> None:
        """Write a Parquet file into `directory`."""
        columns = {"review": self.texts, "summary": self.summaries}
        pl.DataFrame(columns, schema=dict.fromkeys(columns, pl.String)).write_parquet(
            directory / FILE
        )

    @classmethod
    def load(cls, directory: Path) -> Reviews | None:
        """Read what `save` wrote; None where the data have no reviews."""
        path = directory / FILE
        if not path.exists():
            return None
        frame = pl.read_parquet(path)
        return cls(tuple(frame["review"].to_list()), tuple(frame["summary"].to_list()))
