"""How commands connect to a server, and what they say where none answers."""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypedDict

import grpc
import typer

from tandem import Client, Unavailable, key_file, tls_credentials
from tandem.channel import Secret
from tandem.client import DEFAULT_TARGET, DEFAULT_TIMEOUT

Address = Annotated[
    str, typer.Option(help="The gateway's address.", envvar="TANDEM_ADDRESS", metavar="HOST:PORT")
]

BundleName = Annotated[
    str,
    typer.Option(
        help="Which of the gateway's bundles, where it has several; that without a name if unset.",
        envvar="TANDEM_BUNDLE_NAME",
        metavar="NAME",
    ),
]


class Credentials(TypedDict):
    """What the clients of `tandem` take."""

    credentials: grpc.ChannelCredentials | None
    key: Secret | None


@dataclass(frozen=True, kw_only=True)
class CredentialOptions:
    """Who calls, and whether by TLS."""

    key_file: Annotated[
        Path | None,
        typer.Option(
            help="File of the key or token to show; the variable TANDEM_KEY may hold it instead.",
            envvar="TANDEM_KEY_FILE",
        ),
    ] = None
    tls: Annotated[bool, typer.Option("--tls", help="Connect by TLS.", envvar="TANDEM_TLS")] = False
    authority: Annotated[
        Path | None,
        typer.Option(
            help="Connect by TLS, and trust the authorities in this PEM file instead of the usual.",
            envvar="TANDEM_AUTHORITY",
        ),
    ] = None
    certificate: Annotated[
        Path | None,
        typer.Option(help="PEM file of a certificate to show.", envvar="TANDEM_CERTIFICATE"),
    ] = None
    certificate_key: Annotated[
        Path | None,
        typer.Option(help="PEM file of its private key.", envvar="TANDEM_CERTIFICATE_KEY"),
    ] = None

    def credentials(self) -> Credentials:
        """What a client is to be told.

        Raises:
            OSError: a file cannot be read.
            typer.BadParameter: half of a certificate is given.
        """
        if (self.certificate is None) is not (self.certificate_key is None):
            raise typer.BadParameter("give both --certificate and --certificate-key")
        files = (self.authority, self.certificate, self.certificate_key)
        return {
            "credentials": tls_credentials(*files) if self.tls or any(files) else None,
            "key": key_file(self.key_file) if self.key_file else os.environ.get("TANDEM_KEY"),
        }


@dataclass(frozen=True)
class GatewayOptions(CredentialOptions):
    """Where the gateway is, which of its bundles is meant, and who calls it."""

    address: Address = DEFAULT_TARGET
    bundle_name: BundleName = ""

    @contextmanager
    def client(self, timeout: float) -> Iterator[Client]:
        """A client of the gateway whose error says what to do where no gateway answers.

        Args:
            timeout: seconds that a call may take.
        """
        who = self.credentials()
        with (
            Client(self.address, timeout=timeout, bundle=self.bundle_name, **who) as client,
            explained_unavailability("gateway", self.address),
        ):
            yield client


@dataclass(frozen=True)
class ConnectionOptions(GatewayOptions):
    """Where the gateway is, which bundle is meant, who calls, and how long a call may take."""

    timeout: Annotated[float, typer.Option(help="Seconds to wait.", min=0.001)] = DEFAULT_TIMEOUT

    def connect(self) -> AbstractContextManager[Client]:
        """A client of the gateway; see `client`."""
        return self.client(self.timeout)


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
