"""The stage `dataset`: users, items and interactions, in one shape."""

from pathlib import Path
from typing import Final

from offline.build.source import Source
from offline.build.stage import Earlier, Stage


def _make(source: Source, _: Earlier, out: Path) -> None:
    source.load().save(out)


DATASET: Final = Stage("dataset", settings=lambda request: request.source, make=_make)
