"""`manifest.json`: what a bundle holds, how it was made, and what it reached."""

from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
)

SCHEMA_VERSION = 3
PATH_COMPONENT = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"
"""Names and versions become directories."""


Precision = Literal["fp32", "int8", "fp16"]
"""The precision of a generator's products; all else is computed in float32."""

StrategyName = Literal["rerank", "generate", "fuse", "embedding"]
"""How recommendations are made."""

IndexKind = Literal["flat", "hnsw", "ivfpq"]
"""How the vectors of a space are searched: all of them, a graph, or cells of quantized vectors."""


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class FileEntry(_Section):
    """One file of the bundle."""

    sha256: str
    bytes: int


class IndexSection(_Section):
    """The index of one space of item vectors."""

    kind: IndexKind = "flat"
    recall_at_100: float | None = Field(default=None, ge=0, le=1)
    """Of the 100 nearest by exact search, the share that is found, over `queries` real queries;
    none where the search is exact itself."""
    queries: int = Field(default=0, ge=0)


class CandidateSection(_Section):
    """What the candidate service needs to know beside its files."""

    max_history: int = Field(gt=0)
    """Items that the query encoder reads; older ones are dropped."""
    transition_window: int = Field(gt=0)
    """Newest items of a history whose transitions count."""
    transition_decay: float = Field(gt=0, le=1)
    """Weight of a history item, per step that it lies back."""
    behavior_weight: float = Field(ge=0)
    """Weight of the query encoder's log-probability in the retrieval score."""
    transition_weight: float = Field(ge=0)
    """Weight of the log transition probability in the retrieval score."""
    content_weight: float = Field(default=0.0, ge=0)
    """Weight of the cosine between an item's text and those of the newest items of a history."""
    popularity_weight: float = Field(default=0.0, ge=0)
    """Weight of the logarithm of an item's popularity in the retrieval score."""
    text_precision: Literal["fp32", "int8"] = "fp32"
    """The precision of the text encoder's products."""
    text_prefix: str = ""
    """What the text encoder was trained to see before an item's text."""
    query_prefix: str | None = None
    """The same before a text that items are searched for by; None, and not in the file, where it
    is no other."""
    max_text_tokens: int = Field(default=256, gt=0)
    content_index: IndexSection = IndexSection()
    behavior_index: IndexSection = IndexSection()

    @model_serializer(mode="wrap")
    def _without_what_is_absent(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        values: dict[str, Any] = serialize(self)
        if self.query_prefix is None:
            values.pop("query_prefix", None)
        return values


class TextSection(_Section):
    """What is known of a generator that writes text."""

    max_tokens: int = Field(gt=0)
    """That a text has at most, the end token included."""
    start_token: int | None
    """What the decoder reads first; None where it goes on from the last token of the prompt."""
    end_token: int
    """What ends a text."""


class GeneratorSection(_Section):
    """What the generator service needs to know beside its files."""

    inputs: Literal["tokens", "items"] = "tokens"
    """How the model reads a history: as the tokens of the items' codes, or one position an item."""
    user_tokens: int = Field(default=0, ge=0)
    """Tokens that stand for users in prompts; with fewer than there are users, some share one."""
    code_length: int = Field(gt=0, le=16)
    max_input_tokens: int = Field(gt=0)
    max_history: int = Field(gt=0)
    """Items that a prompt shows; older ones are dropped."""
    beams: int = Field(gt=0)
    """Beams of the search when no more results are asked for."""
    pad_token: int
    eos_token: int
    vocabulary: int = Field(gt=0)
    precisions: tuple[Precision, ...] = ("fp32",)
    """Those in which the bundle holds the model."""
    text: TextSection | None = None
    """None, and not in the file, where the model was not taught to write text."""
    ratings: tuple[float, ...] = ()
    """What a rating may be, ascending; none, and not in the file, where the model does not rate."""

    @model_serializer(mode="wrap")
    def _without_what_is_absent(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        values: dict[str, Any] = serialize(self)
        if self.text is None:
            values.pop("text", None)
        if not self.ratings:
            values.pop("ratings", None)
        return values


class BlendWeights(_Section):
    """Weights of the log-probabilities that add up to a final score, chosen on validation."""

    retrieval_weight: float = Field(ge=0)
    """Of the shortlist's score."""
    transition_weight: float = Field(ge=0, default=0.0)
    """Of the transitions alone, beside their part in the shortlist's score."""
    generator_weight: float = Field(ge=0)
    """Of the generator's score; at 0 the generator is not called."""


class BlendSection(BlendWeights):
    """How scores are blended; the weights are those of `rerank`."""

    shortlist: int = Field(gt=0)
    """Items that are shortlisted for reranking."""
    fuse: BlendWeights | None = None
    """Weights of `fuse`; in bundles that have none, those of `rerank`."""
    default_strategy: StrategyName = "rerank"
    """How to recommend when neither the caller nor the gateway's settings say."""


class Provenance(_Section):
    """How the bundle was made."""

    dataset: str
    seed: int
    config: dict[str, Any]
    git_revision: str
    created: str
    """UTC, ISO 8601."""
    libraries: dict[str, str]
    warm_from: str | None = None
    """The bundle that its training started from; None, and not in the file, where from nothing."""
    generated_text: float | None = Field(default=None, ge=0, le=1)
    """The share of items of whose text a language model wrote a part; None, and not in the file,
    where it wrote none."""

    @model_serializer(mode="wrap")
    def _without_what_is_absent(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        values: dict[str, Any] = serialize(self)
        for name in ("warm_from", "generated_text"):
            if values.get(name) is None:
                values.pop(name, None)
        return values


class StoreSection(_Section):
    """What the build took in of the live catalog."""

    id: str
    """Of the store that its items are from."""
    sequence: int = Field(ge=0)
    """Of the last change in the store when it was read."""


class Manifest(_Section):
    """The whole of `manifest.json`."""

    schema_version: int = SCHEMA_VERSION
    name: str = Field(pattern=PATH_COMPONENT)
    version: str = Field(pattern=PATH_COMPONENT)
    items: int
    users: int
    candidate: CandidateSection
    generator: GeneratorSection
    blend: BlendSection
    provenance: Provenance
    store: StoreSection | None = None
    """None, and not in the file, where the bundle was built without a store."""
    metrics: dict[str, Any] = Field(default_factory=dict)
    files: dict[str, FileEntry] = Field(default_factory=dict)

    @property
    def reasons(self) -> list[str]:
        """Why the build chose its weights and its default strategy, in sentences."""
        validation = self.metrics.get("validation", {})
        reasons = [source["reason"] for source in validation.get("sources", ())]
        if "default_strategy" in validation:
            reasons.append(f"default strategy {validation['default_strategy']}")
        return reasons

    @model_serializer(mode="wrap")
    def _without_what_is_absent(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """An older Tandem refuses what it does not know, so it is named only where it is there."""
        values: dict[str, Any] = serialize(self)
        if self.store is None:
            values.pop("store", None)
        return values
