"""`tandem bundle status`, `activate` and `rollback`: versions in running processes."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from cli.support.connection import explained_unavailability
from core.bundle import Bundle, point
from core.errors import BundleError
from tandem import BundleClient
from tandem.client import DEFAULT_TARGET

Addresses = Annotated[
    list[str],
    typer.Option(
        "--address",
        help="A gateway's address, for it and the services behind it; once for each gateway.",
        envvar="TANDEM_ADDRESS",
        metavar="HOST:PORT",
    ),
]
Timeout = Annotated[float, typer.Option(help="Seconds that each gateway may take.", min=0.001)]
Root = Annotated[
    Path,
    typer.Option(
        help="Where bundles are kept. `current` is moved to the version if it is there, so that "
        "processes that are started later serve it too."
    ),
]

SECONDS = 600.0


def status(address: Addresses = [DEFAULT_TARGET], timeout: Timeout = 10.0) -> None:  # noqa: B006
    """Show which versions running processes serve, hold beside, and could load.

    Any of the three processes can be asked, and shows its own.
    """
    table = Table("address", "bundle", "", box=None)
    for one in address:
        with _bundles(one, timeout) as bundles:
            for version, state in bundles.list().items():
                table.add_row(one, version, state)
    Console().print(table)


def activate(
    bundle: Annotated[
        str,
        typer.Argument(
            help="A version such as ml-100k/20261130-0a1b2c3d, or the directory of one, such as "
            "bundles/ml-100k/current."
        ),
    ],
    address: Addresses = [DEFAULT_TARGET],  # noqa: B006
    root: Root = Path("bundles"),
    timeout: Timeout = SECONDS,
) -> None:
    """Let a version of the bundle serve, without a restart.

    Every process verifies and loads it beside the version that serves, makes calls of each kind,
    and only then are all of them switched. Calls that began with the version before end with it.
    On error everything serves on as it did.
    """
    version = _version(bundle)
    _change(address, dict.fromkeys(address, version), timeout)
    _point(root, version)


def rollback(
    address: Addresses = [DEFAULT_TARGET],  # noqa: B006
    root: Root = Path("bundles"),
    timeout: Timeout = SECONDS,
) -> None:
    """Let the version that served before serve again, which is held since."""
    held = {}
    for one in address:
        with _bundles(one, timeout) as bundles:
            held[one] = _held(one, bundles.list())
    _change(address, held, timeout)
    for version in set(held.values()):
        _point(root, version)


def _change(addresses: Sequence[str], versions: dict[str, str], timeout: float) -> None:
    console = Console(stderr=True)
    for address in addresses:
        version = versions[address]
        with _bundles(address, timeout) as bundles, console.status(f"{address}: {version}"):
            before = next(iter(bundles.list()), "")
            bundles.activate(version)
        was = f", before it {before}" if before != version else ", as before"
        typer.echo(f"{address} serves {version}{was}")


@contextmanager
def _bundles(address: str, timeout: float) -> Iterator[BundleClient]:
    with (
        BundleClient(address, timeout=timeout) as client,
        explained_unavailability("server", address),
    ):
        yield client


def _held(address: str, versions: dict[str, str]) -> str:
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


def _point(root: Path, version: str) -> None:
    name, _, number = version.rpartition("/")
    if name and (root / name / number).is_dir():
        point(root / name / "current", number)
