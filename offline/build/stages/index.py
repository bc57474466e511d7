"""The stage `index`: an index for each space of item vectors, compared with exact search."""

from pathlib import Path
from typing import Final, Literal

from core.manifest import IndexKind
from offline.build.config import Settings
from offline.build.stage import BuildRequest, Earlier, Stage


class IndexSettings(Settings):
    """What is built."""

    kind: Literal["auto"] | IndexKind
    seed: int


def _settings(request: BuildRequest) -> IndexSettings:
    return IndexSettings(kind=request.config.index.kind, seed=request.config.seed)


def _make(settings: IndexSettings, earlier: Earlier, out: Path) -> None:
    from offline.build.indexes import build_indexes

    build_indexes(
        earlier["dataset"],
        earlier["embeddings"],
        earlier["query-encoder"],
        kind=settings.kind,
        seed=settings.seed,
        out=out,
    )


INDEX: Final = Stage(
    "index",
    settings=_settings,
    make=_make,
    needs=("dataset", "embeddings", "query-encoder"),
)
