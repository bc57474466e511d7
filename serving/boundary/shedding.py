"""Load shedding: calls that a servicer has no time for, refused at the least cost.

A server that is asked for several times what it can do spends its time on refusals. So they are
decided before anything is read, and written once for many calls (`refusals.py`).
"""

from typing import Protocol, runtime_checkable

from core.errors import ResourceExhausted
from serving.boundary.grpc_types import Handler
from serving.boundary.refusals import Refusals
from serving.telemetry.calls import ServedCalls


@runtime_checkable
class Backpressure(Protocol):
    """A servicer that knows when it has too much to do."""

    def retry_after(self, method: str) -> float | None:
        """Is asked of every call, before its message is read.

        Args:
            method: of the protobuf service, such as `Recommend`.

        Returns:
            The seconds after which to try again; None to let the call in.
        """


def overloaded(seconds: float) -> ResourceExhausted:
    """What a call is told that would have to wait too long.

    Args:
        seconds: after which to try again.
    """
    return ResourceExhausted(
        "the server has as many calls as it can answer in time",
        reason="OVERLOADED",
        retry_after=seconds,
    )


class Shedder:
    """Asks a servicer, once there is one, and refuses calls for it.

    Args:
        calls: is told of every refusal.
    """

    def __init__(self, calls: ServedCalls) -> None:
        self._servicer: Backpressure | None = None
        self._refusals = Refusals("calls refused", calls)

    def consult(self, servicer: object) -> None:
        """Makes it ask a servicer from now on, if that is one to ask."""
        self._servicer = servicer if isinstance(servicer, Backpressure) else None

    def refusal(self, method: str) -> "Handler | None":
        """What answers a call that the servicer has no time for; None for one that it has.

        Args:
            method: by its full name, such as `/tandem.v1.RecommendationService/Recommend`.
        """
        if self._servicer is None:
            return None
        seconds = self._servicer.retry_after(method.rpartition("/")[2])
        return None if seconds is None else self._refusals.handler(method, overloaded(seconds))
