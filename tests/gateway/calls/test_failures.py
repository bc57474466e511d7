"""What a caller gets when a service fails, is slow, or serves another bundle."""

from pathlib import Path

import grpc
import pytest
from structlog.testing import capture_logs

import tandem
from core import errors
from core.bundle import Bundle
from gateway.calls.clients import CandidateClient
from gateway.calls.failures import translate
from gateway.deadline import Deadline
from gateway.domain import Query, ResolvedQuery, Strategy
from serving.telemetry.reasons import REASONS
from serving.testing import listening
from tandem.v1 import recommendation_service_pb2 as pb
from tests.gateway.fakes import WAIT, FakeCandidate, attach_candidate
from tests.gateway.stack import Stack, raw
from tests.tiny_bundle import write_tiny_bundle

FAILURES = [
    # What a service answers, and what the gateway's caller gets.
    (
        errors.InvalidArgument("bad", reason="WHY", field="f"),
        tandem.InvalidArgument,
        "WHY",
        {"field": "f"},
    ),
    (errors.NotFound("gone", reason="GONE"), tandem.NotFound, "GONE", {}),
    (errors.FailedPrecondition("no", reason="NO_TEXT"), tandem.FailedPrecondition, "NO_TEXT", {}),
    (
        errors.ResourceExhausted("busy", reason="BUSY", retry_after=0.3),
        tandem.ResourceExhausted,
        "BUSY",
        None,
    ),
    (errors.Unavailable("later", reason="WARMING_UP"), tandem.Unavailable, "WARMING_UP", None),
    (
        errors.DeadlineExceeded("late", reason="LATE"),
        tandem.DeadlineExceeded,
        "DEADLINE_EXCEEDED",
        None,
    ),
    (errors.Internal("secret", reason="X"), tandem.Internal, "SERVICE_FAILED", None),
    (errors.BundleError("secret"), tandem.FailedPrecondition, "BUNDLE_INVALID", {}),
]


async def test_items_of_many_megabytes_come_through(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thousand of the largest: gRPC itself would take 4 MiB."""
    title = "x" * 20_000
    item_ids = [f"n{number}" for number in range(1_000)]
    stack.candidate.live = {item_id: ["drama"] for item_id in item_ids}
    monkeypatch.setattr(stack.candidate, "title", lambda _: title)
    found = await stack.client.get_items(item_ids)
    assert [item.title for item in found.items] == [title] * 1_000


async def test_a_message_that_grpc_refuses_is_no_overload(tmp_path: Path) -> None:
    """It says nothing of a service's load, and no later attempt would fare better."""
    bundle = Bundle.open(write_tiny_bundle(tmp_path))
    fake = FakeCandidate(bundle)
    async with listening(fake, attach_candidate, max_message_bytes=100) as address:
        client = CandidateClient(address, bundle.version)
        query = ResolvedQuery(Query("ann", None, 3, Strategy.EMBEDDING), ("i1",) * 1_000)
        try:
            with pytest.raises(errors.Internal) as caught:
                await client.search(query, 3, Deadline.of_caller(10, default=10, limit=10))
        finally:
            await client.close()
    assert caught.value.reason == "MESSAGE_TOO_LARGE"
    assert caught.value.metadata == {"service": "candidate"}


@pytest.mark.parametrize(("raised", "received", "reason", "metadata"), FAILURES)
@pytest.mark.parametrize("name", ["candidate", "generator"])
async def test_a_services_failure_becomes_the_gateways(
    stack: Stack,
    name: str,
    raised: errors.TandemError,
    received: type[tandem.Error],
    reason: str,
    metadata: dict[str, str] | None,
) -> None:
    getattr(stack, name).failure = raised
    for strategy in (pb.STRATEGY_RERANK, pb.STRATEGY_FUSE):
        request = pb.RecommendRequest(user_id="ann", strategy=strategy, forbid_degraded=True)
        with pytest.raises(tandem.Error) as caught:
            await raw(stack.channel, "Recommend", request)
        assert type(caught.value) is received
        assert caught.value.reason == reason
        expected = {"service": name} if metadata is None else metadata
        assert caught.value.metadata == expected
        assert caught.value.request_id
    if isinstance(raised, errors.ResourceExhausted):
        assert caught.value.retry_after == 0.3


@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code.value[0]])
def test_what_no_service_said_has_a_known_reason(code: grpc.StatusCode) -> None:
    """A status without a reason comes from gRPC, or from what stands in between."""
    assert translate(tandem.Error(code, "text"), "candidate").reason in REASONS


async def test_unavailable_is_tried_again_and_nothing_else_is(stack: Stack) -> None:
    request = pb.RecommendRequest(
        user_id="ann", strategy=pb.STRATEGY_EMBEDDING, forbid_degraded=True
    )
    for _ in range(20):  # earn retries
        await raw(stack.channel, "Recommend", request)
    stack.candidate.failure = errors.Unavailable("later", reason="LATER")
    with pytest.raises(tandem.Unavailable):
        await raw(stack.channel, "Recommend", request)
    attempts = len(stack.candidate.requests)
    assert attempts == 20 + 3
    stack.candidate.failure = errors.Internal("no", reason="NO")
    with pytest.raises(tandem.Internal):
        await raw(stack.channel, "Recommend", request)
    assert len(stack.candidate.requests) == attempts + 1


async def test_a_service_that_is_too_slow(stack: Stack) -> None:
    cases = (
        (pb.STRATEGY_EMBEDDING, "candidate"),
        (pb.STRATEGY_GENERATE, "generator"),
    )
    for strategy, service in cases:
        # Without a deadline of its own, so that it is the gateway's that passes.
        request = pb.RecommendRequest(
            history_item_ids=[WAIT], strategy=strategy, forbid_degraded=True
        )
        with pytest.raises(tandem.DeadlineExceeded) as caught:
            await raw(stack.channel, "Recommend", request, timeout=None)
        assert caught.value.metadata == {"service": service}
        assert caught.value.reason == "DEADLINE_EXCEEDED"


async def test_a_service_with_another_bundle_is_noticed_once(stack: Stack) -> None:
    stack.candidate.version = "tiny/2"
    with capture_logs() as logs:
        for _ in range(3):
            response = await stack.client.recommend("ann", strategy="embedding")
    assert response.bundle_version == "tiny/1"
    noticed = [line for line in logs if line["event"] == "service has another bundle"]
    assert [(n["service"], n["theirs"], n["ours"]) for n in noticed] == [
        ("candidate", "tiny/2", "tiny/1")
    ]


async def test_warming_up_calls_both_services(stack: Stack) -> None:
    await stack.servicer.warm_up()
    assert stack.candidate.requests
    assert stack.generator.requests


async def test_services_may_come_later(stack: Stack) -> None:
    stack.candidate.failure = errors.NotFound("no", reason="NO")
    with capture_logs() as logs:
        await stack.servicer.warm_up()
    assert "serving without having reached the services" in {line["event"] for line in logs}
