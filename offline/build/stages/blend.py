"""The stage `blend`: the weights of the scores and the default strategy, chosen on validation."""

from pathlib import Path
from typing import Final

from offline.build.config import Settings
from offline.build.files import write_json
from offline.build.stage import Earlier, Stage


class BlendSettings(Settings):
    """What is blended."""

    shortlist: int


def _make(settings: BlendSettings, earlier: Earlier, out: Path) -> None:
    from rich.progress import Progress

    from offline.blend import choose
    from offline.build.drafts import open_draft
    from services.generator.decoding.engine import GeneratorEngine

    bundle = open_draft(earlier["export"])
    with Progress() as progress:
        blend = choose(bundle, GeneratorEngine.load(bundle), settings.shortlist, progress)
        for sentence in blend.sentences:
            progress.console.print(sentence, highlight=False, soft_wrap=True)
    write_json(out / "blend.json", blend.to_json())


BLEND: Final = Stage(
    "blend",
    settings=lambda request: BlendSettings(shortlist=request.config.shortlist),
    make=_make,
    needs=("export",),
)
