"""The stage `export`: a draft of the bundle, whole but for its weights and metrics, whose graphs
are compared with the model before they are accepted; int8 with fp32."""

from pathlib import Path
from typing import Final

from core.manifest import Precision
from offline.build.config import Settings
from offline.build.stage import BuildRequest, Earlier, Stage


class ExportSettings(Settings):
    """What is exported, and compared."""

    name: str
    """Of the bundle."""
    reads_items: bool
    """Whether the generator reads a history as one position an item."""
    max_history: int
    max_input_tokens: int
    beams: int
    precisions: tuple[Precision, ...]
    shortlist: int
    parity_users: int
    seed: int


def _settings(request: BuildRequest) -> ExportSettings:
    config, section = request.config, request.config.generator
    return ExportSettings(
        name=request.name,
        reads_items=config.reads_items,
        max_history=section.max_history,
        max_input_tokens=section.max_input_tokens,
        beams=section.beams,
        precisions=section.precisions,
        shortlist=config.shortlist,
        parity_users=config.parity_users,
        seed=config.seed,
    )


def _make(settings: ExportSettings, earlier: Earlier, out: Path) -> None:
    from offline.build.export import export

    export(settings, earlier, out)


EXPORT: Final = Stage(
    "export",
    settings=_settings,
    make=_make,
    needs=(
        "dataset",
        "embeddings",
        "query-encoder",
        "codes",
        "index",
        "transitions",
        "generator",
    ),
)
