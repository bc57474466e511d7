"""How commands connect to a server, and what they say where none answers."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated

import typer

from tandem import Client, Unavailable
from tandem.client import DEFAULT_TARGET, DEFAULT_TIMEOUT

Address = Annotated[
    str, typer.Option(help="The gateway's address.", envvar="TANDEM_ADDRESS", metavar="HOST:PORT")
]


@dataclass(frozen=True)
class ConnectionOptions:
    """Where the gateway is, and how long a call may take."""

    address: Address = DEFAULT_TARGET
    timeout: Annotated[float, typer.Option(help="Seconds to wait.", min=0.001)] = DEFAULT_TIMEOUT

    @contextmanager
    def connect(self) -> Iterator[Client]:
        """A client of the gateway whose error says what to do where no gateway answers."""
        with (
            Client(self.address, timeout=self.timeout) as client,
            explained_unavailability("gateway", self.address),
        ):
            yield client


@contextmanager
def explained_unavailability(server: str, address: str) -> Iterator[None]:
    """Says what to do where nothing answers.

    Args:
        server: what should answer: "gateway", for example.
        address: where.

    Raises:
        Unavailable: the block raised it; where no server gave its reason, it says what to do.
    """
    try:
        yield
    except Unavailable as error:
        if error.reason:  # a server gave it
            raise
        raise Unavailable(
            error.code,
            f"no {server} answers at {address}; start one with `tandem serve all`, "
            "or name another with --address",
        ) from error
