"""A caller's place among the texts: what is asked for, and what is said of it."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from services.generator.text.engine import TextJob


class Stop(Enum):
    """Why a text ends."""

    END = "end"
    """The model has no more to say."""
    MAX_TOKENS = "max_tokens"
    """It has as many tokens as it may have."""
    DEADLINE = "deadline"
    """Its caller's time is up."""


@dataclass(frozen=True)
class Finished:
    """How a text came to its end. Times are in seconds."""

    stop: Stop
    tokens: int
    """That it has, without the one that ended it."""
    prepared: float
    """From the arrival until the job was ready."""
    queued: float
    """From then until it was among the texts that are written."""
    first: float
    """From then to the first token."""
    rest: float
    """From then to the end."""


Event = int | Finished | Exception
"""A token; or the end of a text, which is the last event."""


class Place:
    """One caller's place, and its job once there is one.

    Args:
        send: passes an event on to the caller, from any thread; at most one for each token, and one
            more.
        arrived: on the queue's clock.
        ends: by when the caller must have the text, on that clock.
    """

    job: TextJob
    """Set by `put`."""

    def __init__(self, send: Callable[[Event], None], arrived: float, ends: float) -> None:
        self.arrived, self.ends = arrived, ends
        self.since = self.joined = self.began = math.nan
        """When the job was put, when it joined those that are written, and when its first token
        came; NaN before."""
        self.tokens = 0
        self.left = False
        """Whether the caller is gone."""
        self._send = send

    @property
    def is_ready(self) -> bool:
        """Whether its job may begin."""
        return not math.isnan(self.since)

    def put(self, job: TextJob, now: float) -> None:
        """Gives it its job."""
        self.job, self.since = job, now

    def say(self, token: int, now: float) -> None:
        """Passes a token on."""
        if not self.tokens:
            self.began = now
        self.tokens += 1
        self._send(token)

    def finish(self, stop: Stop, now: float) -> None:
        """Ends the text."""
        joined = now if math.isnan(self.joined) else self.joined
        began = now if math.isnan(self.began) else self.began
        prepared, queued = self.since - self.arrived, joined - self.since
        self._send(Finished(stop, self.tokens, prepared, queued, began - joined, now - began))

    def fail(self, error: Exception) -> None:
        """Ends it with an error."""
        self._send(error)
