"""The stage `generator`: the P5 model, its tokenizer, and the codes in its tokens."""

from pathlib import Path
from typing import Final

from pydantic import Field

from offline.build.config import BuildConfig, GeneratorModelConfig, WarmSettings
from offline.build.stage import Earlier, Stage

PROMPTS: Final = Path(__file__).parents[2] / "generator" / "prompts.txt"
"""Tandem's own prompts."""


class GeneratorSettings(WarmSettings):
    """How the model is trained."""

    gguf: bool = Field(default=False, exclude=True)
    """Whether its checkpoint is a GGUF file: then the stage `pretrained` is read."""

    model: GeneratorModelConfig
    reads_items: bool
    """Whether a history is read as one position an item, or as the tokens of the items' codes."""
    prompts: str
    """The text of the prompt file."""
    seed: int

    @classmethod
    def of(
        cls, config: BuildConfig, *, warm: bool = False, gguf: bool = False
    ) -> "GeneratorSettings":
        """Those of a build, which may start from a bundle, or from a GGUF file."""
        return cls(
            model=config.generator,
            reads_items=config.reads_items,
            prompts=(config.generator.prompts or PROMPTS).read_text(encoding="utf-8"),
            seed=config.seed,
            warm=warm,
            gguf=gguf,
        )


def _make(settings: GeneratorSettings, earlier: Earlier, out: Path) -> None:
    from offline.build.generator.train import train_generator

    train_generator(settings, earlier, out)


GENERATOR: Final = Stage(
    "generator",
    settings=lambda request: GeneratorSettings.of(
        request.config, warm=request.warm is not None, gguf=request.gguf is not None
    ),
    make=_make,
    needs=lambda settings: (
        *("dataset", "embeddings", "query-encoder", "codes"),
        *settings.warm_needs,
        *(("pretrained",) if settings.gguf else ()),
    ),
    together=True,
)
