"""Settings of the candidate service."""

from pydantic import Field

from runtime.settings import ServerSettings


class CandidateSettings(ServerSettings):
    """What the candidate service can be told."""

    port: int = Field(default=50051, ge=0, le=65535, description="Port to listen on; 0 picks one.")
