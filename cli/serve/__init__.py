"""`tandem serve`: each of the three servers, or all of them.

The options of each are made from its settings, which containers give as environment variables.
"""

import typer

from cli.support.lazy import LazyGroup


class _Servers(LazyGroup):
    """The servers."""

    places = {  # noqa: RUF012 - a ClassVar of the base class
        "candidate": "cli.serve.candidate:app",
        "generator": "cli.serve.generator:app",
        "gateway": "cli.serve.gateway:app",
        "all": "cli.serve.all:app",
    }


app = typer.Typer(cls=_Servers, no_args_is_help=True)


@app.callback(
    help="Serve a bundle.\n\n"
    "Every option of a server is also an environment variable and a key of the TOML file that "
    "--config names: --max-batch is TANDEM_MAX_BATCH, and max_batch in the generator's table."
)
def _serve() -> None: ...
