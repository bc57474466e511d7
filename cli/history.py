"""`tandem history`: record what users do, look at it, and delete it, through a running gateway."""

import json
import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Final

import typer
from google.protobuf.json_format import MessageToDict, ParseDict, ParseError
from rich.console import Console
from rich.progress import track
from rich.table import Table

from cli.support.connection import GatewayOptions
from cli.support.option_groups import expanded
from cli.support.option_values import read_ids
from cli.support.printing import print_json
from cli.support.query_options import AsJson
from cli.support.titles import Titles
from tandem import Client, ResourceExhausted, event
from tandem.v1 import recommendation_service_pb2 as pb

BATCH: Final = 1_000
SECONDS: Final = 30.0

app = typer.Typer(
    no_args_is_help=True,
    help="What users interacted with: record it, look at it, export it, delete it.\n\n"
    "The gateway keeps a history of each user, so that `tandem recommend --user U` needs nothing "
    "else. It begins with the histories of its bundle and grows by what is recorded.",
    epilog="Examples:\n\n"
    "tandem history record --user 196 --item 50,172\n\n"
    "tandem history show --user 196\n\n"
    "tandem history delete-user 196",
)

User = Annotated[str, typer.Option(help="The user.")]


class HistoryFileError(ValueError):
    """A file of events that is none."""


@app.command(
    "import",
    epilog="A line of a file is an event as JSON, such as\n\n"
    '{"event_id": "order-1", "user_id": "196", "item_id": "50", '
    '"event_time": "2026-01-31T12:00:00Z"}\n\n'
    "Without event_time it is the time of the import. Importing again, also after an "
    "interruption, adds only what is not there yet: an event_id is recorded once. Users who were "
    "deleted come back if the source still has them.",
)
@expanded
def import_(
    *,
    source: Annotated[
        Path, typer.Argument(help="A bundle, such as bundles/ml-100k/current, or a .jsonl file.")
    ],
    connection: GatewayOptions,
) -> None:
    """Record all events of a bundle's data, or of a file."""
    batches = list(_bundle_batches(source) if source.is_dir() else _file_batches(source))
    counts = pb.RecordEventsResponse()
    with connection.client(SECONDS) as client:
        bar = track(batches, "recording", console=Console(stderr=True))
        for answer in (_record(client, batch) for batch in bar):
            counts.recorded += answer.recorded
            counts.known += answer.known
            counts.outdated += answer.outdated
            counts.unattributed += answer.unattributed
    typer.echo(_summary(counts))


@app.command(
    epilog="Example:  tandem history record --user 196 --item 50,172 --time 2026-01-31T12:00:00Z"
)
@expanded
def record(
    *,
    user: User,
    item: Annotated[str, typer.Option(help="What it interacted with, in order.", metavar="ID,ID…")],
    event_id: Annotated[
        str | None,
        typer.Option(
            help="An id under which the event is recorded once, so that it is safe to repeat; "
            "with several items, each adds its place."
        ),
    ] = None,
    at: Annotated[
        datetime | None,
        typer.Option(
            "--time",
            help="When, in UTC unless it says otherwise; now if unset.",
            formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%dT%H:%M:%S%z"],
        ),
    ] = None,
    kind: Annotated[
        str,
        typer.Option(
            "--type", help="What it did: impression, click, purchase, rating or your own."
        ),
    ] = "",
    value: Annotated[float | None, typer.Option(help="Such as a price or a rating.")] = None,
    recommendation_id: Annotated[
        str, typer.Option(help="That of the answer that showed the items.")
    ] = "",
    connection: GatewayOptions,
) -> None:
    """Record what a user did with items."""
    items = read_ids(item)
    first = _in_utc(at) if at else datetime.now(UTC)
    events = [
        event(
            user,
            item_id,
            event_id=f"{event_id}-{place}" if event_id and len(items) > 1 else event_id,
            event_time=first + timedelta(microseconds=place),
            type=kind,
            value=value,
            recommendation_id=recommendation_id,
        )
        for place, item_id in enumerate(items)
    ]
    with connection.client(SECONDS) as client:
        typer.echo(_summary(_record(client, events)))


@app.command(epilog="Example:  tandem history show --user 196 -k 5")
@expanded
def show(
    *,
    user: User,
    max_results: Annotated[int, typer.Option("--max-results", "-k", help="How many events.")] = 20,
    connection: GatewayOptions,
    as_json: AsJson = False,
) -> None:
    """Show the newest events of a user's history, newest first."""
    with connection.client(SECONDS) as client:
        response = client.get_history(user, page_size=max_results)
        if as_json:
            print_json(response, with_defaults=False)
            return
        titles = Titles().look_up(client, [each.item_id for each in response.events])
    table = Table("time", "type", "item", "title", "event", box=None, header_style="bold")
    for each in response.events:
        when = each.event_time.ToDatetime(UTC).isoformat(" ", "seconds").removesuffix("+00:00")
        kind = each.type or "interaction"
        table.add_row(when, kind, each.item_id, titles.title(each.item_id), f"[dim]{each.event_id}")
    Console().print(table)


@app.command("export-user", epilog="Example:  tandem history export-user 196 > 196.jsonl")
@expanded
def export_user(
    *, user: Annotated[str, typer.Argument(help="The user.")], connection: GatewayOptions
) -> None:
    """Print all that the gateway stores about a user, an event as JSON on each line."""
    with connection.client(SECONDS) as client:
        for stored in client.export_user(user):
            line = MessageToDict(stored, preserving_proto_field_name=True)
            typer.echo(json.dumps(line, ensure_ascii=False))


@app.command("merge-users", epilog="Example:  tandem history merge-users session-7f3a 196 --yes")
@expanded
def merge_users(
    *,
    source: Annotated[str, typer.Argument(help="The user whose events they are, and who goes.")],
    user: Annotated[str, typer.Argument(help="The user who gets them.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    connection: GatewayOptions,
) -> None:
    """Make one user's events another's, and delete the first; there is no way back.

    For somebody who was anonymous and has logged in. It may be repeated.
    """
    if not yes:
        typer.confirm(f"Make all events of user {source} those of user {user}?", abort=True)
    with (
        connection.client(SECONDS) as client,
        Console(stderr=True).status("merging"),
    ):
        response = client.merge_users(source, user)
    typer.echo(
        f"merged {response.merged_events:,} events of user {source} into user {user}, "
        f"{response.known_events:,} known already, {response.outdated_events:,} older than what is "
        "kept"
    )


@app.command("delete-user", epilog="Example:  tandem history delete-user 196 --yes")
@expanded
def delete_user(
    *,
    user: Annotated[str, typer.Argument(help="The user.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    connection: GatewayOptions,
) -> None:
    """Delete all that the gateway stores about a user; there is no way back.

    A bundle that was built from the user's interactions still has them: build the next without, by
    `tandem build --deleted-users`.
    """
    if not yes:
        typer.confirm(f"Delete all that is stored about user {user}?", abort=True)
    with (
        connection.client(SECONDS) as client,
        Console(stderr=True).status("deleting"),
    ):
        response = client.delete_user(user)
    typer.echo(f"deleted {response.deleted_events:,} events of user {user}")


def _record(client: Client, events: Sequence[pb.Event]) -> pb.RecordEventsResponse:
    """Records a batch, however often the server asks to come back later."""
    while True:
        try:
            return client.record_events(events)
        except ResourceExhausted as error:
            if error.retry_after is None or error.reason == "HISTORY_FULL":
                raise
            time.sleep(error.retry_after)


def _bundle_batches(path: Path) -> Iterator[list[pb.Event]]:
    from core.bundle import Bundle
    from gateway.history.bundle import batches_of
    from gateway.history.requests import write_event
    from serving.validation import MAX_HISTORY

    for batch in batches_of(Bundle.open(path), MAX_HISTORY):
        yield [write_event(event) for event in batch]


def _file_batches(path: Path) -> Iterator[list[pb.Event]]:
    events: list[pb.Event] = []
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                events.append(ParseDict(json.loads(line), pb.Event()))
            except (ValueError, ParseError) as error:
                raise HistoryFileError(f"{path}, line {number}, is no event: {error}") from error
    for start in range(0, len(events), BATCH):
        yield events[start : start + BATCH]


def _in_utc(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _summary(counts: pb.RecordEventsResponse) -> str:
    parts: Iterable[tuple[int, str]] = (
        (counts.known, "known already"),
        (counts.outdated, "older than what is kept"),
        (counts.unattributed, "of no known recommendation"),
    )
    rest = "".join(f", {count:,} {what}" for count, what in parts if count)
    return f"recorded {counts.recorded:,} events{rest}"
