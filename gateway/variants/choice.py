"""How one request is answered, and what comes of it."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from core.errors import TandemError
from gateway.calls.failures import is_trouble
from gateway.deadline import Deadline
from gateway.domain import Answer
from tandem.v1 import recommendation_service_pb2 as pb

if TYPE_CHECKING:
    from gateway.servicer import RecommendationServicer

Record = Callable[[str, float], None]
"""Takes what a request came to, one of `metrics.OUTCOMES`, and its seconds."""


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

    async def observed(self, making: Awaitable[Answer], deadline: Deadline) -> Answer:
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
