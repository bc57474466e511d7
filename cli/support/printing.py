"""Prints answers of the gateway: as tables for people, as JSON for programs."""

import json
from collections.abc import Sequence

import typer
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cli.support.titles import Titles
from tandem.requests import name_of
from tandem.v1 import recommendation_service_pb2 as pb
from tandem.v1.generator_service_pb2 import ListProof


class RankedItems:
    """A table of items, best first.

    Args:
        titles: those of the items.
        scores: the names of the columns of scores.
    """

    def __init__(self, titles: Titles, *scores: str) -> None:
        self._titles = titles
        self.table = Table("", "item", box=None, header_style="bold")
        self.table.add_column("title", overflow="fold")
        self.table.add_column("")
        for score in scores:
            self.table.add_column(score, justify="right", no_wrap=True)

    def add(self, item_id: str, *scores: float | None) -> None:
        """Adds the next item; a score that it lacks is None."""
        self.table.add_row(
            str(self.table.row_count + 1),
            item_id,
            escape(self._titles.title(item_id)),
            f"[dim]{escape(self._titles.details(item_id))}",
            *("" if score is None else f"{score:.3f}" for score in scores),
        )


def print_recommendations(console: Console, response: pb.RecommendResponse, titles: Titles) -> None:
    """Prints the items of a list with their scores."""
    ranked = RankedItems(titles, "score", "retrieval", "generator")
    for item in response.recommendations:
        retrieval = item.retrieval_score if item.HasField("retrieval_score") else None
        generator = item.generator_score if item.HasField("generator_score") else None
        ranked.add(item.item_id, item.score, retrieval, generator)
    console.print(ranked.table)


def print_similar(console: Console, response: pb.SimilarItemsResponse) -> None:
    """Prints similar items with their similarities."""
    ranked = RankedItems(Titles(response.items), "similarity")
    for item in response.items:
        ranked.add(item.item_id, item.score)
    console.print(ranked.table)


def print_history(console: Console, history: Sequence[str], titles: Titles) -> None:
    """Prints the titles of a history; nothing where it is empty."""
    if not history:
        return
    console.print("[bold]History[/], newest last:")
    for item_id in history:
        console.print(f"  {titles.title(item_id) or item_id}", highlight=False, markup=False)
    console.print()


def print_missing(console: Console, missing: Sequence[str]) -> None:
    """Prints which items of the request the catalog does not have."""
    if missing:
        console.print(f"[yellow]not in the catalog: {', '.join(missing)}")


def print_degradations(console: Console, response: pb.RecommendResponse) -> None:
    """Prints which stages failed, and what the gateway did instead."""
    for degradation in response.degradations:
        fallback = name_of(pb.Fallback, degradation.fallback)
        instead = "" if degradation.fallback == pb.FALLBACK_NONE else f", {fallback} instead"
        console.print(f"[yellow]without {degradation.stage} ({degradation.reason}){instead}")


def print_timings(console: Console, response: pb.RecommendResponse) -> None:
    """Prints how a list was made, and the milliseconds of each stage."""
    stages = ", ".join(
        f"{timing.stage} {timing.duration.ToMicroseconds() / 1e3:.1f}"
        for timing in response.timings
    )
    strategy = name_of(pb.Strategy, response.strategy)
    variant = f", variant {response.variant}" if response.variant else ""
    proof = _proof(response.proof) if response.HasField("proof") else ""
    console.print(f"[dim]{strategy} from {response.bundle_version}{variant}{proof}; ms: {stages}")


def _proof(proof: ListProof) -> str:
    return ", exact" if proof.exact else f", exact to place {proof.exact_places}"


def print_json(response: Message, *, with_defaults: bool = True) -> None:
    """Prints a response as protobuf's JSON.

    Args:
        response: any message.
        with_defaults: whether fields without a value are printed too.
    """
    document = MessageToDict(
        response,
        preserving_proto_field_name=True,
        always_print_fields_with_no_presence=with_defaults,
    )
    typer.echo(json.dumps(document, ensure_ascii=False, indent=2))
