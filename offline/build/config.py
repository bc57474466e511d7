"""What a build is told: a preset, the one dial, and what differs from it."""

from pathlib import Path
from typing import Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails

from offline.codes.code import CodeKind
from offline.generator.config import TrainConfig
from runtime.manifest import IndexKind, Precision


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class EmbedderSection(_Section):
    """The item text embedder."""

    model: str = "all-MiniLM-L6-v2"
    """A sentence-transformers or Hugging Face model, by hub name or local path."""
    prompt: str | None = None
    """Put before every text; by default the model's own."""


class CodesSection(_Section):
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


class QueryEncoderSection(_Section):
    """The sequence encoder behind the shortlist."""

    epochs: int = Field(default=15, gt=0)


class IndexConfig(_Section):
    """The indexes of the item vectors."""

    kind: Literal["auto"] | IndexKind = "auto"
    """`auto` goes by the size of the catalog."""


class GeneratorConfig(_Section):
    """The P5 model."""

    preset: Literal["tiny", "mini", "small"] = "tiny"
    checkpoint: str | None = None
    """A T5 to start from, by hub name or local path, instead of a preset."""
    prompts: Path | None = None
    """A prompt file; by default Tandem's own."""
    max_history: int = Field(default=20, gt=0)
    max_input_tokens: int = Field(default=128, gt=0)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    history_dropout: float = Field(default=0.1, ge=0, lt=1)
    targets: int = Field(default=8, gt=0)
    direct_share: float = Field(default=0.05, ge=0, lt=1)
    beams: int = Field(default=20, gt=0, le=100)
    precisions: tuple[Precision, ...] = ("fp32", "int8")
    """Those that the bundle is to hold."""
    train: TrainConfig = TrainConfig()

    @field_validator("precisions")
    @classmethod
    def _fp32_is_held(cls, precisions: tuple[Precision, ...]) -> tuple[Precision, ...]:
        """What every other precision is compared with, in a fixed order."""
        return ("fp32", *(p for p in ("int8", "fp16") if p in precisions))


class BuildConfig(_Section):
    """Everything that a bundle depends on beside its data."""

    seed: int = 0
    embedder: EmbedderSection = EmbedderSection()
    codes: CodesSection = CodesSection()
    query_encoder: QueryEncoderSection = QueryEncoderSection()
    index: IndexConfig = IndexConfig()
    generator: GeneratorConfig = GeneratorConfig()
    shortlist: int = Field(default=100, gt=0, le=1000)
    """Items that the generator reranks."""
    parity_users: int = Field(default=200, gt=0)
    """Users whose lists are compared with those of transformers at export."""


PRESETS: Final[dict[str, dict[str, Any]]] = {
    # Minutes on two CPU cores: two-token codes keep the prompts short.
    "demo": {
        "codes": {"levels": 2},
        "generator": {"preset": "tiny", "train": {"epochs": 5}},
    },
    # An hour on a CPU, minutes on a GPU.
    "base": {
        "codes": {"levels": 3},
        "query_encoder": {"epochs": 40},
        "generator": {"preset": "mini", "dropout": 0.1, "train": {"epochs": 40}},
    },
    # T5-small's shape, for a GPU.
    "small": {
        "codes": {"levels": 3},
        "query_encoder": {"epochs": 40},
        "generator": {
            "preset": "small",
            "dropout": 0.1,
            "precisions": ("fp32", "int8", "fp16"),
            "train": {"epochs": 60, "learning_rate": 1e-3},
        },
    },
}


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
    try:
        return BuildConfig.model_validate(_merge(PRESETS[preset], overrides))
    except ValidationError as error:
        raise ConfigError("; ".join(map(_explain, error.errors()))) from error


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
