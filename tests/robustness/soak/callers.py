"""The callers of the soak: they call at random, and check whatever comes back."""

import asyncio
import itertools
from array import array
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import TYPE_CHECKING, Final, cast

import grpc
import numpy as np
from google.protobuf.json_format import MessageToJson

from core.manifest import Precision
from tandem import errors
from tandem.v1 import generator_service_pb2 as pb
from tandem.v1 import generator_service_pb2_grpc as rpc
from tests.robustness.soak.catalog import Changes, Version
from tests.robustness.soak.check import Request, Response, compare, fault, generated, legal, wanted
from tests.robustness.soak.requests import MAX_RERANKED, Requests

if TYPE_CHECKING:
    from tandem.v1.generator_service_pb2_grpc import GeneratorServiceAsyncStub as Stub

    Call = grpc.aio.UnaryUnaryCall[Request, Response]

PATIENCE: Final = 60.0
"""Seconds; a call that takes longer is lost, which is a violation."""
TOLERANCE: Final[Mapping[Precision, float]] = {"fp32": 1e-4, "fp16": 2e-2, "int8": 5e-2}
"""Between the scores that searching and reranking give an item, in log-probability.

The two add in different orders, and where a sum lies half-way between two integers, int8 makes a
whole step of that: in one of a hundred answers a score differs by up to a hundredth. Batches do
not do that: an answer of one graph is the same in all of them.
"""
HURRY: Final = 0.2
"""Seconds within which calls are cancelled, and deadlines expire."""
CANCELLED, HURRIED = 0.08, 0.08
"""Shares of the calls that are cancelled, and that have such a deadline."""


class Timeline:
    """What may be the server's current version: between a change's order and its answer, two."""

    def __init__(self, first: Version) -> None:
        self.oldest = first
        self.newest = first

    def ordered(self, changes: Changes) -> None:
        """From now on the version that these changes lead to may be current."""
        self.newest = self.newest.changed(changes)

    def done(self) -> None:
        """From now on it is."""
        self.oldest = self.newest


@dataclass(frozen=True)
class Violation:
    """An answer that is right for no version that it can be about."""

    request: Request
    response: Response | None
    faults: dict[int, str]
    """By version."""

    @property
    def summary(self) -> str:
        """What is wrong."""
        name = type(self.request).__name__
        return "\n".join(f"{name}, version {n}: {text}" for n, text in self.faults.items())

    def __str__(self) -> str:
        answer = "none" if self.response is None else _json(self.response)
        return f"{self.summary}\nrequest: {_json(self.request)}\nanswer: {answer}"


@dataclass
class Tally:
    """What came of the calls."""

    answers: Counter[str] = field(default_factory=Counter)
    """Checked ones, by the name of the RPC."""
    cancelled: int = 0
    expired: int = 0
    shed: int = 0
    full: int = 0
    """Answers to which every legal item belongs, since no more were legal than asked for."""
    across: int = 0
    """Answers during which the catalog may have changed."""
    sampled: int = 0
    """Answers that were compared with the exact scores of all items."""
    found: int = 0
    """Those of them that list the item that is best by exact scores."""
    difference: float = 0.0
    """The largest difference between a listed score and the exact one."""
    violations: int = 0
    first: Violation | None = None
    ms: "array[float]" = field(default_factory=lambda: array("f"))
    """What answers took."""

    def violated(self, violation: Violation) -> None:
        """Counts a violation, and keeps the first."""
        self.violations += 1
        self.first = self.first or violation


class Callers:
    """Calls at random, and checks what comes back.

    Args:
        channel: to the server.
        requests: what is asked.
        timeline: of the catalog.
        beams: of every search, at least.
        precision: of the model, which decides how closely scores must agree.
        seed: of who leaves, and when.
        sample_every: how many calls there are to one that is compared with exact scores.
    """

    def __init__(
        self,
        channel: grpc.aio.Channel,
        requests: Requests,
        timeline: Timeline,
        *,
        beams: int,
        precision: Precision,
        seed: int,
        sample_every: int,
    ) -> None:
        self._tolerance = TOLERANCE[precision]
        stub: Stub = rpc.GeneratorServiceStub(channel)
        self._methods: Mapping[type[Request], Callable[..., object]] = {
            pb.GenerateRequest: stub.Generate,
            pb.RerankRequest: stub.Rerank,
            pb.RankRequest: stub.Rank,
        }
        self._requests = requests
        self._timeline = timeline
        self._beams = beams
        self._rng = np.random.default_rng(seed)
        self._sample_every = sample_every
        self._numbers = itertools.count(1)
        self.still = asyncio.Lock()
        """Held while the catalog must not change."""
        self.tally = Tally()

    async def heat(self, calls: int) -> None:
        """Makes the largest calls at once, so that the server's memory has its peak behind it."""
        largest = self._requests.largest(self._timeline.newest)
        await asyncio.gather(*(self.ask(largest, PATIENCE) for _ in range(calls)))

    async def call_until(self, over: Callable[[], bool]) -> None:
        """One caller: calls again when it has an answer."""
        while not over():
            if next(self._numbers) % self._sample_every:
                await self._call()
            else:
                await self._sample()

    async def _call(self) -> None:
        request = self._requests.draw(self._timeline.newest)
        fate, moment = self._rng.random(), float(self._rng.random()) * HURRY
        if fate < CANCELLED:
            await self.ask(request, PATIENCE, leave_after=moment)
        elif fate < CANCELLED + HURRIED:
            await self.ask(request, moment)
        else:
            await self.ask(request, PATIENCE)

    async def ask(
        self, request: Request, deadline: float, leave_after: float | None = None
    ) -> Response | None:
        """Makes a call and checks the answer; None where no right one came."""
        oldest, began = self._timeline.oldest, perf_counter()
        call = cast("Call", self._methods[type(request)](request, timeout=deadline))
        if leave_after is not None:
            asyncio.get_running_loop().call_later(leave_after, call.cancel)
        try:
            response = await call
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise  # not the call was cancelled, but the caller
            self.tally.cancelled += 1
        except grpc.aio.AioRpcError as error:
            await self._failed(request, error, in_a_hurry=deadline < PATIENCE)
        else:
            self.tally.ms.append((perf_counter() - began) * 1e3)
            if self._is_right(request, response, oldest.onward()):
                return response
        return None

    async def _failed(
        self, request: Request, error: grpc.aio.AioRpcError, *, in_a_hurry: bool
    ) -> None:
        failure = errors.from_rpc(error)
        match failure:
            case errors.DeadlineExceeded() if in_a_hurry:
                self.tally.expired += 1
            case errors.ResourceExhausted(retry_after=float(delay)):
                self.tally.shed += 1
                await asyncio.sleep(delay)
            case _:
                fault = {self._timeline.newest.number: f"no answer: {failure}"}
                self.tally.violated(Violation(request, None, fault))

    def _is_right(self, request: Request, response: Response, versions: Sequence[Version]) -> bool:
        """Whether an answer is right for one of the versions."""
        self.tally.answers[type(request).__name__.removesuffix("Request")] += 1
        self.tally.across += len(versions) > 1
        if not isinstance(request, pb.RerankRequest):
            self.tally.full += len(generated(response)) < wanted(request)
        faults: dict[int, str] = {}
        for version in versions:
            wrong = fault(request, response, version, self._tolerance)
            if wrong is None:
                return True
            faults[version.number] = wrong
        self.tally.violated(Violation(request, response, faults))
        return False

    async def _sample(self) -> None:
        """Compares an answer with the exact scores of all items, while the catalog stands still."""
        async with self.still:
            version = self._timeline.newest
            request = self._requests.generate(version)
            response = await self.ask(request, PATIENCE)
            scores = None if response is None else await self._score_all(request.context, version)
        if response is None or scores is None:
            return  # shed, or wrong
        allowed = {key: scores[key] for key in legal(request, version)}
        exact = compare(generated(response), allowed, beams=self._beams, tolerance=self._tolerance)
        if exact.fault is not None:
            self.tally.violated(Violation(request, response, {version.number: exact.fault}))
        if allowed:
            self.tally.sampled += 1
            self.tally.found += exact.found
            self.tally.difference = max(self.tally.difference, exact.difference)

    async def _score_all(
        self, context: pb.UserContext, version: Version
    ) -> dict[str, float] | None:
        """The exact score of every item; None where a call had no right answer."""
        item_ids = version.item_ids
        responses = await asyncio.gather(
            *(
                self.ask(
                    pb.RerankRequest(context=context, item_ids=item_ids[i : i + MAX_RERANKED]),
                    PATIENCE,
                )
                for i in range(0, len(item_ids), MAX_RERANKED)
            )
        )
        scores = {}
        for response in responses:
            if not isinstance(response, pb.RerankResponse):
                return None
            scores.update({item.item_id: item.score for item in response.items})
        return scores


def _json(message: Request | Response) -> str:
    return MessageToJson(message, indent=None, preserving_proto_field_name=True)
