"""Settings of the candidate service."""

from pathlib import Path

from pydantic import Field

from serving.settings import ServerSettings


class CandidateSettings(ServerSettings):
    """What the candidate service can be told."""

    table = "candidate"

    port: int = Field(default=50051, ge=0, le=65535, description="Port to listen on; 0 picks one.")
    store: Path | None = Field(
        default=None,
        description="File to keep changes of the catalog in; without one it is read-only.",
    )
    rebase_store: bool = Field(
        default=False,
        description="Carry a store over that belongs to another version of the bundle.",
    )
    index_uri: str | None = Field(
        default=None,
        description="Milvus to search in instead of the bundle's indexes: milvus://host:port, "
        "https://…, or a path for Milvus Lite in the process.",
    )
