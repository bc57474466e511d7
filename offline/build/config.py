"""What a build is told: a preset, the one dial, and what differs from it."""

import math
from pathlib import Path
from typing import Any, Final, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails

from core.manifest import IndexKind, Precision
from offline.codes.code import CodeKind
from offline.generator.config import (
    Backbone,
    FamilyShares,
    ItemTrainConfig,
    LoraSection,
    TextTrainConfig,
    TokenTrainConfig,
)
from offline.query_encoder.config import QueryEncoderConfig
from offline.training.config import TrainingConfig

Section = TypeVar("Section", bound=BaseModel)


class Settings(BaseModel):
    """Something that a build is told."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def facts(self) -> dict[str, Any]:
        """As JSON."""
        return self.model_dump(mode="json")


class WarmStart(Settings):
    """A bundle whose parameters training starts from."""

    bundle: Path = Field(exclude=True)
    """Where it lies, which decides nothing."""
    version: str
    files: str
    """The digest of what the manifest says of its files."""
    gguf: bool = Field(default=False, exclude=True)
    """Whether its generator started from a GGUF file: then the stage `pretrained` is read."""


class WarmSettings(Settings):
    """What a stage is told that may start from a bundle."""

    warm: bool = Field(default=False, exclude=True)
    """Whether it does: then it reads the stage `warm`, which is what names it."""

    @property
    def warm_needs(self) -> tuple[str, ...]:
        """The stage that it needs for that."""
        return ("warm",) if self.warm else ()


class EmbedderSection(Settings):
    """The item text embedder."""

    model: str = "all-MiniLM-L6-v2"
    """A sentence-transformers or Hugging Face model, by hub name or local path."""
    prompt: str | None = None
    """Put before every item text; by default the model's own, or its family's."""
    query_prompt: str | None = None
    """Put before what is searched for; the same."""
    pooling: Literal["mean", "cls", "lasttoken"] | None = None
    """How token states become a vector; by default as the model's files say."""
    dimension: int | None = Field(default=None, gt=0)
    """So many numbers of a vector are kept, the first ones; all by default."""


class CodesSection(Settings):
    """The item codes."""

    kind: CodeKind = "collaborative"
    levels: int = Field(default=3, ge=1, le=8)
    style: Literal["tokens", "text"] = "tokens"
    """`tokens`: one new token a level (`<a_12><b_3>`); `text`: `item_1081` in the pieces of a
    pretrained tokenizer, as OpenP5 has it (random and sequential codes only)."""

    @model_validator(mode="after")
    def _text_is_a_number(self) -> Self:
        if self.style == "text" and self.kind not in ("random", "sequential"):
            raise ValueError(
                f"{self.kind} codes say something level by level, and text writes one number: "
                "use --code-style tokens, or --codes random or sequential"
            )
        return self


class IndexConfig(Settings):
    """The indexes of the item vectors."""

    kind: Literal["auto"] | IndexKind = "auto"
    """`auto` goes by the size of the catalog."""


class GeneratorModelConfig(Settings):
    """The P5 model, as far as its training depends on it."""

    preset: Literal["tiny", "mini", "small"] = "tiny"
    backbone: Backbone = "t5"
    """Of a preset; a checkpoint has its own."""
    checkpoint: str | None = None
    """A model to start from, by hub name or local path, instead of a preset: a T5, or a decoder
    that is built as LLaMA or Qwen2 are, also as a GGUF file."""
    lora: LoraSection | None = None
    """How a checkpoint is adapted; None trains all of it."""
    max_history: int = Field(default=100, gt=0)
    """Newest items that are read."""
    max_input_tokens: int = Field(default=128, gt=0)
    """Tokens of a prompt, or of its words where the model reads whole items."""
    dropout: float = Field(default=0.3, ge=0, lt=1)
    history_dropout: float = Field(default=0.0, ge=0, lt=1)
    """Probability of leaving an item of a history out in training; never the newest."""
    families: FamilyShares = FamilyShares()
    """How much of the training each family is beside going on from a history."""
    user_tokens: int = Field(default=20_000, ge=0)
    """Tokens that stand for users, at most; where there are more users, some share one."""
    items: ItemTrainConfig = ItemTrainConfig()
    """How a model that reads whole items is trained."""
    tokens: TokenTrainConfig = TokenTrainConfig()
    """How a model that reads tokens is trained."""
    texts: TextTrainConfig = TextTrainConfig()
    """How a model learns to write text, if a family asks for that."""

    @model_validator(mode="after")
    def _lora_adapts_a_checkpoint(self) -> Self:
        if self.lora is not None and self.checkpoint is None:
            raise ValueError(
                "LoRA adapts what is trained already: name a model with --checkpoint, or train "
                "one from scratch without --lora"
            )
        return self


class GeneratorConfig(GeneratorModelConfig):
    """The P5 model, how it is asked, and how it is served."""

    inputs: Literal["auto", "items", "tokens"] = "auto"
    """How a history is read: one position an item, or as the tokens of the items' codes. `auto` is
    tokens for a checkpoint and for codes written as text, which it has read before, and for a
    decoder alone; items otherwise."""
    prompts: Path | None = None
    """A prompt file; by default Tandem's own."""
    beams: int = Field(default=20, gt=0, le=100)
    precisions: tuple[Precision, ...] = ("fp32", "int8")
    """Those that the bundle is to hold."""

    @field_validator("precisions")
    @classmethod
    def _fp32_is_held(cls, precisions: tuple[Precision, ...]) -> tuple[Precision, ...]:
        """What every other precision is compared with, in a fixed order."""
        return ("fp32", *(p for p in ("int8", "fp16") if p in precisions))


class BuildConfig(Settings):
    """Everything that a bundle depends on beside its data."""

    seed: int = 0
    embedder: EmbedderSection = EmbedderSection()
    codes: CodesSection = CodesSection()
    query_encoder: QueryEncoderConfig = QueryEncoderConfig()
    index: IndexConfig = IndexConfig()
    generator: GeneratorConfig = GeneratorConfig()
    shortlist: int = Field(default=100, gt=0, le=1000)
    """Items that the generator reranks."""
    parity_users: int = Field(default=200, gt=0)
    """Users whose lists are compared with those of the model itself at export."""

    @property
    def reads_items(self) -> bool:
        """Whether the generator reads one position an item; see `GeneratorConfig.inputs`."""
        if self.generator.inputs != "auto":
            return self.generator.inputs == "items"
        section = self.generator
        return (
            section.checkpoint is None and section.backbone == "t5" and self.codes.style == "tokens"
        )

    @model_validator(mode="after")
    def _items_are_read_from_scratch(self) -> Self:
        if self.reads_items and (self.generator.checkpoint or self.codes.style == "text"):
            raise ValueError(
                "a checkpoint, and codes written as text, are read token by token: "
                "use --inputs tokens"
            )
        if self.reads_items and self.generator.backbone != "t5":
            raise ValueError("a decoder alone reads token by token: use --inputs tokens")
        return self


PRESETS: Final[dict[str, dict[str, Any]]] = {
    # Minutes on two CPU cores.
    "demo": {
        "codes": {"levels": 2},
        "query_encoder": {"train": {"epochs": 5, "evaluate_every": 5}},
        "generator": {"items": {"loop": {"epochs": 8, "evaluate_every": 4}}},
    },
    # An hour on a CPU, minutes on a GPU.
    "base": {
        "codes": {"levels": 2},
        "query_encoder": {"train": {"epochs": 40}},
        "generator": {
            "preset": "mini",
            "items": {"loop": {"epochs": 40, "learning_rate": 1e-3}},
            "tokens": {"loop": {"epochs": 40}},
        },
    },
    # T5-small's shape, for a GPU.
    "small": {
        "codes": {"levels": 3},
        "query_encoder": {"train": {"epochs": 40}},
        "generator": {
            "preset": "small",
            "precisions": ("fp32", "int8", "fp16"),
            "items": {"loop": {"epochs": 60, "learning_rate": 5e-4}},
            "tokens": {"loop": {"epochs": 60, "learning_rate": 1e-3}},
        },
    },
}


LORA: Final[dict[str, Any]] = {
    "generator": {
        "max_input_tokens": 24,
        "families": {"direct": 0.0},
        "tokens": {
            "batch_size": 4,
            "targets": 24,
            "prompts": 400,
            "loop": {"epochs": 10, "learning_rate": 4e-3, "warmup_steps": 20},
        },
    }
}
"""What differs from every preset where a checkpoint is adapted. A pretrained model is large: so
prompts are short, many targets share one, and an epoch has few, whatever the data."""


class ConfigError(ValueError):
    """Settings of a build that are impossible or do not go together."""


def configure(preset: str, overrides: dict[str, Any]) -> BuildConfig:
    """A preset with some settings changed.

    Args:
        preset: a name in `PRESETS`.
        overrides: nested like `BuildConfig`; what is None is left as the preset has it.

    Raises:
        ConfigError: the settings do not go together.
    """
    adapts = overrides.get("generator", {}).get("lora") is not None
    base = _merge(PRESETS[preset], LORA) if adapts else PRESETS[preset]
    try:
        return BuildConfig.model_validate(_merge(base, overrides))
    except ValidationError as error:
        raise ConfigError("; ".join(map(_explain, error.errors()))) from error


WARM_SHARE: Final = 0.25
"""The share of a preset's epochs, and of its warm-up, that a training takes which goes on from
another one. Its learning rate is the same: a smaller one learns too little of what is new."""


def shortened(config: BuildConfig, *, query: bool, generator: bool) -> BuildConfig:
    """The configuration of a build that goes on from a bundle.

    Args:
        config: that of a build from nothing.
        query: whether the query encoder takes fewer epochs too, and not as many as are asked for.
        generator: whether the generator does.
    """
    encoder, model = config.query_encoder, config.generator
    return config.model_copy(
        update={
            "query_encoder": _fewer(encoder, "train", by_share=query),
            "generator": model.model_copy(
                update={
                    "items": _fewer(model.items, "loop", by_share=generator),
                    "tokens": _fewer(model.tokens, "loop", by_share=generator),
                }
            ),
        }
    )


def _fewer(section: Section, name: str, *, by_share: bool) -> Section:
    loop: TrainingConfig = getattr(section, name)
    epochs = math.ceil(loop.epochs * WARM_SHARE) if by_share else loop.epochs
    changes = {"epochs": epochs, "warmup_steps": math.ceil(loop.warmup_steps * WARM_SHARE)}
    return section.model_copy(update={name: loop.model_copy(update=changes)})


def _explain(problem: ErrorDetails) -> str:
    """Our own rules speak for themselves; pydantic's need the name of the setting."""
    if problem["type"] == "value_error":
        return problem["msg"].removeprefix("Value error, ")
    name = ".".join(str(part) for part in problem["loc"])
    return f"{name}: {problem['msg'].lower()}, got {problem['input']!r}"


def _merge(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in changes.items():
        if isinstance(value, dict):
            merged[key] = _merge(merged.get(key, {}), value)
        elif value is not None:
            merged[key] = value
    return merged
