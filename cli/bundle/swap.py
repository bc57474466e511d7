"""`tandem bundle status`, `activate` and `rollback`: versions in running processes."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.table import Table

from cli.support.connection import BundleName, CredentialOptions, explained_unavailability
from cli.support.option_groups import expanded
from core.bundle import Bundle, point
from core.errors import BundleError
from tandem import BundleClient
from tandem.client import DEFAULT_TARGET

SECONDS: Final = 600.0

Root = Annotated[
    Path,
    typer.Option(
        help="Where bundles are kept. `current` is moved to the version if it is there, so that "
        "processes that are started later serve it too."
    ),
]


@dataclass(frozen=True)
class BundleConnectionOptions(CredentialOptions):
    """Which processes are asked, who asks, and how long each may take."""

    address: Annotated[
        list[str] | None,
        typer.Option(
            help="A gateway's address, for it and the services behind it; once for each gateway. "
            f"\\[default: {DEFAULT_TARGET}]",
            envvar="TANDEM_ADDRESS",
            metavar="HOST:PORT",
        ),
    ] = None
    timeout: Annotated[
        float, typer.Option(help="Seconds that each address may take.", min=0.001)
    ] = SECONDS

    @property
    def addresses(self) -> list[str]:
        """All of them."""
        return self.address or [DEFAULT_TARGET]

    @contextmanager
    def connect(self, address: str) -> Iterator[BundleClient]:
        """A client of one of them, whose error says what to do where nothing answers."""
        with (
            BundleClient(address, timeout=self.timeout, **self.credentials()) as client,
            explained_unavailability("server", address),
        ):
            yield client


@expanded
def status(*, connection: BundleConnectionOptions) -> None:
    """Show which versions running processes serve, hold beside, and could load.

    Any of the three processes can be asked, and shows its own.
    """
    table = Table("address", "name", "bundle", "", box=None)
    for address in connection.addresses:
        with connection.connect(address) as bundles:
            for name, versions in bundles.list_all().items():
                for version, state in versions.items():
                    table.add_row(address, name, version, state)
    Console().print(table)


BundleVersion = Annotated[
    str,
    typer.Argument(
        help="A version such as ml-100k/0a1b2c3d4e5f, or the directory of one, such as "
        "bundles/ml-100k/current."
    ),
]


@expanded
def load(
    *,
    bundle: BundleVersion,
    bundle_name: BundleName = "",
    connection: BundleConnectionOptions,
) -> None:
    """Have a version held beside the one that serves, as for a variant of an experiment.

    Every process verifies it and makes calls of each kind with it. What was held beside is
    released.
    """
    version = _version(bundle)
    for address in connection.addresses:
        with connection.connect(address) as bundles, Console(stderr=True).status(address):
            bundles.load(version, bundle=bundle_name)
        typer.echo(f"{address} holds {version}")


@expanded
def activate(
    *,
    bundle: BundleVersion,
    root: Root = Path("bundles"),
    bundle_name: BundleName = "",
    connection: BundleConnectionOptions,
) -> None:
    """Let a version of the bundle serve, without a restart.

    Every process verifies and loads it beside the version that serves, makes calls of each kind,
    and only then are all of them switched. Calls that began with the version before end with it.
    On error everything serves on as it did.
    """
    version = _version(bundle)
    _change(connection, bundle_name, dict.fromkeys(connection.addresses, version), root)


@expanded
def rollback(
    *,
    root: Root = Path("bundles"),
    bundle_name: BundleName = "",
    connection: BundleConnectionOptions,
) -> None:
    """Let the version that served before serve again, which is held since."""
    held = {}
    for address in connection.addresses:
        with connection.connect(address) as bundles:
            held[address] = _held(address, bundles.list(bundle_name))
    _change(connection, bundle_name, held, root)


def _change(
    connection: BundleConnectionOptions, name: str, versions: Mapping[str, str], root: Path
) -> None:
    """Activates a version at each address, and points to them for those who start later."""
    console = Console(stderr=True)
    for address, version in versions.items():
        with connection.connect(address) as bundles, console.status(f"{address}: {version}"):
            before = next(iter(bundles.list(name)), "")
            bundles.activate(version, bundle=name)
        was = f", before it {before}" if before != version else ", as before"
        typer.echo(f"{address} serves {version}{was}")
    for version in dict.fromkeys(versions.values()):
        directory, _, number = version.rpartition("/")
        if directory and (root / directory / number).is_dir():
            point(root / directory / "current", number)


def _held(address: str, versions: Mapping[str, str]) -> str:
    held = [version for version, state in versions.items() if state == "held"]
    if not held:
        raise BundleError(
            f"{address} holds no other version; activate one of those that "
            "`tandem bundle status` shows"
        )
    return held[0]


def _version(bundle: str) -> str:
    """What a process calls the version that is named, or that lies at a path."""
    if Path(bundle).is_dir():
        return Bundle.open(Path(bundle), verify=False).version
    return bundle
