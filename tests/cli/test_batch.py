"""`tandem batch`: Parquet in and out, whole parts only, and on from where it was interrupted."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import grpc
import polars as pl
import pytest
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from structlog.testing import capture_logs

import tandem
from cli.support.batch_sender import BatchError, Sender
from tandem import Client, event
from tandem.errors import from_status
from tandem.v1 import recommendation_service_pb2 as pb
from tests.cli.command import Result, run
from tests.cli.gateway import Gateway
from tests.tiny_bundle import write_tiny_bundle

ROWS = 25


@pytest.fixture
def users(tmp_path: Path) -> Path:
    """Two known users, an unknown one, and histories that were given."""
    path = tmp_path / "users.parquet"
    names = [("ann", "bob", "nobody", None, "ann")[i % 5] for i in range(ROWS)]
    histories = [[["i3", "i4"], None][i % 5 != 3] for i in range(ROWS)]
    pl.DataFrame(
        {"user_id": names, "history_item_ids": histories, "note": range(ROWS)}
    ).write_parquet(path)
    return path


@pytest.fixture
def batch(gateway: Gateway, users: Path, tmp_path: Path) -> Callable[..., Result]:
    def call(*options: str, out: Path = tmp_path / "out", source: Path = users) -> Result:
        address = ("--address", gateway.address)
        return run(
            "batch", str(source), str(out), "-k", "3", "--rows-per-part", "10", *address, *options
        )

    return call


def test_every_row_has_its_answer_or_its_error(
    batch: Callable[..., Result], gateway: Gateway, tmp_path: Path
) -> None:
    result = batch()
    assert result.code == 0, result.stderr
    assert "25 rows in" in result.stderr
    assert "5 of them have an error" in result.stderr
    answers = pl.read_parquet(tmp_path / "out" / "part-*.parquet")
    assert answers["row"].to_list() == list(range(ROWS))
    with Client(gateway.address, timeout=10) as client:
        given = client.recommend(history=["i3", "i4"], max_results=3)
        ann = client.recommend("ann", max_results=3)
    for row in answers.to_dicts():
        assert row["user_id"] == ("ann", "bob", "nobody", None, "ann")[row["row"] % 5]
        if row["user_id"] == "nobody":
            assert (row["error"], row["item_ids"]) == ("UNKNOWN_USER", None)
            continue
        assert row["error"] is None
        assert len(row["item_ids"]) == len(row["scores"]) == 3
        assert (row["strategy"], row["bundle_version"]) == ("rerank", "tiny/1")
        expected = {"ann": ann, None: given}.get(row["user_id"])
        if expected is not None:
            assert row["item_ids"] == [item.item_id for item in expected.recommendations]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "batch.json", "part-00000.parquet", "part-00001.parquet", "part-00002.parquet",
    ]  # fmt: skip


def test_a_click_on_an_offline_list_is_attributed(tmp_path: Path) -> None:
    users, out = tmp_path / "users.parquet", tmp_path / "out"
    histories = [["i3", "i4"], ["i3"], None]
    pl.DataFrame({"user_id": ["ann", "bob", None], "history_item_ids": histories}).write_parquet(
        users
    )
    history = str(tmp_path / "history.sqlite")
    with capture_logs(), Gateway(write_tiny_bundle(tmp_path), history=history) as gateway:
        options = ("--strategy", "fuse", "--address", gateway.address)
        assert run("batch", str(users), str(out), *options).code == 0
        ann, bob, failed = pl.read_parquet(out / "part-*.parquet").to_dicts()
        assert ann["recommendation_id"] != bob["recommendation_id"]
        assert (failed["error"] is None, failed["recommendation_id"]) == (False, None)
        clicked = ann["item_ids"][1]
        click = event("ann", clicked, type="click", recommendation_id=ann["recommendation_id"])
        with Client(gateway.address, timeout=10) as client:
            assert client.record_events([click]).unattributed == 0
        (count,) = gateway.stack.servicer.attribution.items()
        assert (count.labels.strategy, count.labels.position, count.clicked) == ("fuse", "2", 1)


def test_it_goes_on_with_the_parts_that_are_missing(
    batch: Callable[..., Result], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert batch().code == 0
    first, second = out / "part-00000.parquet", out / "part-00001.parquet"
    kept, remade = first.stat().st_mtime_ns, second.read_bytes()
    second.unlink()
    (out / ".part-00001.parquet.tmp").write_bytes(remade[:50])  # what a crash leaves behind
    assert batch().code == 0
    assert first.stat().st_mtime_ns == kept
    assert pl.read_parquet(second).height == 10
    assert "all of them made before" in batch().stderr


def test_it_does_not_mix_batches(batch: Callable[..., Result], users: Path, tmp_path: Path) -> None:
    assert batch().code == 0
    other = batch("--strategy", "embedding")
    assert other.code == 1
    assert "a batch of other rows, options or columns" in other.stderr
    manifest = tmp_path / "out" / "batch.json"
    text = manifest.read_text()
    manifest.write_text(text.replace('"recommendation_id",', ""))  # as 0.2.0 had no such column
    assert "a batch of other rows, options or columns" in batch().stderr
    manifest.write_text(text)
    pl.read_parquet(users).head(3).write_parquet(users)
    assert "a batch of other rows, options or columns" in batch().stderr
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").touch()
    assert "is not empty" in batch(out=tmp_path / "full").stderr


def test_what_is_no_list_of_users(batch: Callable[..., Result], tmp_path: Path) -> None:
    path = tmp_path / "other.parquet"
    pl.DataFrame({"customer": ["ann"]}).write_parquet(path)
    result = batch(source=path)
    assert result.code == 1
    assert "has neither a column user_id nor history_item_ids" in result.stderr


def test_no_rows(batch: Callable[..., Result], tmp_path: Path) -> None:
    path = tmp_path / "none.parquet"
    pl.DataFrame({"user_id": []}, schema={"user_id": pl.String}).write_parquet(path)
    assert batch(source=path).code == 0


def test_numbers_are_user_ids_too(batch: Callable[..., Result], tmp_path: Path) -> None:
    path = tmp_path / "numbers.parquet"
    pl.DataFrame({"user_id": [7]}).write_parquet(path)
    assert batch(source=path).code == 0
    answers = pl.read_parquet(tmp_path / "out" / "part-00000.parquet")
    assert answers["error_message"][0].startswith("user '7'")


def test_nobody_there(batch: Callable[..., Result]) -> None:
    result = batch("--address", "127.0.0.1:1", "--patience", "0")
    assert result.code == 1
    assert "no answer for 0 seconds" in result.stderr
    assert "the same command goes on from here" in result.stderr


class Flaky:
    """A gateway's client: what each stream does is foretold."""

    def __init__(
        self, *streams: Callable[[list[str]], Iterator[pb.BatchRecommendResponse]]
    ) -> None:
        self._streams = iter(streams)
        self.sent: list[list[str]] = []

    def batch_recommend(
        self, requests: Iterator[pb.BatchRecommendRequest]
    ) -> Iterator[pb.BatchRecommendResponse]:
        self.sent.append([request.id for request in requests])
        return next(self._streams)(self.sent[-1])


def answer(identifier: str) -> pb.BatchRecommendResponse:
    return pb.BatchRecommendResponse(id=identifier, response=pb.RecommendResponse())


def failure(identifier: str, code: grpc.StatusCode, seconds: int = 0) -> pb.BatchRecommendResponse:
    info, retry = ErrorInfo(reason="SOME"), RetryInfo()
    retry.retry_delay.seconds = seconds
    response = pb.BatchRecommendResponse(id=identifier)
    response.error.code = code.value[0]
    for detail in (info, retry):
        response.error.details.add().Pack(detail)
    return response


def send(flaky: Flaky, rows: int, patience: float = 60) -> tuple[dict[int, str], list[float]]:
    """The reason of each row's error, if any, and the waits in between."""
    waits: list[float] = []

    def request(_: Mapping[str, Any]) -> pb.RecommendRequest:
        return pb.RecommendRequest()

    sender = Sender(cast("Client", flaky), request, patience=patience, sleep=waits.append)
    answered = sender.send([{"row": row} for row in range(rows)])
    return {row["row"]: from_status(response.error).reason for row, response in answered}, waits


def test_a_broken_stream_is_resumed_with_what_has_no_answer() -> None:
    def breaks(sent: list[str]) -> Iterator[pb.BatchRecommendResponse]:
        yield answer(sent[2])
        raise tandem.Unavailable(grpc.StatusCode.UNAVAILABLE, "gone")

    flaky = Flaky(breaks, breaks, lambda sent: map(answer, sent))
    answers, waits = send(flaky, rows=5)
    assert answers == dict.fromkeys(range(5), "")
    assert flaky.sent == [["0", "1", "2", "3", "4"], ["0", "1", "3", "4"], ["0", "1", "4"]]
    assert len(waits) == 2


def test_a_row_that_was_shed_is_sent_again_when_the_server_said() -> None:
    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    flaky = Flaky(
        *[lambda sent: iter([failure(sent[0], code, seconds=7), *map(answer, sent[1:])])] * 5,
        lambda sent: map(answer, sent),
    )
    answers, waits = send(flaky, rows=3)
    assert answers == dict.fromkeys(range(3), "")
    assert waits == [7.0] * 5


def test_a_row_that_keeps_failing_by_itself_has_an_error_in_the_end() -> None:
    code = grpc.StatusCode.DEADLINE_EXCEEDED
    flaky = Flaky(
        lambda _: iter([failure("0", code), answer("1")]),
        *[lambda sent: iter([failure(row, code) for row in sent])] * 2,
    )
    answers, _ = send(flaky, rows=2)
    assert answers == {0: "SOME", 1: ""}
    assert flaky.sent == [["0", "1"], ["0"], ["0"]]


def test_what_a_server_refuses_for_good_is_raised() -> None:
    def refuses(_: list[str]) -> Iterator[pb.BatchRecommendResponse]:
        raise tandem.Error(grpc.StatusCode.UNIMPLEMENTED, "an older gateway")

    with pytest.raises(tandem.Error, match="an older gateway"):
        send(Flaky(refuses), rows=2)


def test_patience_ends() -> None:
    shed = [lambda sent: iter([failure(sent[0], grpc.StatusCode.UNAVAILABLE)])]
    with pytest.raises(BatchError, match="no answer for 0 seconds"):
        send(Flaky(*shed), rows=1, patience=0)
