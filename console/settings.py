"""What the console can be told."""

import re
from pathlib import Path
from typing import Annotated, Final

from pydantic import AfterValidator, Field

from console.calls.contract import Process
from console.calls.upstreams import Deadlines
from serving.settings import LinkSettings, ProcessSettings

_ADDRESS: Final = re.compile(r"(?:dns:///)?(?:\[[0-9a-fA-F:.]+\]|[^\s,:/\[\]]+):\d{1,5}")


def _address(value: str) -> str:
    if not _ADDRESS.fullmatch(value):
        raise ValueError("give HOST:PORT, or dns:///NAME:PORT for all the addresses of a name")
    return value


def _addresses(value: str) -> str:
    for each in addresses_in(value):
        _address(each)
    return value


def addresses_in(value: str) -> list[str]:
    """Addresses with commas between them."""
    return [each.strip() for each in value.split(",") if each.strip()]


Address = Annotated[str, AfterValidator(_address)]
Addresses = Annotated[str, AfterValidator(_addresses)]


class ConsoleSettings(LinkSettings, ProcessSettings):
    """Settings of the console."""

    table = "console"

    port: int = Field(default=8080, ge=0, le=65535, description="Port to listen on; 0 picks one.")
    gateway: Address = Field(
        default="127.0.0.1:50050",
        description="The gateway's address; `dns:///NAME:PORT` for several.",
    )
    candidate: Address | None = Field(
        default=None,
        description="The candidate service's, which the catalog is listed and changed at; without "
        "it items are only looked up.",
    )
    generator: Address | None = Field(
        default=None, description="The generator service's, for calls of its own by HTTP."
    )
    metrics: Addresses = Field(
        default="",
        description="Where the processes show their metrics, HOST:PORT with commas between them, "
        "for the page of the load.",
    )
    bundles: Path | None = Field(
        default=None,
        description="Directory of bundles, as `tandem build` makes it; the page of the bundles "
        "then shows what each version reached.",
    )
    hosts: str = Field(
        default="",
        description="Names that the console is called by, with commas between them; others are "
        "refused. By default those of the loopback where it listens there, and any elsewhere.",
    )
    session_key_file: Path | None = Field(
        default=None,
        description="File with a secret of at least 32 bytes that sign-ins are sealed with, the "
        "same for all consoles of one name. By default sign-ins end with the process.",
    )
    session_hours: float = Field(
        default=8.0, gt=0, le=24 * 30, description="How long somebody stays signed in."
    )
    max_body_bytes: int = Field(
        default=4 * 2**20, ge=2**10, description="Largest body of a request."
    )
    max_concurrent_requests: int = Field(
        default=64, gt=0, description="Requests in flight above which new ones are refused."
    )
    call_seconds: float = Field(
        default=5.0, gt=0, description="Seconds for a call that does not say."
    )
    max_call_seconds: float = Field(
        default=30.0, gt=0, description="Seconds that no call may exceed, whatever it says."
    )

    @property
    def targets(self) -> dict[Process, str]:
        """The addresses that are known."""
        targets: dict[Process, str | None] = {
            "gateway": self.gateway,
            "candidate": self.candidate,
            "generator": self.generator,
        }
        return {process: address for process, address in targets.items() if address}

    @property
    def deadlines(self) -> Deadlines:
        """Of calls."""
        return Deadlines(self.call_seconds, self.max_call_seconds)
