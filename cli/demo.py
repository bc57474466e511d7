"""`tandem demo`: one user's way through the running services, for people."""

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cli.support.titles import Titles
from core.bundle import Bundle
from tandem import Client
from tandem.requests import StrategyName, name_of
from tandem.v1 import candidate_service_pb2 as candidate_pb
from tandem.v1 import candidate_service_pb2_grpc as candidate_rpc
from tandem.v1 import recommendation_service_pb2 as pb

app = typer.Typer()

DEFAULT_BUNDLE: Final = Path("bundles/ml-100k/current")
DEFAULT_USER: Final = "196"

_SHOWN = 10
_EXPLAINED = 3
_WIDTH = 110
_SECONDS = 10.0
_WITH_GENERATOR = {
    "rerank": "With the generator, which reranks the shortlist, the gateway recommends",
    "generate": "With the generator alone, which writes a list of its own, the gateway recommends",
    "fuse": "With the generator, which reranks the list and adds to it, the gateway recommends",
}


@app.command(epilog="Example:  tandem demo --user 405")
def demo(
    user: Annotated[
        str | None,
        typer.Option(help="Whose recommendations. \\[default: 196, or who has the most items]"),
    ] = None,
    bundle: Annotated[Path, typer.Option(help="What to serve.")] = DEFAULT_BUNDLE,
) -> None:
    """Start the three services, and show what they recommend to a user, and why.

    Both lists are shown, without the generator and with it, and which is the default.
    """
    import grpc

    from offline.evaluate.served import serving

    console = Console()
    if not console.is_terminal:
        console = Console(width=_WIDTH)  # a log or a pipe: nothing to fit into
    opened = Bundle.open(bundle, verify=False)  # served ones are verified
    user = user or _somebody(opened)
    manifest, positions = opened.manifest, opened.histories.of(user)
    history = [] if positions is None else opened.catalog.ids(positions.tolist())
    default = manifest.blend.default_strategy
    strategy: StrategyName = "generate" if default == "embedding" else default
    with ExitStack() as stack:
        with console.status("starting the candidate, the generator and the gateway"):
            addresses = stack.enter_context(serving(bundle))
        channel = stack.enter_context(grpc.insecure_channel(addresses["candidate"]))
        shortlist = candidate_rpc.CandidateServiceStub(channel).Search(
            candidate_pb.SearchRequest(history_item_ids=history), timeout=_SECONDS
        )
        client = stack.enter_context(Client(addresses["gateway"], timeout=_SECONDS))
        answer = client.recommend(
            user, max_results=_SHOWN, strategy=strategy, item_fields=("title", "attributes")
        )
        found = [item.item_id for item in shortlist.items]
        ratings = _ratings(client, user, answer) if manifest.generator.ratings else {}
        texts = _texts(client, user, answer) if manifest.generator.text else {}
        titles = Titles(answer.recommendations)
        titles.look_up(client, [*history[-_SHOWN:], *found[:_SHOWN]])
    chosen = f"User {user} chose {len(history)} items, lately"
    _show_list(console, titles, chosen, history[-_SHOWN:])
    headline = f"Without the generator: the candidate service shortlists {len(found)}, first of all"
    _show_list(console, titles, headline, found[:_SHOWN])
    console.print(f"\n[bold]{_WITH_GENERATOR[strategy]}[/]")
    _show_recommendations(console, titles, answer, found, ratings)
    _show_texts(console, titles, texts)
    console.print(f"\n[bold]Who names no strategy gets {default}, because[/]")
    for reason in manifest.reasons:
        console.print(f"  {reason}", highlight=False, soft_wrap=True)
    command = f"tandem serve all --bundle {bundle} --console-port 8080"
    console.print(f"\nIn a browser: [bold]{command}[/]", highlight=False, soft_wrap=True)


def _somebody(bundle: Bundle) -> str:
    """The user of the README, or whoever has the most items."""
    histories = bundle.histories
    if DEFAULT_USER in histories.user_index:
        return DEFAULT_USER
    lengths = histories.indptr[1:] - histories.indptr[:-1]
    return list(histories.user_index)[int(lengths.argmax())]


def _texts(client: Client, user: str, answer: pb.RecommendResponse) -> dict[str, str]:
    """What a model writes of the first recommendations."""
    return {
        item.item_id: "".join(part.delta for part in client.explain(user, item.item_id))
        for item in answer.recommendations[:_EXPLAINED]
    }


def _ratings(client: Client, user: str, answer: pb.RecommendResponse) -> dict[str, float]:
    """How the user is expected to rate what is recommended."""
    shown = [item.item_id for item in answer.recommendations]
    return {each.item_id: each.rating for each in client.predict_ratings(user, shown).ratings}


def _show_list(console: Console, titles: Titles, headline: str, items: list[str]) -> None:
    console.print(f"\n[bold]{headline}[/]")
    for item_id in items:
        console.print(f"  {titles.title(item_id)}  [dim]{titles.details(item_id)}", highlight=False)


def _show_texts(console: Console, titles: Titles, texts: dict[str, str]) -> None:
    """Below the list, and apart from it: a text is no account of why an item is listed."""
    if texts:
        console.print("\n[bold]Generated text[/] [dim](a model's words, not why they are listed)")
    for item_id, text in texts.items():
        console.print(f"  {titles.title(item_id)}  [italic]{escape(text)}", highlight=False)


def _show_recommendations(
    console: Console,
    titles: Titles,
    answer: pb.RecommendResponse,
    shortlist: list[str],
    ratings: dict[str, float],
) -> None:
    place = {item_id: rank for rank, item_id in enumerate(shortlist, start=1)}
    table = Table("", "recommended", "", title_justify="left", box=None, header_style="bold")
    for column in ("rating", "score", "retrieval", "generator", "was"):
        table.add_column(column, justify="right")
    for rank, item in enumerate(answer.recommendations, start=1):
        table.add_row(
            str(rank),
            titles.title(item.item_id),
            f"[dim]{titles.details(item.item_id)}",
            f"{ratings[item.item_id]:.1f}" if item.item_id in ratings else "",
            f"{item.score:.2f}",
            f"{item.retrieval_score:.2f}" if item.HasField("retrieval_score") else "",
            f"{item.generator_score:.2f}" if item.HasField("generator_score") else "",
            str(place.get(item.item_id, "")),
        )
    console.print(table)
    steps = ", ".join(
        f"{timing.stage} {timing.duration.ToTimedelta().total_seconds() * 1e3:.1f} ms"
        for timing in answer.timings
    )
    strategy = name_of(pb.Strategy, answer.strategy)
    console.print(f"[dim]strategy {strategy}; {steps}; bundle {answer.bundle_version}")
