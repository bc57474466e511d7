"""The options that say how models are trained."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import typer

from offline.build.config import BuildConfig, configure, shortened
from offline.codes.code import CodeKind as CodeKind

Overrides = dict[str, Any]
"""Nested like `BuildConfig`; what is None is left as the preset has it."""


@dataclass(frozen=True)
class TrainingOptions:
    """What differs from a preset."""

    preset: Annotated[
        Literal["demo", "base", "small"],
        typer.Option(
            help="How large a model, and how long it is trained: demo is minutes on a CPU, base an "
            "hour, small a T5-small on a GPU."
        ),
    ] = "demo"
    levels: Annotated[int | None, typer.Option(help="Tokens of a code.", min=1, max=8)] = None
    embedder: Annotated[
        str | None,
        typer.Option(
            help="Embeds item texts: any sentence-transformers or Hugging Face model, by hub name "
            "or path, or a directory of model.onnx and tokenizer.json; multilingual-e5-small for "
            "Japanese. \\[default: all-MiniLM-L6-v2]"
        ),
    ] = None
    epochs: Annotated[int | None, typer.Option(help="Epochs of the generator.", min=1)] = None
    query_epochs: Annotated[
        int | None, typer.Option(help="Epochs of the query encoder.", min=1)
    ] = None

    def shortened(self, config: BuildConfig) -> BuildConfig:
        """The configuration of a training that goes on from another one; see `shortened`."""
        return shortened(config, generator=self.epochs is None, query=self.query_epochs is None)

    def config(
        self,
        *,
        seed: int = 0,
        codes: CodeKind | None = None,
        code_style: str | None = None,
        embedder: Overrides | None = None,
        index: str | None = None,
        **generator: Any,
    ) -> BuildConfig:
        """The configuration.

        Args:
            seed: decides everything that is random.
            codes: how items get their codes.
            code_style: new tokens, or text.
            embedder: other settings of the embedder, as `EmbedderSection` names them.
            index: how item vectors are searched.
            **generator: other settings of the generator, as `GeneratorConfig` names them.
        """
        loop = {"loop": {"epochs": self.epochs}}
        return configure(
            self.preset,
            {
                "seed": seed,
                "embedder": {"model": self.embedder, **(embedder or {})},
                "codes": {"kind": codes, "levels": self.levels, "style": code_style},
                "query_encoder": {"train": {"epochs": self.query_epochs}},
                "index": {"kind": index},
                "generator": {"items": loop, "tokens": loop, **generator},
            },
        )
