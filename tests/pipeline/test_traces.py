"""One trace through three real servers, as a collector gets it: straight from them, and as the real
OpenTelemetry Collector passes it on."""

from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import grpc
import pytest

from gateway.servicer import RecommendationServicer
from tandem.v1 import recommendation_service_pb2 as pb
from tandem.v1 import recommendation_service_pb2_grpc as pb_grpc
from tests.collector import CLIENT, SERVER, Collector, Seen, collecting
from tests.pipeline.otelcol import passing_on
from tests.pipeline.stack import running
from tests.pipeline.whole_bundle import write_whole_bundle

TRACE = "0af7651916cd43dd8448eb211c80319c"
CALLER = "b7ad6b7169203331"
SAMPLED = (("traceparent", f"00-{TRACE}-{CALLER}-01"), ("x-request-id", "r1"))
RECOMMEND = "tandem.v1.RecommendationService/Recommend"
BATCH = "tandem.v1.RecommendationService/BatchRecommend"
SEARCH = "tandem.v1.CandidateService/Search"
RANK = "tandem.v1.GeneratorService/Rank"
USER = "a user whom nobody must know"
HISTORY = ["i1", "i2"]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_whole_bundle(tmp_path_factory.mktemp("traced"))


Way = Callable[[str], AbstractContextManager[str]]
Trace = Callable[[Any], Awaitable[Collector]]


@pytest.fixture(params=[nullcontext, pytest.param(passing_on, marks=pytest.mark.slow)])
def trace(bundle: Path, request: pytest.FixtureRequest) -> Trace:
    """Gives what a collector has got once the servers, which were called, have stopped."""
    way: Way = request.param

    async def traced(call: Any) -> Collector:
        with collecting() as collector, way(collector.address) as endpoint:
            async with running(bundle, otlp_endpoint=endpoint, trace_share=0.0) as hosts:
                address = hosts.addresses["gateway"]
                async with grpc.aio.insecure_channel(address) as channel:
                    await call(pb_grpc.RecommendationServiceStub(channel))
        return collector

    return traced


def request(**fields: Any) -> pb.RecommendRequest:
    fields = {"user_id": USER, "history_item_ids": HISTORY, **fields}
    return pb.RecommendRequest(strategy=pb.STRATEGY_FUSE, max_results=5, **fields)


def only(spans: list[Seen]) -> Seen:
    (span,) = spans
    return span


def assert_stages(collector: Collector, above: list[str]) -> None:
    """A request's stages in all three processes, each under what it is a part of."""
    in_gateway = [[*above, "search"], [*above, "rank"], [*above, "blend"]]
    searched, ranked = [*above, "search", SEARCH, SEARCH], [*above, "rank", RANK, RANK]
    in_candidate = [searched, [*searched, "search"]]
    in_generator = [ranked, *([*ranked, stage] for stage in ("prepare", "queue", "model"))]
    found = [(span.process, collector.path(span)) for span in collector.spans]
    for process, paths in (
        ("tandem-gateway", in_gateway),
        ("tandem-candidate", in_candidate),
        ("tandem-generator", in_generator),
    ):
        for path in paths:
            assert found.count((process, path)) == 1, (process, path, found)


async def test_a_request_is_one_trace_through_all_three(trace: Trace) -> None:
    async def call(stub: Any) -> None:
        await stub.Recommend(request(), metadata=SAMPLED)

    collector = await trace(call)
    assert_stages(collector, [RECOMMEND])
    assert {span.trace_id for span in collector.spans} == {TRACE}
    root = only(collector.named(RECOMMEND))
    assert (root.parent_id, root.kind, root.failed) == (CALLER, SERVER, False)
    assert root.attributes == {
        "rpc.system": "grpc",
        "rpc.service": "tandem.v1.RecommendationService",
        "rpc.method": "Recommend",
        "rpc.grpc.status_code": 0,
        "tandem.request_id": "r1",
        "tandem.strategy": "fuse",
        "tandem.degraded": False,
    }
    attempt = only(collector.named(SEARCH, "tandem-gateway"))
    assert attempt.kind == CLIENT
    assert attempt.attributes["tandem.attempt"] == "first"
    assert only(collector.named("model")).attributes == {"tandem.batch": 1}
    queue, model = only(collector.named("queue")), only(collector.named("model"))
    assert queue.began <= queue.ended == model.began <= model.ended
    assert not any(USER in span.text or "i1" in span.text for span in collector.spans)


async def test_a_stream_has_a_span_for_each_request(trace: Trace) -> None:
    async def call(stub: Any) -> None:
        answers = stub.BatchRecommend(
            iter([pb.BatchRecommendRequest(id="one", request=request())]), metadata=SAMPLED
        )
        assert [answer.id async for answer in answers] == ["one"]

    collector = await trace(call)
    assert_stages(collector, [BATCH, "request"])
    assert {span.trace_id for span in collector.spans} == {TRACE}
    assert only(collector.named(BATCH)).attributes["rpc.grpc.status_code"] == 0


async def test_a_wrong_request_has_a_span_with_its_reason(trace: Trace) -> None:
    async def wrong(stub: Any) -> None:
        with pytest.raises(grpc.aio.AioRpcError):
            await stub.Recommend(pb.RecommendRequest(max_results=-1), metadata=SAMPLED)

    collector = await trace(wrong)
    span = only(collector.spans)
    assert (span.trace_id, span.parent_id, span.name) == (TRACE, CALLER, RECOMMEND)
    assert span.attributes["rpc.grpc.status_code"] == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    assert span.attributes["tandem.reason"] == span.attributes["error.type"]
    # The caller is to blame, so by the conventions this is no error of the server's.
    assert not span.failed


async def test_a_call_that_is_shed_has_a_span_with_its_reason(
    trace: Trace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RecommendationServicer, "retry_after", lambda *_: 1.0)

    async def call(stub: Any) -> None:
        with pytest.raises(grpc.aio.AioRpcError):
            await stub.Recommend(request(), metadata=SAMPLED)

    span = only((await trace(call)).spans)
    assert (span.trace_id, span.parent_id, span.name) == (TRACE, CALLER, RECOMMEND)
    assert span.attributes["rpc.grpc.status_code"] == grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]
    assert span.attributes["tandem.reason"] == "OVERLOADED"
