"""Settings of the generator service."""

from typing import Literal

from pydantic import Field

from runtime.settings import ServerSettings


class GeneratorSettings(ServerSettings):
    """What the generator service can be told."""

    port: int = Field(default=50052, ge=0, le=65535, description="Port to listen on; 0 picks one.")
    device: Literal["auto", "cpu", "cuda"] = Field(
        default="auto", description="Where the model runs; auto takes a GPU when there is one."
    )
