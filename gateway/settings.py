"""What the gateway can be told, beside what every server can."""

from pathlib import Path
from typing import Annotated, Final, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationInfo,
    field_validator,
)

from gateway.calls.caller import CallPolicy
from gateway.calls.targets import parse
from gateway.domain import Strategy
from gateway.history.event import INTERACTION, is_type, split_types
from serving.security.setup import link_of
from serving.settings import BundlePath, CallingSettings
from serving.validation import MAX_HISTORY

MAX_NAME: Final = 64
"""Characters of a bundle's name."""


def _addresses(value: str) -> str:
    parse(value)
    return value


Target = Annotated[str, AfterValidator(_addresses)]
"""The addresses of a service."""
BundleName = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9._-]+$", max_length=MAX_NAME, strict=True)
]


class NamedBundleSettings(BaseModel):
    """One of further bundles of a gateway, as its settings of the same names are of the first.

    Nothing of these is taken from the gateway's own; all that is not here is.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    bundle: BundlePath
    candidate_target: Target
    generator_target: Target
    serving_file: Path | None = None
    strategy: Strategy | None = None
    history: str | None = Field(default=None, min_length=1)
    history_key_file: Path | None = None
    history_deleted_users: Path | None = None


class GatewaySettings(CallingSettings):
    """Settings of the gateway."""

    table = "gateway"

    port: int = Field(default=50050, ge=0, le=65535, description="Port to listen on; 0 picks one.")
    candidate_target: Target = Field(
        default="127.0.0.1:50051",
        description="Addresses of candidate services, separated by commas; `dns:///NAME:PORT` "
        "stands for all the addresses of a name.",
    )
    generator_target: Target = Field(
        default="127.0.0.1:50052",
        description="Addresses of generator services, in the same way.",
    )
    serving_file: Path | None = Field(
        default=None,
        description="File of serving configurations and variants (docs/experiments.md); read again "
        "when it changes.",
    )
    strategy: Strategy | None = Field(
        default=None,
        description="How to recommend when the caller does not say; by default as the bundle says: "
        "the build chose on validation.",
    )
    history: str | None = Field(
        default=None,
        min_length=1,
        description="Where histories are kept: a file of SQLite such as `history.sqlite`; "
        "`redis://HOST:PORT`, for several gateways; or `bundle`, for those in the bundle and no "
        "others. By default `build/history/NAME.sqlite`, for a bundle of that name.",
    )
    history_max_events: int = Field(
        default=1_000, gt=0, le=MAX_HISTORY, description="Events kept of each user: the newest."
    )
    history_max_other_events: int = Field(
        default=1_000,
        gt=0,
        le=MAX_HISTORY,
        description="Events kept of each user beside those, which the models do not read: the "
        "newest.",
    )
    history_event_types: str = Field(
        default="click,purchase,rating",
        description="Types of events that the models read as the history, separated by commas; "
        "events without a type always are. What was recorded before stays as it was.",
    )
    history_days: float = Field(
        default=0.0, ge=0, description="Days that an event is kept; 0 means for ever."
    )
    history_max_queue: int = Field(
        default=10_000, gt=0, description="Events waiting for SQLite above which new ones are shed."
    )
    history_max_recent_bytes: int = Field(
        default=16 * 2**20,
        ge=0,
        description="Bytes of histories that are at hand in memory: those of the users who came "
        "last. About 90 are an item.",
    )
    history_key_file: Path | None = Field(
        default=None,
        description="File with a secret of at least 32 bytes, for the keyed hashes by which "
        "deleted users are remembered; made where it is missing. Required with Redis, and the same "
        "for all its gateways; `FILE.key` by default for a file of histories.",
    )
    history_deleted_users: Path | None = Field(
        default=None,
        description="File of SQLite in which a gateway with Redis remembers deleted users, so that "
        "they stay deleted whatever Redis loses; gateways of one machine may share it. By default "
        "`build/history/NAME.deleted.sqlite`.",
    )
    history_scrub_share: float = Field(
        default=0.2,
        gt=0,
        le=1,
        description="Share of the time, at most, that goes into leaving no bytes of deleted users "
        "in SQLite's files.",
    )
    history_timeout: float = Field(
        default=0.25, gt=0, description="Seconds that Redis may take for an operation."
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
    retry_ratio: float = Field(
        default=0.2,
        ge=0,
        le=1,
        description="Retries and hedges of services, at most this fraction of the calls.",
    )
    hedge_ratio: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Calls of services that take longer than 95% do are made once more, at most "
        "this fraction of them; 0 for none.",
    )
    max_connection_calls: int = Field(
        default=100, gt=0, description="Calls on one connection above which gRPC refuses others."
    )
    max_in_flight: int = Field(
        default=24, gt=0, description="Calls that are worked on at a time; the others wait."
    )
    max_wait_ms: float = Field(
        default=100.0,
        ge=0,
        description="How long a call may have to wait for its turn; it is refused if longer.",
    )
    max_diagnostics: int = Field(
        default=4,
        gt=0,
        description="Requests for diagnostics, which cost several times a plain one, that are "
        "worked on at a time; the others wait.",
    )
    batch_window: int = Field(
        default=64, gt=0, description="Requests of one stream that are in hand at a time, at most."
    )
    batch_window_bytes: int = Field(
        default=8 * 2**20,
        gt=0,
        description="Bytes of the requests of one stream in hand above which no more are read.",
    )

    bundles: dict[BundleName, NamedBundleSettings] = Field(
        default={},
        description="Further bundles, by the names that calls give them: tables of the file.",
    )

    @field_validator("bundles")
    @classmethod
    def _histories_are_named(
        cls, bundles: dict[str, NamedBundleSettings], info: ValidationInfo
    ) -> dict[str, NamedBundleSettings]:
        # The default lies beside that of the first; who has put that elsewhere means this too.
        missing = [name for name, own in bundles.items() if own.history is None]
        if missing and info.data.get("history") is not None:
            raise ValueError(f"{missing[0]}: say where its histories are (history)")
        return bundles

    @field_validator("history_event_types")
    @classmethod
    def _types(cls, value: str) -> str:
        wrong = [name for name in split_types(value) if not is_type(name)]
        if wrong:
            raise ValueError(f"{wrong[0]!r} is no type of events")
        return value

    @property
    def of_bundles(self) -> dict[str, Self]:
        """What holds for each bundle, by its name; that of calls that name none is empty."""
        named = {name: self.model_copy(update=dict(own)) for name, own in self.bundles.items()}
        return {"": self, **named}

    @property
    def history_types(self) -> frozenset[str]:
        """The types of events that the models read."""
        return frozenset((INTERACTION, *split_types(self.history_event_types)))

    @property
    def calls(self) -> CallPolicy:
        """How services are called.

        Raises:
            SettingsError: a file of a key or of TLS cannot be read.
        """
        return CallPolicy(
            retry_ratio=self.retry_ratio, hedge_ratio=self.hedge_ratio, link=link_of(self)
        )
