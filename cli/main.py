"""The `tandem` command: its subcommands, and what an error looks like."""

import os
from typing import Final

import typer

from cli.support.lazy import LazyGroup

_PACKAGES: Final = frozenset(
    {"cli", "console", "gateway", "core", "offline", "services", "serving", "tandem"}
)


class _Commands(LazyGroup):
    """The subcommands."""

    places = {  # noqa: RUF012 - a ClassVar of the base class
        "data": "cli.data:app",
        "enrich": "cli.enrich.command:app",
        "build": "cli.build:app",
        "evaluate": "cli.evaluate:app",
        "demo": "cli.demo:app",
        "bundle": "cli.bundle.commands:app",
        "serve": "cli.serve:app",
        "recommend": "cli.query.recommend:app",
        "rows": "cli.query.recommend:rows_app",
        "explain": "cli.explain.commands:app",
        "similar": "cli.query.similar:app",
        "ratings": "cli.query.ratings:app",
        "items": "cli.items:app",
        "history": "cli.history:app",
        "export-events": "cli.export_events:app",
        "batch": "cli.batch:app",
        "top": "cli.top.view:app",
        "keys": "cli.keys:app",
        "variants": "cli.variants:app",
        "console": "cli.console:app",
    }


app = typer.Typer(cls=_Commands, no_args_is_help=True)


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


if __name__ == "__main__":
    main()
