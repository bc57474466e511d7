"""`tandem bundle`: what bundles there are, whether they are whole, and what they hold."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from cli import swap
from core.bundle import Bundle, versions
from core.errors import BundleError
from core.manifest import FileEntry, Manifest

app = typer.Typer(
    no_args_is_help=True,
    help="List, verify and show bundles, and change which one running processes serve.",
    epilog="Examples:\n\ntandem bundle activate bundles/ml-100k/current\n\ntandem bundle rollback",
)
app.command()(swap.status)
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
def verify(bundle: BundlePath) -> None:
    """Check every file of a bundle against its manifest."""
    console = Console(stderr=True)
    with console.status(f"reading {bundle}"):
        opened = Bundle.open(bundle)
        items = len(opened.catalog)
    files = opened.manifest.files
    typer.echo(f"{opened.version} is whole: {len(files)} files, {_size(files)}, {items:,} items")


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
