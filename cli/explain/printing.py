"""Prints texts that a model writes, as they come, and always as what they are."""

import json
from collections.abc import Iterable, Sequence

import typer
from google.protobuf.json_format import MessageToDict
from rich.console import Console
from rich.text import Text

from cli.support.titles import Titles
from tandem import Client
from tandem.v1 import generator_service_pb2 as pb


def print_text(console: Console, stream: Iterable[pb.ExplainResponse]) -> pb.ExplainResponse:
    """Prints the words of a text as they come, and why it ends where that is not its own end.

    Returns:
        The last message.
    """
    last = pb.ExplainResponse()
    for last in stream:
        console.print(Text(last.delta, style="italic"), end="", soft_wrap=True)
    if last.end.reason != pb.STOP_REASON_END:
        console.print(f" [dim]({_stop_name(last)})", end="", highlight=False)
    console.print()
    return last


def print_end(console: Console, last: pb.ExplainResponse) -> None:
    """Prints what a text took."""
    stages = ", ".join(
        f"{timing.stage} {timing.duration.ToMicroseconds() / 1e3:.1f}"
        for timing in last.end.timings
    )
    tokens = f"{last.end.tokens} tokens from {last.bundle_version}"
    console.print(f"[dim]{tokens}; ms: {stages}")


def print_json_text(stream: Iterable[pb.ExplainResponse]) -> None:
    """Prints a whole text and its end as JSON."""
    *deltas, last = stream
    end = MessageToDict(last, preserving_proto_field_name=True)
    document = {"generated_text": "".join(part.delta for part in deltas), **end}
    typer.echo(json.dumps(document, ensure_ascii=False, indent=2))


def print_explanations(
    console: Console,
    client: Client,
    user: str,
    history: Sequence[str],
    items: Sequence[str],
    titles: Titles,
) -> None:
    """Prints why a user would like some items, below a list, and apart from what it says."""
    console.print("\n[bold]Generated text[/] [dim](a model's words, not why they are listed)")
    for item_id in items:
        console.print(Text(f"{titles.title(item_id) or item_id}: "), end="")
        print_text(console, client.explain(user, item_id, history=history))


def _stop_name(last: pb.ExplainResponse) -> str:
    """Why a text ends, in words."""
    name = pb.StopReason.Name(last.end.reason).removeprefix("STOP_REASON_")
    return name.lower().replace("_", " ")
