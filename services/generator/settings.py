"""Settings of the generator service."""

from typing import Literal

from pydantic import Field

from serving.settings import CallingSettings


class GeneratorSettings(CallingSettings):
    """What the generator service can be told."""

    table = "generator"

    port: int = Field(default=50052, ge=0, le=65535, description="Port to listen on; 0 picks one.")
    catalog: str | None = Field(
        default=None,
        min_length=1,
        description="Address of the candidate service whose changes of the catalog are followed; "
        "without it the catalog stays the bundle's.",
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        default="auto", description="Where the model runs; auto takes a GPU when there is one."
    )
    precision: Literal["auto", "fp32", "int8", "fp16"] = Field(
        default="auto",
        description="Of the model; auto takes the fastest in the bundle that suits the device.",
    )
    spin: bool = Field(
        default=False,
        description="Let compute threads that wait for each other spin instead of sleeping.",
    )
    max_batch: int = Field(
        default=8, gt=0, description="Calls that share one run of the model, at most."
    )
    max_queue: int = Field(
        default=128, gt=0, description="Calls waiting for the model above which new ones are shed."
    )
    max_queue_ms: float = Field(
        default=1000.0, gt=0, description="Milliseconds after which a waiting call is shed."
    )
    max_texts: int = Field(
        default=8, gt=0, description="Texts that are written at a time, a token each in turn."
    )
    max_text_queue: int = Field(
        default=32, gt=0, description="Texts waiting to be written above which new ones are shed."
    )
    max_text_queue_ms: float = Field(
        default=5000.0, gt=0, description="Milliseconds after which a waiting text is shed."
    )
