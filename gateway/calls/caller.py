"""One call of a service: attempts, retries and hedges, within its deadline.

gRPC Python retries within one channel and does not hedge; both are done here, where it is known
which targets an earlier attempt went to and what extra calls the budget allows.
"""

import asyncio
import math
import random
import time
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, field, replace
from typing import Final, Generic, Self, TypeVar

import grpc
import structlog
from prometheus_client import CollectorRegistry

from core.errors import TandemError
from gateway.calls.attempts import Attempt, Course, Versioned, first_answer
from gateway.calls.budget import Budget
from gateway.calls.circuit import Limits, Verdict
from gateway.calls.failures import CALLERS_MISTAKES, NOT_HELD, judge, set_aside, translate, unknown
from gateway.calls.latency import HedgeDelay, Latencies
from gateway.calls.spans import attempt_span
from gateway.calls.targets import Targets
from gateway.deadline import Deadline
from gateway.metrics import ServiceMetrics
from serving.security.links import Link
from tandem import errors

log = structlog.get_logger()

FIRST_PAUSE: Final = 0.05
USUAL_SECONDS: Final = 0.1
"""What an answer takes, while that is not known."""


S = TypeVar("S")
Q = TypeVar("Q")
R = TypeVar("R", bound=Versioned)
Method = Callable[[S], grpc.aio.UnaryUnaryMultiCallable[Q, R]]
"""Takes one method from a stub."""


@dataclass(frozen=True)
class CallPolicy:
    """How a service is called."""

    max_attempts: int = 3
    """Of one call, hedges not counted."""
    retry_ratio: float = 0.2
    """Retries and hedges together are at most this fraction of the calls."""
    hedge_ratio: float = 0.0
    """Hedges are at most this fraction of the calls; 0 for none."""
    limits: Limits = field(default_factory=Limits)
    """When a target is set aside."""
    link: Link = field(default_factory=Link)
    """By TLS or in the clear, and with which key."""


DEFAULT: Final = CallPolicy()


class Caller(ABC, Generic[S]):
    """Calls one service; what asks it for something is below this, in `clients`.

    Args:
        target: its addresses; see `Targets`.
        bundle_version: of the gateway's own bundle, which the service should have too.
        policy: how it is called.
        metrics: what is counted.
    """

    service: str
    """Its name in errors and logs."""
    protobuf_service: str
    """The full name of the protobuf service whose health is its own."""

    def __init__(
        self,
        target: str,
        bundle_version: str,
        policy: CallPolicy = DEFAULT,
        metrics: ServiceMetrics | None = None,
    ) -> None:
        self.targets = Targets(target, self.protobuf_service, self.stub, policy.limits, policy.link)
        self.version = bundle_version
        """Of the bundle that answered last."""
        self.sequence = 0
        """Of the last change in the catalog that answered last."""
        self._bundle_version = bundle_version
        self._noticed = {bundle_version}
        self._policy = policy
        self._extra = Budget(policy.retry_ratio)
        self._hedges = Budget(policy.hedge_ratio)
        self._hedge_delay = HedgeDelay()
        self._latencies: defaultdict[type, Latencies] = defaultdict(Latencies)
        self._metrics = metrics or ServiceMetrics(CollectorRegistry())
        self._metrics.follow(self)
        self._judges = True

    @abstractmethod
    def stub(self, channel: grpc.aio.Channel) -> S:
        """What calls are made with on a channel."""

    def for_version(self, version: str) -> Self:
        """The same service, asked for answers from another version of the bundle: connections,
        circuits, budgets and what was learned are those of both."""
        other = copy(self)
        other.version = other._bundle_version = version
        other.sequence = 0
        other._noticed = {version}
        return other

    def apart(self) -> Self:
        """The same service, for calls that nobody waits for: they are made once and keep to the
        circuits, and change neither these nor what is learned and budgeted for others."""
        other = copy(self)
        other._policy = replace(self._policy, max_attempts=1, hedge_ratio=0.0)
        other._extra, other._hedges = Budget(0.0), Budget(0.0)
        other._latencies = defaultdict(Latencies)
        other._judges = False
        return other

    def unhedged(self) -> Self:
        """The same service, for calls of which none is made twice at a time."""
        other = copy(self)
        other._policy = replace(self._policy, hedge_ratio=0.0)
        return other

    async def ready(self) -> None:
        """Waits, for as long as it takes, until the service can be called."""
        await self.targets.ready()

    async def close(self) -> None:
        """Closes the connections."""
        await self.targets.close()

    async def call(self, method: Method[S, Q, R], request: Q, deadline: Deadline) -> R:
        """Makes a call within the deadline, under the request id of the call being served.

        Args:
            method: which; it only reads, so that it may be called again.
            request: each method has a type of request of its own.
            deadline: of all attempts together.

        Raises:
            TandemError: it failed; see `translate`.
        """
        code = "CANCELLED"
        try:
            response = await self._attempts(method, request, deadline)
        except TandemError as error:
            code = error.code.name
            raise
        else:
            code = "OK"
            return response
        finally:
            self._metrics.ended(self.service, code)

    async def _attempts(self, method: Method[S, Q, R], request: Q, deadline: Deadline) -> R:
        """As many attempts as it takes, and as there are time and budget for."""
        self._extra.earn()
        self._hedges.earn()
        course = Course[S](self._bundle_version)
        attempts = 0
        while True:
            try:
                response = await self._hedged(method, request, deadline, course)
            except errors.Error as failure:
                if failure.reason == NOT_HELD and course.version:
                    course.missed(self.targets.count)
                    continue
                attempts += 1
                pause = random.uniform(0, FIRST_PAUSE * 2 ** (attempts - 1))  # noqa: S311
                if not self._may_retry(failure, attempts, deadline, pause):
                    if failure.code not in CALLERS_MISTAKES:
                        log.warning("service call failed", service=self.service, error=str(failure))
                    raise translate(failure, self.service) from failure
            else:
                self._compare(response.bundle_version)
                self.sequence = response.catalog_sequence
                return response
            await asyncio.sleep(pause)

    def _compare(self, version: str) -> None:
        self.version = version
        if version not in self._noticed:
            self._noticed.add(version)
            log.warning(
                "service has another bundle",
                service=self.service,
                theirs=version,
                ours=self._bundle_version,
            )

    def _may_retry(
        self, failure: errors.Error, attempts: int, deadline: Deadline, pause: float
    ) -> bool:
        """UNAVAILABLE alone: the other codes mean that a server took the call."""
        return (
            failure.code is grpc.StatusCode.UNAVAILABLE
            and attempts < self._policy.max_attempts
            and deadline.allows(pause)
            and self._extra.spend()
        )

    async def _hedged(
        self,
        method: Method[S, Q, R],
        request: Q,
        deadline: Deadline,
        course: Course[S],
    ) -> R:
        """An attempt, and beside it another one when it takes longer than most do."""
        first = await self._begin(course, deadline)
        if first is None:
            raise set_aside(self.service) if self.targets.known else unknown(self.service)
        latencies = self._latencies[type(request)]
        if self._policy.hedge_ratio and latencies.p95 is not None:
            delay = latencies.p95 * self._hedge_delay.factor
            if deadline.allows(delay):
                return await self._race(first, delay, method, request, deadline, course)
        started = time.monotonic()
        response = await self._run(first, method, request, deadline)
        latencies.record(time.monotonic() - started)
        return response

    async def _begin(
        self, course: Course[S], deadline: Deadline, *, hedge: bool = False
    ) -> Attempt[S] | None:
        kind = "hedge" if hedge else "retry" if course.tried else "first"
        chosen = await self.targets.choose(course.tried, deadline.remaining())
        if chosen is None:
            return None
        course.tried.append(chosen[0])
        self._metrics.attempted(self.service, kind)
        return Attempt(*chosen, version=course.version, kind=kind)

    async def _run(
        self, attempt: Attempt[S], method: Method[S, Q, R], request: Q, deadline: Deadline
    ) -> R:
        """Makes an attempt.

        Raises:
            errors.Error: it failed.
            DeadlineExceeded: there is no time for it.
        """
        target, verdict = attempt.target, Verdict.NONE
        target.in_flight += 1
        kind, started = type(request), time.monotonic()
        try:
            seconds = deadline.remaining()
            usual = self._latencies[kind].p95 or USUAL_SECONDS
            with attempt_span(kind, attempt.kind, target.address) as trace:
                response = await method(target.stub)(
                    request, timeout=seconds, metadata=(*attempt.metadata, *trace)
                )
        except grpc.aio.AioRpcError as error:
            failure = errors.from_rpc(error)
            answers = target.answered.get(kind, -math.inf) > started
            verdict = judge(failure, had_time=seconds >= usual, answers=answers)
            raise failure from error
        else:
            verdict = Verdict.GOOD
            target.answered[kind] = time.monotonic()
            return response
        finally:
            target.in_flight -= 1
            verdict = Verdict.BAD if attempt.overtaken else verdict
            target.leave(attempt.permit, verdict if self._judges else Verdict.NONE)

    async def _race(
        self,
        first: Attempt[S],
        delay: float,
        method: Method[S, Q, R],
        request: Q,
        deadline: Deadline,
        course: Course[S],
    ) -> R:
        """An attempt, and beside it another one if it takes longer than most calls do.

        What takes how long is learned from the calls that are not hedged: that of the others has
        been cut short. A call that no hedge can be afforded for is not hedged later either: where
        as many are late as may be hedged, most are answered soon, rather than all a little sooner.
        """
        started = time.monotonic()
        running = [asyncio.create_task(self._run(first, method, request, deadline))]
        try:
            await asyncio.wait(running, timeout=delay)
            if not running[0].done() and (hedge := await self._hedge(course, deadline)):
                running.append(asyncio.create_task(self._run(hedge, method, request, deadline)))
            winner = await first_answer(running)
            first.overtaken = not running[0].done()
            response = winner.result()
            if len(running) == 1:
                self._latencies[type(request)].record(time.monotonic() - started)
            return response
        finally:
            for task in running:
                task.cancel()
            # None is left behind, and no failure of a loser goes unread.
            await asyncio.gather(*running, return_exceptions=True)

    async def _hedge(self, course: Course[S], deadline: Deadline) -> Attempt[S] | None:
        afforded = self._extra.affords and self._hedges.spend()
        self._hedge_delay.learn(afforded=afforded)
        if not afforded:
            return None
        self._extra.spend()
        return await self._begin(course, deadline, hedge=True)
