"""A variant in a gateway's shadow: what it would have answered is counted, and nothing else is.

Callers get what `generate` makes, and the variant searches: so the candidate service is called by
replays alone, and whatever becomes of them is seen there.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

import tandem
from core.errors import Unavailable
from gateway.deadline import Deadline
from gateway.variants.file import read_plan
from serving.bundles.held import HeldBundle
from serving.telemetry.request_id import REQUEST_ID_HEADER
from tandem.v1 import recommendation_service_pb2 as pb
from tests.gateway.fakes import generator_score, retrieval_score
from tests.gateway.stack import Stack, best, ids, raw, running
from tests.gateway.test_metrics import Counted
from tests.tiny_bundle import HISTORIES, ITEMS, write_tiny_bundle

SOON = 30.0
SEARCHES = "variants.next = {percent = 0, strategy = 'embedding'}"
SAME = "variants.next = {percent = 0}"
FOR_BOB = set(range(ITEMS)) - set(HISTORIES["bob"])


def serving_file(variant: str = SEARCHES, shadow: str = "") -> str:
    return f"""
        {variant}
        variants.control = {{percent = 100, strategy = 'generate'}}
        shadow = {{variant = 'next', share = 1.0{shadow}}}
    """


class Shadowed(Counted):
    """A gateway with a shadow, and what it counts."""

    stack: Stack

    def shadow(self, name: str, **labels: str) -> float:
        return self(f"shadow_{name}", variant="next", **labels)

    def replays(self, outcome: str, reason: str = "") -> float:
        return self.shadow("replays_total", outcome=outcome, reason=reason)

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(SOON):
            while not holds():  # noqa: ASYNC110 - no event tells
                await asyncio.sleep(0.005)

    async def replayed(self, count: int, outcome: str = "compared", reason: str = "") -> None:
        await self.until(lambda: self.replays(outcome, reason) == count)


@asynccontextmanager
async def shadowed(tmp_path: Path, content: str, **flags: Any) -> AsyncIterator[Shadowed]:
    path, gateway = tmp_path / "serving.toml", Shadowed()
    path.write_text(content)
    bundle = write_tiny_bundle(tmp_path)
    async with running(bundle, metrics=gateway.metrics, serving_file=path, **flags) as stack:
        gateway.stack = stack
        yield gateway


class Barrier:
    """Holds every call of the candidate service: those of replays."""

    def __init__(self, stack: Stack) -> None:
        self.held = 0
        self.open = asyncio.Event()
        stack.candidate.enter = self._enter  # type: ignore[assignment, method-assign]

    async def _enter(self, *_: object) -> None:
        self.held += 1
        await self.open.wait()


async def test_the_same_variant_overlaps_by_1(tmp_path: Path) -> None:
    async with shadowed(tmp_path, serving_file(SAME)) as gateway:
        answer = await gateway.stack.client.recommend("bob", strategy="generate", max_results=10)
        await gateway.replayed(1)
        assert len(answer.recommendations) == 10
        for k in ("1", "5", "10"):
            assert gateway.shadow("overlap_sum", k=k) == 1
        assert gateway.shadow("rbo_sum") == 1


async def test_another_order_gives_the_figures_of_it(tmp_path: Path) -> None:
    async with shadowed(tmp_path, serving_file()) as gateway:
        answer = await gateway.stack.client.recommend("bob", max_results=10)
        await gateway.replayed(1)
    assert ids(answer) == best(generator_score, FOR_BOB, 10)
    assert ids(answer) == ["i0", "i10", "i3", "i8", "i1", "i6", "i11", "i4", "i9", "i2"]
    assert best(retrieval_score, FOR_BOB, 10) == [f"i{p}" for p in (0, 1, 2, 3, 4, 6, 7, 8, 9, 10)]
    assert gateway.shadow("overlap_sum", k="1") == 1
    assert gateway.shadow("overlap_sum", k="5") == pytest.approx(3 / 5)  # 0, 3 and 1
    assert gateway.shadow("overlap_sum", k="10") == pytest.approx(9 / 10)  # all but 11
    common = [1, 1, 1, 2, 3, 4, 4, 6, 7, 9]
    summed = sum(0.1 * 0.9**d * each / (d + 1) for d, each in enumerate(common))
    assert gateway.shadow("rbo_sum") == pytest.approx(summed + 0.9**10 * 9 / 10)


async def test_a_replay_counts_in_the_shadow_alone(tmp_path: Path) -> None:
    async with shadowed(tmp_path, serving_file()) as gateway:
        answer = await gateway.stack.client.recommend("ann", max_results=3)
        await gateway.replayed(1)
        assert answer.variant == "control"
        assert gateway("answers_total", strategy="generate") == 1
        assert gateway("answers_total", strategy="embedding") == 0
        assert gateway("stage_seconds_count", stage="search") == 0
        assert gateway("items_total", source="shortlist") == 0
        assert gateway("requests_running") == gateway("requests_waiting") == 0
        assert gateway.shadow("seconds_count", answer="caller") == 1
        assert gateway.shadow("seconds_count", answer="variant") == 1


async def test_a_replay_has_the_history_of_the_answer(tmp_path: Path) -> None:
    """Whatever is stored of the user by then: here it is nothing any more."""
    async with shadowed(tmp_path, serving_file()) as gateway:
        request = pb.RecommendRequest(user_id="gone", strategy=pb.STRATEGY_EMBEDDING)
        servicer, soon = gateway.stack.servicer, Deadline(time.monotonic() + SOON)
        answer = await servicer.answer_again(request, ("i3", "i4"), soon)
        [search] = gateway.stack.candidate.requests
        assert list(search.history_item_ids) == list(answer.history) == ["i3", "i4"]


async def test_replays_that_hang_hold_no_call_up(tmp_path: Path) -> None:
    """Nor do they take more places than they may, though there is one turn alone."""
    content = serving_file(shadow=", max_in_flight = 2")
    async with shadowed(tmp_path, content, max_in_flight=1, max_wait_ms=0) as gateway:
        barrier = Barrier(gateway.stack)
        for _ in range(6):
            assert not (await gateway.stack.client.recommend("ann")).degraded
        await gateway.until(lambda: barrier.held == 2)
        await gateway.replayed(4, "dropped")
        barrier.open.set()


async def test_replays_that_fail_leave_answers_whole(tmp_path: Path) -> None:
    async with shadowed(tmp_path, serving_file()) as gateway:
        gateway.stack.candidate.failure = Unavailable("gone", reason="WARMING_UP")
        assert not (await gateway.stack.client.recommend("ann")).degraded
        await gateway.replayed(1, "failed", "WARMING_UP")
        assert gateway("degraded_answers_total") == 0
        assert gateway.shadow("rbo_count") == 0


async def test_replays_that_fail_set_no_service_aside(tmp_path: Path) -> None:
    """Callers need the service too, and half of its calls are answered."""
    control = serving_file().replace("strategy = 'generate'", "strategy = 'rerank'")
    async with shadowed(tmp_path, control) as gateway:
        fake = gateway.stack.candidate
        enter = fake.enter

        async def fail_replays(request: Any, history: Any, context: Any) -> None:
            if not dict(context.invocation_metadata()).get(REQUEST_ID_HEADER):
                raise Unavailable("gone", reason="WARMING_UP")
            await enter(request, history, context)

        fake.enter = fail_replays  # type: ignore[method-assign]
        for count in range(1, 31):
            assert not (await gateway.stack.client.recommend("ann")).degraded
            await gateway.replayed(count, "failed", "WARMING_UP")
        assert gateway("circuits_open", service="candidate") == 0
        assert gateway("service_attempts_total", service="candidate", attempt="retry") == 0


async def test_a_variant_has_no_more_time_than_the_call(tmp_path: Path) -> None:
    async with shadowed(tmp_path, serving_file(), max_timeout=0.3) as gateway:
        barrier = Barrier(gateway.stack)
        assert not (await gateway.stack.client.recommend("ann")).degraded
        await gateway.replayed(1, "failed", "DEADLINE_EXCEEDED")
        assert barrier.held >= 1


async def test_a_gateway_stops_while_replays_hang(tmp_path: Path) -> None:
    async with shadowed(tmp_path, serving_file(), max_timeout=SOON) as gateway:
        barrier = Barrier(gateway.stack)
        for _ in range(3):
            await gateway.stack.client.recommend("ann")
        await gateway.until(lambda: barrier.held == 3)
    assert gateway.replays("dropped") == 3


async def test_a_list_is_compared_with_its_first_page(tmp_path: Path) -> None:
    async with shadowed(tmp_path, serving_file()) as gateway:
        recommend = gateway.stack.client.recommend
        first = await recommend("ann", page_size=2)
        second = await recommend("ann", page_size=2, page_token=first.next_page_token)
        assert len(second.recommendations) == 2
        await recommend("ann", max_results=1)
        await gateway.replayed(2)
        # All of the list, of which the page is the beginning.
        assert gateway.shadow("overlap_count", k="5") == 1


@pytest.mark.parametrize("asked", [{"diagnostics": True}, {"variant": "next"}])
async def test_some_answers_are_not_compared(tmp_path: Path, asked: dict[str, Any]) -> None:
    """Those with diagnostics, and those of the variant itself."""
    async with shadowed(tmp_path, serving_file()) as gateway:
        request = pb.RecommendRequest(user_id="ann", **asked)
        await raw(gateway.stack.channel, "Recommend", request)
        await gateway.stack.client.recommend("ann")
        await gateway.replayed(1)
        assert gateway.shadow("rbo_count") == 1


async def test_a_degraded_answer_is_not_compared(tmp_path: Path) -> None:
    async with shadowed(tmp_path, serving_file()) as gateway:
        gateway.stack.generator.failure = Unavailable("gone", reason="WARMING_UP")
        assert (await gateway.stack.client.recommend("ann")).degraded
        gateway.stack.generator.failure = None
        await gateway.stack.client.recommend("ann")
        await gateway.replayed(1)
        assert gateway.shadow("rbo_count") == 1


async def test_a_variant_that_is_not_held_fails(tmp_path: Path) -> None:
    variant = "variants.next = {percent = 0, bundle_version = 'tiny/other'}"
    async with shadowed(tmp_path, serving_file(variant)) as gateway:
        await gateway.stack.client.recommend("ann")
        await gateway.replayed(1, "failed", "VARIANT_NOT_READY")


async def test_the_version_held_beside_can_be_the_variant(tmp_path: Path) -> None:
    other = write_tiny_bundle(tmp_path / "other", version="2")
    variant = "variants.next = {percent = 0, bundle_version = 'tiny/2'}"
    async with shadowed(tmp_path, serving_file(variant)) as gateway, running(other) as beside:
        servicer = gateway.stack.servicer
        held = servicer._shared.held
        held.serving = HeldBundle("tiny/1", servicer)
        held.beside = HeldBundle("tiny/2", beside.servicer)
        answer = await gateway.stack.client.recommend("ann", strategy="generate", max_results=5)
        await gateway.replayed(1)
        assert answer.bundle_version == "tiny/1"
        assert len(gateway.stack.generator.requests) == len(beside.generator.requests) == 1
        assert gateway.shadow("overlap_sum", k="5") == 1
        await asyncio.wait_for(held.beside.calls.end(), SOON)


async def test_a_request_that_is_wrong_is_not_replayed(tmp_path: Path) -> None:
    async with shadowed(tmp_path, serving_file()) as gateway:
        with pytest.raises(tandem.NotFound):
            await gateway.stack.client.recommend("nobody")
        await gateway.stack.client.recommend("ann")
        await gateway.replayed(1)
        assert len(gateway.stack.candidate.requests) == 1


async def test_the_share_of_calls_is_replayed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draws = iter([0.9, 0.1, 0.5, 0.0, 0.25])
    monkeypatch.setattr("gateway.shadow.shadow.random.random", lambda: next(draws))
    content = serving_file().replace("share = 1.0", "share = 0.25")
    async with shadowed(tmp_path, content) as gateway:
        for _ in range(5):
            await gateway.stack.client.recommend("ann")
        await gateway.replayed(2)


@pytest.mark.parametrize(
    ("shadow", "says"),
    [
        ("variant = 'none', share = 0.1", "shadow.variant: there is no variants.none"),
        ("variant = 'next', share = 1.1", "shadow.share"),
        ("variant = 'next', share = -0.1", "shadow.share"),
        ("variant = 'next', share = nan", "shadow.share"),
        ("variant = 'next', share = 0.1, max_in_flight = 0", "shadow.max_in_flight"),
        ("variant = 'next', share = 0.1, sticky = true", "shadow.sticky"),
        ("share = 0.1", "shadow.variant"),
    ],
)
def test_an_impossible_shadow_is_refused(shadow: str, says: str) -> None:
    control = "variants.control = {percent = 100}"
    with pytest.raises(ValueError, match=says):
        read_plan(f"{SAME}\n{control}\nshadow = {{{shadow}}}".encode())
