"""How one request is answered, and what comes of it."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

from core.errors import TandemError
from gateway.calls.failures import is_trouble
from gateway.deadline import Deadline
from gateway.domain import Answer, Degradation
from tandem.v1 import recommendation_service_pb2 as pb

if TYPE_CHECKING:
    from gateway.servicer import RecommendationServicer

Record = Callable[[str, float], None]
"""Takes what a request came to, one of `metrics.OUTCOMES`, and its seconds."""
Follow = Callable[[Answer, float, float], None]
"""Takes an answer, the seconds that it took and those that it was allowed to take."""


class Degradable(Protocol):
    """An answer, which may lack something."""

    @property
    def degradations(self) -> tuple[Degradation, ...]:
        """What it lacks."""


Made = TypeVar("Made", bound=Degradable)


@dataclass(frozen=True)
class Choice:
    """A request as it is answered, and by whom."""

    request: pb.RecommendRequest
    """With all that holds where the call says nothing."""
    servicer: "RecommendationServicer"
    """Of the version of the bundle that answers, from start to end."""
    variant: str = ""
    """Whose answer it is; empty for none."""
    record: Record | None = None
    """None where nobody counts what comes of it."""
    follow: Follow | None = None
    """None where nothing follows the answer."""

    async def observed(self, making: Awaitable[Answer], deadline: Deadline) -> Answer:
        """Waits for an answer, and tells of it."""
        began, allowed = time.perf_counter(), deadline.left
        answer = await self.counted(making, deadline)
        if self.follow is not None:
            self.follow(answer, time.perf_counter() - began, allowed)
        return answer

    async def counted(self, making: Awaitable[Made], deadline: Deadline) -> Made:
        """Waits for an answer, and counts what comes of it.

        An error that is the caller's mistake is no outcome, and neither is a caller who leaves
        before its time is over.
        """
        if self.record is None:
            return await making
        began = time.perf_counter()
        outcome = "failed"
        try:
            answer = await making
            outcome = "degraded" if answer.degradations else "whole"
        except TandemError as error:
            outcome = outcome if is_trouble(error) else ""
            raise
        except asyncio.CancelledError:
            outcome = "" if deadline.left else outcome
            raise
        finally:
            if outcome:
                self.record(outcome, time.perf_counter() - began)
        return answer
