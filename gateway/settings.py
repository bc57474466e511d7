"""What the gateway can be told, beside what every server can."""

from pydantic import Field

from gateway.domain import Strategy
from runtime.settings import ServerSettings


class GatewaySettings(ServerSettings):
    """Settings of the gateway."""

    port: int = Field(default=50050, ge=0, le=65535, description="Port to listen on; 0 picks one.")
    candidate_target: str = Field(
        default="127.0.0.1:50051", min_length=1, description="Address of the candidate service."
    )
    generator_target: str = Field(
        default="127.0.0.1:50052", min_length=1, description="Address of the generator service."
    )
    strategy: Strategy = Field(
        default=Strategy.RERANK, description="How to recommend when the caller does not say."
    )
    default_timeout: float = Field(
        default=2.0, gt=0, description="Seconds for a call whose caller sets no deadline."
    )
    max_timeout: float = Field(
        default=30.0, gt=0, description="Seconds that no call may exceed, whatever its deadline."
    )
    warm_up_seconds: float = Field(
        default=5.0, ge=0, description="How long to wait for the services before serving anyway."
    )
    max_in_flight: int = Field(
        default=32, gt=0, description="Calls that are worked on at a time; the others wait."
    )
    max_wait_ms: float = Field(
        default=100.0,
        ge=0,
        description="How long a call may have to wait for its turn; it is refused if longer.",
    )
    batch_window: int = Field(
        default=64, gt=0, description="Requests of one stream that are in hand at a time, at most."
    )
