"""`tandem variants`: check a serving file, and see which variant users are in."""

from pathlib import Path
from typing import Annotated

import typer

from core.errors import SettingsError
from gateway.variants.assignment import assigned, subject
from gateway.variants.file import read_plan
from gateway.variants.plan import Plan, Variant

app = typer.Typer(
    no_args_is_help=True,
    help="Check the file of serving configurations and variants that a gateway takes as "
    "--serving-file.",
    epilog="Examples:\n\ntandem variants check serving.toml\n\n"
    "tandem variants assign serving.toml 196 186 22",
)

File = Annotated[Path, typer.Argument(help="The file.", metavar="FILE")]


@app.command(epilog="Example:  tandem variants check serving.toml")
def check(file: File) -> None:
    """Say what a serving file has, or what is wrong with it.

    Attributes and versions of the bundle are the gateway's to know: it looks for them itself.
    """
    plan = _read(file)
    for name in plan.configs:
        typer.echo(f"configuration {name}")
    for variant in plan.variants.values():
        typer.echo(f"variant {variant.name}: {variant.percent:g}% of the users{_what(variant)}")
    if plan.shadow is not None:
        typer.echo(f"shadow {plan.shadow.variant}: {plan.shadow.share:.1%} of the calls")
    if not plan.configs and not plan.variants:
        typer.echo("neither configurations nor variants")


@app.command(epilog="Example:  tandem variants assign serving.toml 196 186 22")
def assign(
    file: File, users: Annotated[list[str], typer.Argument(help="Users.", metavar="USER…")]
) -> None:
    """Say which variant users are in, as long as none is withdrawn or without its version."""
    plan = _read(file)
    weights = [(variant.name, variant.percent) for variant in plan.variants.values()]
    for user in users:
        name = assigned(plan.experiment, weights, subject(user, ()))
        typer.echo(f"{user}\t{name or ''}")


def _what(variant: Variant) -> str:
    """What is its own, in words."""
    bundle = f"bundle {variant.bundle}" if variant.bundle else ""
    answering = ", ".join(filter(None, (bundle, variant.bundle_version)))
    version = f", by {answering}" if answering else ""
    if variant.limits is None:
        return version
    limits = variant.limits
    return (
        f"{version}; a canary, withdrawn beyond {limits.max_bad_share:.1%} more bad answers or "
        f"{limits.max_latency_ratio:g} times the latency of the others, after "
        f"{limits.min_calls} calls in {limits.window_seconds:g} s"
    )


def _read(file: Path) -> Plan:
    try:
        return read_plan(file.read_bytes())
    except ValueError as error:
        raise SettingsError(f"{file}: {error}") from error
