"""Traces of one server: what is adopted, recorded, passed on and logged; failing collectors."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.trace import Tracer

from core.bundle import Bundle
from core.errors import NotFound, SettingsError
from services.candidate.settings import CandidateSettings
from serving.settings import load_settings
from serving.telemetry import export
from serving.telemetry.calls import ServedCalls
from serving.telemetry.export import Exporter
from serving.telemetry.logs import _add_context
from serving.telemetry.tracing import (
    NOWHERE,
    Position,
    Tracing,
    note_spans,
    span,
    trace_id,
    trace_metadata,
)
from serving.testing import serving
from serving.workers import Workers
from tandem.v1 import candidate_service_pb2 as pb
from tandem.v1 import candidate_service_pb2_grpc as pb_grpc
from tests.collector import Collector, Seen, collecting, standing
from tests.gateway.fakes import WAIT, FakeCandidate
from tests.tiny_bundle import write_tiny_bundle

METHOD = "/tandem.v1.CandidateService/Search"
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
attach = pb_grpc.add_CandidateServiceServicer_to_server


class Recorder:
    """A collector, and what sends to it."""

    def __init__(self, collector: Collector) -> None:
        self.collector = collector
        self.exporter = Exporter("candidate", "1", collector.address)

    @property
    def tracer(self) -> Tracer:
        return self.exporter.tracer

    def spans(self) -> list[Seen]:
        """All of them; the last thing to be asked for."""
        self.exporter.close()
        return self.collector.spans


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    with collecting() as collector:
        yield Recorder(collector)


def header(flags: str) -> dict[str, str]:
    return {"traceparent": f"00-{TRACE}-{PARENT}-{flags}"}


class TestArrival:
    def test_without_a_collector_a_trace_passes_through(self) -> None:
        sent = header("01") | {"tracestate": "other=1"}
        with standing(Tracing().arrive(METHOD, sent)), span("stage") as recorded:
            assert recorded is None
            assert dict(trace_metadata()) == sent
            assert trace_id() == TRACE
        assert Tracing().arrive(METHOD, {}) is NOWHERE
        assert trace_metadata() == ()

    def test_what_the_caller_does_not_record_is_not_recorded(self, recorder: Recorder) -> None:
        position = Tracing(recorder.tracer, 1.0).arrive(METHOD, header("00"))
        assert position == Position(header("00")["traceparent"])

    def test_what_the_caller_records_is_recorded(self, recorder: Recorder) -> None:
        position = Tracing(recorder.tracer, 0.0).arrive(METHOD, header("01"))
        assert position.span is not None
        with standing(position):
            assert trace_id() == TRACE
            assert PARENT not in str(trace_metadata())

    @pytest.mark.parametrize("recorded", [False, True])
    def test_a_new_trace_is_decided_for_all_services(
        self, recorder: Recorder, recorded: bool
    ) -> None:
        begun = Tracing(recorder.tracer, float(recorded)).arrive(METHOD, {})
        # The service behind would decide otherwise, and does as it is told.
        behind = Tracing(recorder.tracer, float(not recorded))
        with standing(begun):
            followed = behind.arrive(METHOD, dict(trace_metadata()))
        assert (followed.span is not None) == recorded
        assert followed.parent[3:35] == begun.parent[3:35] != "0" * 32

    def test_the_share_is_that_of_the_calls(self, recorder: Recorder) -> None:
        tracing = Tracing(recorder.tracer, 0.1)
        begun = [tracing.arrive(METHOD, {}) for _ in range(4_000)]
        # Binomial: 400 expected; beyond 6 standard deviations once in a thousand million.
        assert 280 < sum(position.span is not None for position in begun) < 520
        assert len({position.parent for position in begun}) == len(begun)

    @given(
        st.text()
        | st.binary()
        | st.sampled_from(
            [
                f"00-{'0' * 32}-{PARENT}-01",
                f"00-{TRACE}-{'0' * 16}-01",
                f"ff-{TRACE}-{PARENT}-01",
                f"00-{TRACE.upper()}-{PARENT}-01",
                f"00-{TRACE}-{PARENT}-01-more",
                f"00-{TRACE}-{PARENT}-0",
            ]
        )
    )
    def test_what_is_no_parent_is_none(self, sent: str | bytes) -> None:
        assert Tracing().arrive(METHOD, {"traceparent": sent}) is NOWHERE

    def test_a_state_that_is_too_long_stays_behind(self) -> None:
        sent = header("01") | {"tracestate": "k=" + "v" * 600}
        with standing(Tracing().arrive(METHOD, sent)):
            assert dict(trace_metadata()) == header("01")


class TestSpans:
    async def test_they_nest_on_tasks_and_threads(self, recorder: Recorder) -> None:
        workers = Workers(1)

        def compute() -> None:
            with span("computed"):
                pass

        async def stage() -> None:
            with span("stage"):
                await workers.run(compute)

        with standing(Tracing(recorder.tracer, 1.0).arrive(METHOD, {})), span("request"):
            await asyncio.gather(stage(), stage())
        workers.close()
        recorder.spans()
        paths = [recorder.collector.path(each) for each in recorder.collector.named("computed")]
        assert paths == 2 * [["request", "stage", "computed"]]

    def test_an_error_is_named_and_not_quoted(self, recorder: Recorder) -> None:
        with (
            standing(Tracing(recorder.tracer, 1.0).arrive(METHOD, {})),
            pytest.raises(NotFound),
            span("stage"),
        ):
            raise NotFound("user 'secret' has no history", reason="UNKNOWN_USER")
        (seen,) = recorder.spans()
        assert seen.failed
        assert seen.attributes["error.type"] == "UNKNOWN_USER"
        assert "secret" not in seen.text

    async def test_what_is_cancelled_has_not_failed(self, recorder: Recorder) -> None:
        async def stage() -> None:
            with span("stage"):
                await asyncio.Event().wait()

        with standing(Tracing(recorder.tracer, 1.0).arrive(METHOD, {})):
            task = asyncio.create_task(stage())
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        (seen,) = recorder.spans()
        assert not seen.failed
        assert seen.attributes["error.type"] == "CancelledError"

    def test_stages_that_are_over_follow_one_another(self, recorder: Recorder) -> None:
        with standing(Tracing(recorder.tracer, 1.0).arrive(METHOD, {})):
            note_spans(1_000_000_000, ("one", 0.5), ("two", 0.25), batch=3)
        one, two = recorder.spans()
        assert (one.began, one.ended) == (1_000_000_000, 1_500_000_000)
        assert (two.began, two.ended) == (1_500_000_000, 1_750_000_000)
        assert one.attributes == two.attributes == {"batch": 3}


@asynccontextmanager
async def served(recorder: Recorder, tmp_path: Path) -> AsyncIterator[tuple[FakeCandidate, Any]]:
    fake = FakeCandidate(Bundle.open(write_tiny_bundle(tmp_path)))
    calls = ServedCalls(tracing=Tracing(recorder.tracer, 1.0))
    async with serving(fake, attach, calls=calls) as channel:
        yield fake, pb_grpc.CandidateServiceStub(channel)


async def test_a_defect_and_a_late_call_are_errors(recorder: Recorder, tmp_path: Path) -> None:
    async with served(recorder, tmp_path) as (fake, stub):
        with pytest.raises(grpc.aio.AioRpcError):
            await stub.Search(pb.SearchRequest(history_item_ids=[WAIT]), timeout=0.2)
        await fake.cancelled.wait()

        async def broken(*_: object) -> None:
            raise RuntimeError("password=hunter2")

        fake.enter = broken  # type: ignore[assignment,method-assign]
        with pytest.raises(grpc.aio.AioRpcError):
            await stub.Search(pb.SearchRequest())
    late, defect = recorder.spans()
    assert late.failed
    assert defect.failed
    assert late.attributes["error.type"] == "DEADLINE_EXCEEDED"
    assert defect.attributes["tandem.reason"] == "INTERNAL"
    assert "hunter2" not in defect.text


async def test_lines_of_a_call_name_its_trace(
    recorder: Recorder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []

    def note(_logger: object, _method: str, event: Any) -> Any:
        seen.append(_add_context("candidate")(None, "", event))
        raise structlog.DropEvent

    structlog.configure(processors=[note])
    try:
        async with served(recorder, tmp_path) as (_, stub):
            metadata = (*header("01").items(), ("x-request-id", "r1"))
            await stub.Search(pb.SearchRequest(), metadata=metadata)
    finally:
        structlog.reset_defaults()
    (line,) = [line for line in seen if line["event"] == "call"]
    assert (line["trace_id"], line["request_id"]) == (TRACE, "r1")


class TestCollectorsThatFail:
    """Nothing waits for them but the end of the server, and that for no longer than it may."""

    def send(self, exporter: Exporter, spans: int) -> None:
        tracing = Tracing(exporter.tracer, 1.0)
        for _ in range(spans):
            with standing(tracing.arrive(METHOD, {})), span("stage"):
                pass

    @pytest.fixture(autouse=True)
    def _little_patience(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(export, "CLOSE_SECONDS", 0.2)

    def test_one_that_is_away_costs_the_spans(self) -> None:
        exporter = Exporter("candidate", "1", "http://127.0.0.1:1")
        self.send(exporter, 3 * export.QUEUE)
        exporter.close()

    def test_one_that_hangs_is_left_alone_at_the_end(self, recorder: Recorder) -> None:
        recorder.collector.hangs = True
        self.send(recorder.exporter, 3 * export.QUEUE)
        assert recorder.collector.asked.wait(30)
        before = recorder.collector.exports
        recorder.exporter.close()
        # What was under way is given up, and what waited is not tried any more.
        assert recorder.collector.exports <= before + 1


@pytest.mark.parametrize("endpoint", ["localhost:4317", "http://collector", "ftp://a:1", ""])
def test_an_endpoint_that_is_none_is_refused(endpoint: str, tmp_path: Path) -> None:
    bundle = write_tiny_bundle(tmp_path)
    with pytest.raises(SettingsError, match="--otlp-endpoint: give http://HOST:PORT"):
        load_settings(CandidateSettings, {}, bundle=bundle, otlp_endpoint=endpoint)
