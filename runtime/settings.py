"""Settings that every process has, from flags and from the environment, checked at start."""

from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class ServerSettings(BaseSettings):
    """What each of the three servers can be told.

    A flag wins over the environment variable `TANDEM_<NAME>`, which wins over the default.
    """

    model_config = SettingsConfigDict(env_prefix="TANDEM_", frozen=True, extra="ignore")

    bundle: Path = Field(description="Directory of the bundle version to serve.")
    host: str = Field(default="127.0.0.1", description="Address to listen on.")
    port: int = Field(default=0, ge=0, le=65535, description="Port to listen on; 0 picks one.")
    threads: int = Field(default=0, ge=0, description="Compute threads; 0 means one per core.")
    max_concurrent_rpcs: int = Field(
        default=256, gt=0, description="Calls in flight above which new ones are shed."
    )
    max_message_bytes: int = Field(
        default=8 * 2**20, ge=2**10, description="Largest message that is accepted."
    )
    drain_seconds: float = Field(
        default=10.0, ge=0, description="How long SIGTERM waits for calls in flight."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Least severe log line that is written."
    )
    log_json: bool = Field(default=True, description="Log JSON lines rather than text.")
