"""`tandem bundle`: what bundles there are, whether they are whole, and what they hold."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn
from rich.table import Table

from cli.bundle import swap
from cli.bundle.storage import source_of
from core.bundle import MANIFEST, Bundle, versions
from core.errors import BundleError
from core.manifest import FileEntry, Manifest
from core.signature import SIGNATURE, read_private_key, read_public_key
from core.signature import sign as sign_manifest
from serving.bundles import delivery
from serving.files.replacing import replacing

app = typer.Typer(
    no_args_is_help=True,
    help="List, verify and show bundles, and change which one running processes serve.",
    epilog="Examples:\n\ntandem bundle activate bundles/ml-100k/current\n\ntandem bundle rollback",
)
app.command()(swap.status)
app.command()(swap.load)
app.command()(swap.activate)
app.command()(swap.rollback)

BundlePath = Annotated[
    Path, typer.Argument(help="A bundle, such as bundles/ml-100k/current.", metavar="BUNDLE")
]


@app.command("list")
def list_bundles(
    root: Annotated[Path, typer.Option(help="Where bundles are kept.")] = Path("bundles"),
) -> None:
    """List the bundles, the newest of each name last; * marks what `current` points to."""
    table = Table("", "bundle", "items", "users", "size", "created", "NDCG@10", box=None)
    found = versions(root)
    for path in found:
        current = (path.parent / "current").resolve() == path.resolve()
        table.add_row("*" if current else "", *_summary(path))
    if not found:
        raise BundleError(f"no bundle under {root}; make one with `tandem build`")
    Console().print(table)


@app.command()
def verify(
    bundle: BundlePath,
    key: Annotated[
        Path | None,
        typer.Option(help="PEM file of the Ed25519 public key that it must be signed with."),
    ] = None,
) -> None:
    """Check every file of a bundle against its manifest, and the manifest's signature."""
    console = Console(stderr=True)
    with console.status(f"reading {bundle}"):
        opened = Bundle.open(bundle, key=read_public_key(key) if key else None)
        items = len(opened.catalog)
    files = opened.manifest.files
    signed = f", signed by {key}" if key else ""
    typer.echo(
        f"{opened.version} is whole{signed}: {len(files)} files, {_size(files)}, {items:,} items"
    )


@app.command(
    epilog="Keys:\n\n"
    "openssl genpkey -algorithm ed25519 -out private.pem\n\n"
    "openssl pkey -in private.pem -pubout -out public.pem"
)
def sign(
    bundle: BundlePath,
    key: Annotated[Path, typer.Option(help="PEM file of the Ed25519 private key.")],
) -> None:
    """Sign a bundle, for processes that take signed ones only (`--bundle-key`)."""
    private = read_private_key(key)
    opened = Bundle.open(bundle)
    file = opened.path / SIGNATURE
    with replacing(file) as temporary:
        temporary.write_bytes(sign_manifest((opened.path / MANIFEST).read_bytes(), private))
    typer.echo(f"{opened.version} is signed: {file}")


@app.command(epilog="Example:  tandem bundle fetch s3://models/bundles/ml-100k/0a1b2c3d4e5f")
def fetch(
    place: Annotated[
        str,
        typer.Argument(
            help="The directory of a bundle's version, or its address in S3, Google Cloud Storage "
            "or Azure, such as s3://models/bundles/ml-100k/0a1b2c3d4e5f; credentials are taken "
            "from the environment."
        ),
    ],
    root: Annotated[Path, typer.Option(help="Where bundles are kept.")] = Path("bundles"),
    key: Annotated[
        Path | None,
        typer.Option(help="PEM file of the Ed25519 public key that it must be signed with."),
    ] = None,
) -> None:
    """Copy a bundle here from where it is kept, checking every file.

    It is there whole afterwards, or not at all; `tandem bundle activate` lets it serve.
    """
    trusted = read_public_key(key) if key else None
    source = source_of(place)
    columns = (TextColumn("fetching"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=None)
        path = delivery.fetch(
            source, root, trusted, lambda done, total: bar.update(task, completed=done, total=total)
        )
    typer.echo(f"{Bundle.open(path, verify=False).version} is at {path}")


@app.command()
def show(
    bundle: BundlePath,
    as_json: Annotated[bool, typer.Option("--json", help="The manifest as it is.")] = False,
) -> None:
    """Show how a bundle was made, what it holds and what it reached."""
    manifest = Bundle.open(bundle, verify=False).manifest
    if as_json:
        typer.echo(manifest.model_dump_json(indent=2))
        return
    table = Table(show_header=False, box=None)
    for section, values in manifest.model_dump().items():
        if not isinstance(values, dict):
            table.add_row(f"[bold]{section}", str(values))
            continue
        table.add_row(f"[bold]{section}", "")
        for name, value in values.items():
            table.add_row(f"  {name}", _short(section, value))
    console = Console()
    console.print(table)
    for reason in manifest.reasons:
        console.print(reason, highlight=False, soft_wrap=True)


def _summary(path: Path) -> tuple[str, ...]:
    try:
        manifest = Bundle.open(path, verify=False).manifest
    except BundleError as error:
        return (f"{path.parent.name}/{path.name}", "", "", "", f"[red]{error.message}", "")
    return (
        f"{manifest.name}/{manifest.version}",
        f"{manifest.items:,}",
        f"{manifest.users:,}",
        _size(manifest.files),
        manifest.provenance.created,
        _pipeline_ndcg(manifest),
    )


def _pipeline_ndcg(manifest: Manifest) -> str:
    for row in manifest.metrics.get("rows", ()):
        if row.get("name") == "pipeline" and row.get("ranking") == "filtered":
            return f"{row['ndcg@10']:.4f}"
    return ""


def _size(files: dict[str, FileEntry]) -> str:
    return f"{sum(entry.bytes for entry in files.values()) / 2**20:,.1f} MiB"


def _short(section: str, value: object) -> str:
    if section == "files" and isinstance(value, dict):
        return f"{value['bytes']:>12,} bytes  sha256 {value['sha256'][:12]}…"
    return str(value)
