"""What the gateway counts of answers, stages and services; and that users make no series."""

from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from core.bundle import Bundle
from core.errors import Unavailable
from gateway.calls.caller import CallPolicy
from gateway.calls.circuit import Limits
from gateway.calls.clients import CandidateClient
from gateway.deadline import Deadline
from gateway.domain import Answer, Degradation, Fallback, Query, Recommended, ResolvedQuery
from gateway.domain import Strategy as Made
from gateway.metrics import GatewayMetrics, ServiceMetrics
from serving.telemetry.calls import ServedCalls
from serving.testing import listening
from tests.gateway.fakes import FakeCandidate, attach_candidate
from tests.gateway.stack import running
from tests.serving.telemetry.test_metrics import series
from tests.tiny_bundle import write_tiny_bundle

QUERY = ResolvedQuery(Query("", ("i1",), 3, Made.EMBEDDING), ("i1",))
SOON = 10.0


def soon() -> Deadline:
    return Deadline.of_caller(SOON, default=SOON, limit=SOON)


class Counted:
    """Metrics, and what they say."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.metrics = GatewayMetrics(self.registry)

    def __call__(self, name: str, **labels: str) -> float:
        if "service" in labels:
            labels = {"bundle": "", **labels}
        return self.registry.get_sample_value(f"tandem_gateway_{name}", labels) or 0.0


async def test_an_answer_counts_its_strategy_stages_and_items(tmp_path: Path) -> None:
    counted = Counted()
    async with running(write_tiny_bundle(tmp_path), metrics=counted.metrics) as stack:
        answer = await stack.client.recommend("ann", strategy="fuse", max_results=5)
        assert counted("answers_total", strategy="fuse") == 1
        for stage in ("history", "search", "rank", "blend"):
            assert counted("stage_seconds_count", stage=stage) == 1
        found = sum(item.HasField("retrieval_score") for item in answer.recommendations)
        assert counted("items_total", source="shortlist") == found
        assert counted("items_total", source="generator") == 5 - found
        for service in ("candidate", "generator"):
            assert counted("service_calls_total", service=service, code="OK") == 1
            assert counted("service_attempts_total", service=service, attempt="first") == 1
            assert counted("service_addresses", service=service) == 1
        assert counted("requests_running") == counted("requests_waiting") == 0


async def test_a_degraded_answer_counts_why_and_what_instead(tmp_path: Path) -> None:
    counted = Counted()
    async with running(write_tiny_bundle(tmp_path), metrics=counted.metrics) as stack:
        stack.candidate.failure = stack.generator.failure = Unavailable("gone", reason="WARMING_UP")
        await stack.client.recommend("ann", strategy="rerank", max_results=4)
    assert counted("answers_total", strategy="popularity") == 1
    assert counted("items_total", source="popularity") == 4
    for stage, fallback in (("search", "generation"), ("generate", "popularity")):
        labels = {"stage": stage, "reason": "WARMING_UP", "fallback": fallback}
        assert counted("degradations_total", **labels) == 1
        # What failed has taken its time as well.
        assert counted("stage_seconds_count", stage=stage) == 1
    assert counted("service_calls_total", service="candidate", code="UNAVAILABLE") == 1


def test_a_pin_alone_is_no_hit_of_the_shortlist() -> None:
    counted = Counted()
    items = (
        Recommended("a", 1.0, retrieval=1.0, generator=1.0, pinned=True),
        Recommended("b", 0.0, pinned=True),
        Recommended("c", 1.0, generator=1.0),
    )
    counted.metrics.answered(Answer(items, (), Made.FUSE))
    sources = {s: counted("items_total", source=s) for s in ("shortlist", "pin", "generator")}
    assert sources == {"shortlist": 1, "pin": 1, "generator": 1}


async def test_retries_and_circuits_are_counted(tmp_path: Path) -> None:
    bundle = Bundle.open(write_tiny_bundle(tmp_path))
    fake, registry = FakeCandidate(bundle), CollectorRegistry()
    fake.failure = Unavailable("gone", reason="WARMING_UP")
    policy = CallPolicy(retry_ratio=1.0, limits=Limits(failures=2, rest_seconds=60.0))
    async with listening(fake, attach_candidate) as address:
        client = CandidateClient(address, bundle.version, policy, ServiceMetrics(registry))
        with pytest.raises(Unavailable):
            await client.search(QUERY, 3, soon())
        await client.close()

    def count(name: str, **labels: Any) -> float | None:
        return registry.get_sample_value(
            f"tandem_gateway_{name}", {"bundle": "", "service": "candidate", **labels}
        )

    assert count("service_attempts_total", attempt="first") == 1
    assert count("service_attempts_total", attempt="retry") == 1
    assert count("service_calls_total", code="UNAVAILABLE") == 1
    assert count("circuits_open") == 1


def test_strange_reasons_and_stages_make_no_series() -> None:
    counted = Counted()
    for number in range(1_000):
        strange = Degradation(f"stage {number}", f"REASON_{number}", Fallback.NONE)
        counted.metrics.answered(Answer((), (), None, degradations=(strange,)))
    labels = {"stage": "other", "reason": "other", "fallback": "none"}
    assert counted("degradations_total", **labels) == 1_000


async def test_a_hundred_thousand_users_add_no_series(tmp_path: Path) -> None:
    """A few by gRPC, and as many answers as it takes with metrics alone."""
    counted, calls = Counted(), CollectorRegistry()
    async with running(
        write_tiny_bundle(tmp_path), metrics=counted.metrics, calls=ServedCalls(calls)
    ) as stack:

        async def ask(user: int) -> None:
            await stack.client.recommend(f"user {user}", history=[f"i{user % 12}"])

        await ask(0)
        before = series(counted.registry) | series(calls)
        for user in range(1, 100):
            await ask(user)
        assert series(counted.registry) | series(calls) == before
    for user in range(100_000):
        item = Recommended(f"item {user}", 1.0, retrieval=1.0)
        counted.metrics.answered(Answer((item,), (), Made.RERANK, history=(f"i{user}",)))
    new = (series(counted.registry) | series(calls)) - before
    assert len(new) <= 1, "the strategy, where the bundle has another one"
