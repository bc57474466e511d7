"""`tandem batch`: recommendations for every row of a Parquet file.

The rows are taken in parts, and each part of the answer is a file that exists whole or not at all:
a batch that was interrupted goes on with the first part that is missing.
"""

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final

import polars as pl
import typer
from google.protobuf.json_format import MessageToDict
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from cli.support.batch_sender import BatchError, Sender
from cli.support.connection import GatewayOptions
from cli.support.option_groups import expanded
from cli.support.query_options import ConstraintOptions, MaxResults, Strategy
from serving.files.replacing import replacing
from tandem import Client
from tandem.errors import from_status
from tandem.requests import item_constraints, name_of, strategy_value
from tandem.v1 import recommendation_service_pb2 as pb

USER: Final = "user_id"
HISTORY: Final = "history_item_ids"
MANIFEST: Final = "batch.json"
SCHEMA: Final[Mapping[str, pl.DataType | type[pl.DataType]]] = {
    "row": pl.UInt64,
    USER: pl.String,
    "item_ids": pl.List(pl.String),
    "scores": pl.List(pl.Float64),
    "strategy": pl.String,
    "degraded": pl.Boolean,
    "bundle_version": pl.String,
    "recommendation_id": pl.String,
    "error": pl.String,
    "error_message": pl.String,
}

app = typer.Typer()


@dataclass(frozen=True)
class BatchManifest:
    """What makes two batches the same, so that one can go on where the other was interrupted."""

    input_sha256: str
    rows: int
    rows_per_part: int
    request: Mapping[str, Any]
    """What is asked for every row."""
    columns: Sequence[str] = tuple(SCHEMA)
    """Of each file: an earlier release wrote fewer."""

    @property
    def parts(self) -> int:
        """How many files the answer has."""
        return -(-self.rows // self.rows_per_part)

    def claim(self, directory: Path) -> None:
        """Makes the directory that of this batch.

        Raises:
            BatchError: the directory holds another batch, or other files.
        """
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / MANIFEST
        document = json.loads(json.dumps(asdict(self)))
        if path.exists():
            if json.loads(path.read_text(encoding="utf-8")) != document:
                raise BatchError(
                    f"{directory} holds a batch of other rows, options or columns, "
                    f"as its {MANIFEST} says; give another directory"
                )
        elif any(not path.name.startswith(".") for path in directory.iterdir()):
            raise BatchError(f"{directory} is not empty, and holds no batch that could go on")
        else:
            with replacing(path) as file:
                file.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


@app.command(
    epilog="Example:  tandem batch users.parquet recommendations/ --strategy fuse -k 20\n\n"
    f"IN has a column {USER}, or {HISTORY} (lists of ids, oldest first), or both. OUT gets one "
    "Parquet file for each part of the rows: row (the row of IN, from 0), user_id, item_ids, "
    "scores, strategy, degraded, bundle_version, recommendation_id (for the events that come of "
    "the list), error and error_message."
)
@expanded
def batch(
    *,
    source: Annotated[
        Path,
        typer.Argument(metavar="IN", help="A Parquet file of users.", exists=True, dir_okay=False),
    ],
    out: Annotated[
        Path,
        typer.Argument(metavar="OUT", help="A directory, empty or of this batch.", file_okay=False),
    ],
    max_results: MaxResults = 10,
    strategy: Strategy = None,
    constraints: ConstraintOptions,
    allow_degraded: Annotated[
        bool,
        typer.Option(
            "--allow-degraded",
            help="Take what the gateway falls back to; by default it is asked again later.",
        ),
    ] = False,
    rows_per_part: Annotated[int, typer.Option(help="Rows of each file.", min=1)] = 10_000,
    patience: Annotated[
        float, typer.Option(help="Seconds without any answer after which to stop.", min=0)
    ] = 60.0,
    connection: GatewayOptions,
) -> None:
    """Recommend to every row of a Parquet file; a batch that was interrupted goes on."""
    template = pb.RecommendRequest(
        max_results=max_results,
        strategy=strategy_value(strategy),
        constraints=item_constraints(**constraints.arguments()),
        forbid_degraded=not allow_degraded,
        bundle=connection.bundle_name,
    )
    frame = _scan(source)
    rows = frame.select(pl.len()).collect().item()
    manifest = BatchManifest(_sha256(source), rows, rows_per_part, MessageToDict(template))
    manifest.claim(out)
    console = Console(stderr=True)
    started = time.monotonic()
    with (
        Client(connection.address, **connection.credentials()) as client,
        _progress(console) as progress,
    ):
        sender = Sender(client, partial(_request, template), patience=patience)
        made = _make_parts(sender, frame, manifest, out, progress)
    _summarize(console, out, rows, made, time.monotonic() - started)


def _make_parts(
    sender: Sender, frame: pl.LazyFrame, manifest: BatchManifest, out: Path, progress: Progress
) -> int:
    """Writes the parts that are missing.

    Returns:
        How many rows they have.
    """
    task = progress.add_task("Recommending", total=manifest.rows)
    made = 0
    for part in range(manifest.parts):
        path = out / f"part-{part:05d}.parquet"
        rows = frame.slice(part * manifest.rows_per_part, manifest.rows_per_part).collect()
        if path.exists():
            progress.advance(task, len(rows))
            continue
        answered = []
        for row, response in sender.send(rows.to_dicts()):
            answered.append(_record(row, response))
            progress.advance(task)
        table = pl.DataFrame(answered, schema=SCHEMA, orient="row").sort("row")
        with replacing(path) as file:
            table.write_parquet(file)
        made += len(rows)
    return made


def _request(template: pb.RecommendRequest, row: Mapping[str, Any]) -> pb.RecommendRequest:
    """What is asked for a row: whose it is, and what the template says of every row."""
    request = pb.RecommendRequest(
        user_id=row.get(USER) or "", history_item_ids=row.get(HISTORY) or ()
    )
    request.MergeFrom(template)
    return request


def _scan(source: Path) -> pl.LazyFrame:
    """The columns of users and histories, as texts, and the number of each row.

    Raises:
        BatchError: the file has neither.
    """
    frame = pl.scan_parquet(source)
    names = frame.collect_schema().names()
    columns = []
    if USER in names:
        columns.append(pl.col(USER).cast(pl.String))
    if HISTORY in names:
        columns.append(pl.col(HISTORY).cast(pl.List(pl.String)))
    if not columns:
        raise BatchError(f"{source} has neither a column {USER} nor {HISTORY}")
    return frame.select(columns).with_row_index("row")


def _record(row: Mapping[str, Any], answer: pb.BatchRecommendResponse) -> tuple[Any, ...]:
    """A row of the answer, as `SCHEMA` says."""
    response = answer.response
    if answer.HasField("error"):
        failure = from_status(answer.error)
        nothing = (None,) * 6
        error = failure.reason or failure.code.name
        return (row["row"], row.get(USER), *nothing, error, failure.message)
    return (
        row["row"],
        row.get(USER),
        [item.item_id for item in response.recommendations],
        [item.score for item in response.recommendations],
        name_of(pb.Strategy, response.strategy),
        response.degraded,
        response.bundle_version,
        response.recommendation_id,
        None,
        None,
    )


def _summarize(console: Console, out: Path, rows: int, made: int, seconds: float) -> None:
    answers = pl.scan_parquet(out / "part-*.parquet")
    failed = answers.select(pl.col("error").is_not_null().sum()).collect().item() if rows else 0
    speed = f", {made / seconds:.0f} a second" if made else ", all of them made before"
    console.print(f"{rows} rows in {out}{speed}; {failed} of them have an error", highlight=False)


def _progress(console: Console) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    return Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
