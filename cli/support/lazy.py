"""Groups of commands that are imported when they are used.

So that `tandem recommend` answers at once, and an image that only serves needs nothing offline.
"""

import importlib
from collections.abc import Mapping
from typing import Any, ClassVar, Final

import typer
from typer.core import TyperGroup

_COMPLETION: Final = frozenset({"install_completion", "show_completion"})
"""Options that typer gives to every app, and that only a root may have."""


class LazyGroup(TyperGroup):
    """A group whose commands are looked up in `places`."""

    places: ClassVar[Mapping[str, str]] = {}
    """By the names of the commands: each a typer app, as `MODULE:ATTRIBUTE`."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - typer's signature
        """In the order in which one uses them."""
        return list(self.places)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Imports the command."""
        if cmd_name not in self.places:
            return None
        module, _, attribute = self.places[cmd_name].partition(":")
        try:
            app = getattr(importlib.import_module(module), attribute)
        except ModuleNotFoundError as error:
            app = _not_installed(f"{ctx.command_path} {cmd_name}", error)
        command = typer.main.get_command(app)
        command.name = cmd_name
        command.params = [p for p in command.params if p.name not in _COMPLETION]
        return command


def _not_installed(command: str, error: ModuleNotFoundError) -> typer.Typer:
    """Stands in for a command whose dependencies this installation leaves out."""
    stand_in = typer.Typer()
    missing = str(error.name)

    @stand_in.command(
        help=f"(needs {missing}, which is not installed)",
        context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
    )
    def explain() -> None:
        raise ModuleNotFoundError(
            f"`{command}` needs {missing}: pip install '.[offline]' in Tandem's source",
            name=missing,
        )

    return stand_in
