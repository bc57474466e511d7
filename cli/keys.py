"""`tandem keys`: make the keys that callers show, and the file that says what each may do."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Final

import typer

from core.errors import SettingsError
from serving.files.replacing import replacing
from serving.security.keyring import make_key
from serving.security.keys_file import read_keys
from serving.security.rights import Right

FIRST: Final = """\
# Who may call, and what each may do: docs/security.md. Servers read it again when it changes.

[anonymous]
rights = ["recommend", "similar", "events"]

"""
"""What a file begins with that `init` makes."""

app = typer.Typer(
    no_args_is_help=True,
    help="Make keys for callers. A server reads who may call from a file, --keys-file, which has "
    "the keys' digests alone: a key is shown once, when it is made.",
    epilog="Examples:\n\n"
    "tandem keys new shop --file keys.toml --right recommend --right events\n\n"
    "tandem keys new gateway --file keys.toml --right internal --out service.key",
)

File = Annotated[Path, typer.Option("--file", help="The file of keys, to which it is added.")]


@app.command(epilog="Example:  tandem keys new shop --file keys.toml --right recommend")
def new(
    name: Annotated[str, typer.Argument(help="Of the caller.")],
    file: File,
    right: Annotated[list[Right], typer.Option(help="What it may do; repeat for more.")],
    calls_per_second: Annotated[
        int | None, typer.Option(help="How often it may call the gateway.", min=1)
    ] = None,
    calls_per_minute: Annotated[
        int | None, typer.Option(help="How often it may call the gateway.", min=1)
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="File to write the key to, instead of printing it.")
    ] = None,
) -> None:
    """Make a key for a caller."""
    quotas = {"calls_per_second": calls_per_second, "calls_per_minute": calls_per_minute}
    known = file.read_text(encoding="utf-8") if file.exists() else ""
    key, table = _made(name, right, {n: limit for n, limit in quotas.items() if limit})
    _check(known + table, file)
    if out is None:
        typer.echo(key)
    else:
        _write(out, f"{key}\n", private=True)
    _write(file, known + table, private=False)


@app.command(
    epilog="Example:  tandem keys init --file keys.toml --service-key service.key "
    "--operator-key operator.key"
)
def init(
    file: File,
    service_key: Annotated[
        Path, typer.Option(help="File for the key that gateway and generator show to services.")
    ],
    operator_key: Annotated[
        Path, typer.Option(help="File for the key of those who run this, which may do everything.")
    ],
) -> None:
    """Make the keys of an installation, once: where the file is there, nothing happens.

    Callers without a key may ask for recommendations and similar items, and record events.
    """
    if file.exists():
        typer.echo(f"{file} is there")
        return
    text = FIRST
    for name, rights, out in (
        ("service", [Right.INTERNAL], service_key),
        ("operator", list(Right), operator_key),
    ):
        key, table = _made(name, rights, {})
        text += table
        _write(out, f"{key}\n", private=True)
    # Last, so that what was interrupted is begun anew.
    _write(file, text, private=False)
    typer.echo(f"made {file}, {service_key} and {operator_key}")


def _made(name: str, rights: Iterable[Right], quotas: dict[str, int]) -> tuple[str, str]:
    """A new key, and its table in the file."""
    key, digest = make_key(name)
    lines: Sequence[str] = (
        f"[keys.{name}]",
        f'sha256 = "{digest}"',
        f"rights = {json.dumps(list(rights))}",
        *(f"{quota} = {limit}" for quota, limit in quotas.items()),
    )
    return key, "\n".join((*lines, "", ""))


def _check(text: str, file: Path) -> None:
    try:
        read_keys(text.encode(), file.parent)
    except ValueError as error:
        raise SettingsError(f"{file} would not be a file of keys: {error}") from error


def _write(path: Path, text: str, *, private: bool) -> None:
    """Writes a file whole or not at all; a private one for its owner alone."""
    with replacing(path, private=private) as temporary:
        temporary.write_text(text, encoding="utf-8")
