"""Settings that every process has, from flags and from the environment, checked at start."""

import os
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import Field, ValidationError, field_validator
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, SettingsConfigDict

from core.errors import SettingsError

ENVIRONMENT_PREFIX = "TANDEM_"

S = TypeVar("S", bound=BaseSettings)


class ServerSettings(BaseSettings):
    """What each of the three servers can be told.

    A flag wins over the environment variable `TANDEM_<NAME>`, which wins over the default.
    """

    model_config = SettingsConfigDict(env_prefix=ENVIRONMENT_PREFIX, frozen=True, extra="ignore")

    bundle: Path = Field(description="Directory of the bundle version to serve.")
    host: str = Field(default="127.0.0.1", description="Address to listen on.")
    port: int = Field(default=0, ge=0, le=65535, description="Port to listen on; 0 picks one.")
    port_file: Path | None = Field(
        default=None, description="File to write the port to once it is bound, for a supervisor."
    )
    threads: int = Field(default=0, ge=0, description="Compute threads; 0 means one per core.")
    max_concurrent_rpcs: int = Field(
        default=256, gt=0, description="Calls in flight above which new ones are shed."
    )
    max_connection_calls: int = Field(
        default=256, gt=0, description="Calls on one connection above which gRPC refuses others."
    )
    max_message_bytes: int = Field(
        default=8 * 2**20, ge=2**10, description="Largest message that is accepted."
    )
    drain_seconds: float = Field(
        default=10.0, ge=0, description="How long SIGTERM waits for calls in flight."
    )
    stop_on_eof: bool = Field(
        default=False,
        description="Stop when standard input ends: it does when a supervisor is killed.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Least severe log line that is written."
    )
    log_json: bool | None = Field(
        default=None,
        description="Log JSON lines rather than text; by default, text only on a terminal.",
    )

    @field_validator("bundle")
    @classmethod
    def _bundle_exists(cls, path: Path) -> Path:
        if not (path / "manifest.json").is_file():
            raise ValueError(f"{path} is not a bundle; make one with `tandem build`")
        return path

    @property
    def compute_threads(self) -> int:
        """`threads`, with 0 replaced by the cores that this process may use."""
        return self.threads or len(os.sched_getaffinity(0))


def load_settings(kind: type[S], **flags: object) -> S:
    """Makes settings of flags (those that are not None), the environment and the defaults.

    Raises:
        SettingsError: a value is missing or impossible; the message names its flag and variable.
    """
    try:
        return kind(**{name: value for name, value in flags.items() if value is not None})  # type: ignore[arg-type]
    except ValidationError as error:
        raise SettingsError("; ".join(_explain(problem) for problem in error.errors())) from error


def _explain(problem: ErrorDetails) -> str:
    name = str(problem["loc"][0]) if problem["loc"] else "settings"
    where = f"--{name.replace('_', '-')} (or {ENVIRONMENT_PREFIX}{name.upper()})"
    if problem["type"] == "missing":
        return f"{where} is required"
    what = problem["msg"].removeprefix("Value error, ")
    return f"{where}: {what[0].lower() + what[1:]}, got {problem['input']!r}"
