"""The `tandem` command: its subcommands, each imported when it is used.

So that `tandem recommend` answers at once, and an image that only serves needs nothing offline.
"""

import importlib
import os
from collections.abc import Mapping
from typing import Any, Final

import typer
from typer.core import TyperGroup

_COMMANDS: Final[Mapping[str, str]] = {
    "data": "cli.data:app",
    "build": "cli.build:app",
    "evaluate": "cli.evaluate:app",
    "demo": "cli.demo:app",
    "bundle": "cli.bundle:app",
    "serve": "cli.serve:app",
    "recommend": "cli.query:recommend",
    "similar": "cli.query:similar",
    "items": "cli.items:app",
    "history": "cli.history:app",
    "batch": "cli.batch:batch",
}
_COMPLETION: Final = frozenset({"install_completion", "show_completion"})
"""Options that typer gives to every app, and that only a root may have."""
_PACKAGES: Final = frozenset({"cli", "gateway", "core", "offline", "services", "serving", "tandem"})


class LazyGroup(TyperGroup):
    """A group whose commands are looked up in `_COMMANDS`."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - typer's signature
        """In the order in which one uses them."""
        return list(_COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002 - typer's signature
        """Imports the command."""
        if cmd_name not in _COMMANDS:
            return None
        module, _, attribute = _COMMANDS[cmd_name].partition(":")
        try:
            app = getattr(importlib.import_module(module), attribute)
        except ModuleNotFoundError as error:
            app = _not_installed(cmd_name, error)
        command = typer.main.get_command(app)
        command.name = cmd_name
        command.params = [p for p in command.params if p.name not in _COMPLETION]
        return command


app = typer.Typer(cls=LazyGroup, no_args_is_help=True)


@app.callback(
    epilog="From nothing to a recommendation:\n\n"
    "tandem data fetch ml-100k\n\n"
    "tandem build\n\n"
    "tandem serve all --bundle bundles/ml-100k/current\n\n"
    "tandem recommend --user 196"
)
def _tandem() -> None:
    """Generative recommendation in production: build a bundle, serve it, ask it."""


def main() -> None:
    """Runs the command line; an error is one line on stderr and exit code 1 (2 for usage)."""
    # gRPC's C core logs what it also raises, past the log's format; it reads this when first used.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    try:
        app(prog_name="tandem")
    except Exception as error:
        if os.environ.get("TANDEM_DEBUG"):
            raise
        typer.secho(f"tandem: {_describe(error)}", fg="red", err=True)
        raise SystemExit(1) from None


def _describe(error: Exception) -> str:
    """Errors of Tandem's own speak for themselves; others are named."""
    message = " ".join(str(error).split())
    if (
        isinstance(error, OSError | ImportError)
        or type(error).__module__.partition(".")[0] in _PACKAGES
    ):
        return message or type(error).__name__
    return f"unexpected {type(error).__name__}: {message} (TANDEM_DEBUG=1 shows where)"


def _not_installed(name: str, error: ModuleNotFoundError) -> typer.Typer:
    """Stands in for a command whose dependencies this installation leaves out."""
    stand_in = typer.Typer()
    missing = str(error.name)

    @stand_in.command(
        help=f"(needs {missing}, which is not installed)",
        context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
    )
    def explain() -> None:
        raise ModuleNotFoundError(
            f"`tandem {name}` needs {missing}: pip install '.[offline]' in Tandem's source",
            name=missing,
        )

    return stand_in


if __name__ == "__main__":
    main()
