"""Diagnostics for the terminal: one block per item, in the words of its titles."""

from collections.abc import Iterator

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cli.support.titles import Titles
from tandem.requests import name_of
from tandem.v1 import recommendation_service_pb2 as pb


def diagnosed_items(response: pb.RecommendResponse) -> Iterator[str]:
    """Every item that the diagnostics name, if there are any."""
    for item in response.diagnostics.items:
        yield item.item_id
        yield from (influence.item_id for influence in item.influences)


def print_diagnostics(console: Console, response: pb.RecommendResponse, titles: Titles) -> None:
    """Prints why each recommended item is where it is, and what the rules left out."""
    shown = {item.item_id: rank for rank, item in enumerate(response.recommendations, start=1)}
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for item in response.diagnostics.items:
        rank = shown.get(item.item_id)
        place = f"[bold]{rank}" if rank else "[dim]left out"
        table.add_row(place, f"[bold]{_name(item.item_id, titles)}")
        for label, text in _lines(item, titles):
            table.add_row(f"  [dim]{label}", text)
    console.print()
    console.print(table, highlight=False)


def _lines(item: pb.ItemDiagnostics, titles: Titles) -> Iterator[tuple[str, str]]:
    if item.stages:
        yield (
            "steps",
            " → ".join(f"{s.stage} [bold]{s.rank}[/] [dim]{s.score:.3f}[/]" for s in item.stages),
        )
    if item.sources:
        yield (
            "retrieval",
            " + ".join(f"{s.weight:g} × {s.source} {s.score:.3f}" for s in item.sources),
        )
    if item.influences:
        yield (
            "history",
            ", ".join(
                f"{_name(i.item_id, titles)} [green]+{i.contribution:.3f}[/]"
                for i in item.influences
            ),
        )
    if item.HasField("code"):
        tokens = " ".join(
            f"{escape(t.text)} [dim]{t.log_probability:.3f}[/]" for t in item.code.tokens
        )
        total = sum(token.log_probability for token in item.code.tokens)
        yield "code", f"{tokens} = {total:.3f}"
    for effect in item.rules:
        rule = name_of(pb.Rule, effect.rule)
        move = f"{effect.rank_before or '–'} → {effect.rank_after or 'out'}"
        yield "rule", f"{rule}: {move}, {escape(effect.detail)}"


def _name(item_id: str, titles: Titles) -> str:
    title = titles.title(item_id)
    return escape(f"{item_id} {title}" if title else item_id)
