"""Options of a command, made from the fields of a settings class."""

import inspect
from collections.abc import Callable, Collection
from typing import Annotated, Any

import typer
from pydantic.fields import FieldInfo
from rich.markup import escape

from serving.settings import ProcessSettings, default_of, flags_of


def settings_command(
    kind: type[ProcessSettings],
    run: Callable[..., None],
    *,
    summary: str,
    without: Collection[str] = (),
    epilog: str | None = None,
) -> typer.Typer:
    """An app of one command, which has an option for every field of some settings.

    Args:
        kind: of settings.
        run: called with the values by the names of their fields; None is one that was not given.
        summary: the command's line of help.
        without: fields that the command decides by itself.
        epilog: what stands below the options.
    """

    def command(**given: Any) -> None:
        run(**given)

    fields = {name: field for name, field in flags_of(kind).items() if name not in without}
    # Typer reads the options from a function's signature.
    command.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [_parameter(name, field) for name, field in fields.items()]
    )
    app = typer.Typer()
    app.command(help=summary, epilog=epilog)(command)
    return app


def _parameter(name: str, field: FieldInfo) -> inspect.Parameter:
    # The option's own default is None, so that a variable or a file may say otherwise.
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[field.annotation | None, typer.Option(help=_help(field))],  # type: ignore[operator]
    )


def _help(field: FieldInfo) -> str:
    default = default_of(field)
    shown = f"{field.description} [default: {default}]" if default else str(field.description)
    return escape(shown)
