"""Each attempt of a call is a span of its own, and sends its own place in the trace."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.calls.caller import CallPolicy
from gateway.calls.spans import _method_of
from serving.telemetry.export import Exporter
from serving.telemetry.tracing import Tracing, span
from tandem.v1 import candidate_service_pb2, catalog_service_pb2, generator_service_pb2
from tests.collector import CLIENT, Collector, collecting, standing
from tests.gateway.calls.pool import LATER, pool, settle
from tests.gateway.calls.test_hedging import MANY, Slow

METHOD = "/tandem.v1.RecommendationService/Recommend"
SEARCH = "tandem.v1.CandidateService/Search"


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as collector:
        yield collector


async def test_a_retry_is_a_span_beside_the_first(tmp_path: Path, collector: Collector) -> None:
    exporter = Exporter("gateway", "1", collector.address)
    async with pool(tmp_path, 2, CallPolicy(retry_ratio=1.0)) as two:
        await settle(two, 10)
        two.services[0].failure = LATER
        traces = []
        for _ in range(2):  # they take turns: one of them begins with the one that fails
            position = Tracing(exporter.tracer, 1.0).arrive(METHOD, {})
            with standing(position), span("search"):
                await two.search()
            traces.append(position.parent[3:35])
    exporter.close()
    attempts = [seen for seen in collector.named(SEARCH) if seen.trace_id in traces]
    assert sorted(seen.attributes["tandem.attempt"] for seen in attempts) == [
        "first",
        "first",
        "retry",
    ]
    (failed,) = [seen for seen in attempts if seen.failed]
    assert failed.attributes["error.type"] == "UNAVAILABLE"
    assert failed.attributes["rpc.grpc.status_code"] == 14
    (retry,) = [seen for seen in attempts if seen.attributes["tandem.attempt"] == "retry"]
    assert (retry.kind, retry.parent_id) == (CLIENT, failed.parent_id)
    assert retry.attributes["server.address"] != failed.attributes["server.address"]


async def test_a_hedge_is_a_span_beside_the_first(tmp_path: Path, collector: Collector) -> None:
    exporter = Exporter("gateway", "1", collector.address)
    async with pool(tmp_path, 2, MANY) as two:
        await settle(two, 200)
        slow = Slow(two.services[0])
        # On a busy machine the other may be late, and the slow one be asked by a hedge at first.
        while slow.begun < 3:
            with standing(Tracing(exporter.tracer, 1.0).arrive(METHOD, {})), span("search"):
                await two.search()
        await slow.gone.wait()
    exporter.close()
    attempts = collector.named(SEARCH)
    called_off = [s for s in attempts if s.attributes["rpc.grpc.status_code"] == 1]
    # On a busy machine there may be hedges before; the last call is the one that is slow.
    first = [s for s in called_off if s.attributes["tandem.attempt"] == "first"][-1]
    (hedge,) = [s for s in attempts if s.trace_id == first.trace_id and s is not first]
    assert hedge.attributes["tandem.attempt"] == "hedge"
    assert first.parent_id == hedge.parent_id
    assert not first.failed
    assert hedge.attributes["rpc.grpc.status_code"] == 0


async def test_each_attempt_is_the_parent_of_what_it_calls(
    tmp_path: Path, collector: Collector
) -> None:
    exporter = Exporter("gateway", "1", collector.address)
    async with pool(tmp_path, 1, CallPolicy()) as one:
        sent: list[str] = []
        enter = one.services[0].enter

        async def note(request: object, history: object, context: object) -> None:
            metadata = dict(context.invocation_metadata())  # type: ignore[attr-defined]
            sent.append(metadata.get("traceparent", ""))
            await enter(request, history, context)  # type: ignore[arg-type]

        one.services[0].enter = note  # type: ignore[method-assign]
        await one.search()
        with standing(Tracing(exporter.tracer, 1.0).arrive(METHOD, {})):
            await one.search()
    exporter.close()
    (attempt,) = collector.named(SEARCH)
    assert sent == ["", f"00-{attempt.trace_id}-{attempt.span_id}-03"]


@pytest.mark.parametrize(
    ("message", "method"),
    [
        (candidate_service_pb2.SearchRequest, SEARCH),
        (catalog_service_pb2.GetItemsRequest, "tandem.v1.CatalogService/GetItems"),
        (generator_service_pb2.RankRequest, "tandem.v1.GeneratorService/Rank"),
    ],
)
def test_a_method_is_known_by_its_request(message: Any, method: str) -> None:
    name, attributes = _method_of(message)
    assert name == method
    assert attributes["rpc.method"] == method.rpartition("/")[2]
