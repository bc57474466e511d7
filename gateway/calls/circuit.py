"""Sets a target aside that fails, and finds out when it works again.

    CLOSED ──── too many bad calls ───▶ OPEN ──── it has rested ───▶ HALF_OPEN
       ▲                                 ▲  ▲                            │
       │                                 │  └─────── a probe goes ───────┤
       └───────── the probe is good ─────┴────────── the probe is bad ───┘

An open circuit lets one call through each time that the target has rested: the probe. Whatever
becomes of the probe, another follows: one that never comes back holds nothing up. (Nygard, Release
It!, 2007; for a target among others it is what Envoy calls outlier ejection.)
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

Clock = Callable[[], float]
"""Seconds since some moment; never goes back."""


class State(Enum):
    """Of a circuit."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"
    """A probe is due."""


class Verdict(Enum):
    """What a call says about its target."""

    GOOD = "good"
    BAD = "bad"
    NONE = "none"
    """Nothing: it was given up before the target had its chance."""


@dataclass(frozen=True)
class Limits:
    """When a circuit opens, and for how long."""

    failures: int = 5
    """Bad calls that open it, if no fewer are bad than good among the latest."""
    window: int = 20
    """How many calls are the latest."""
    memory_seconds: float = 10.0
    """Calls that ended longer ago are not among them."""
    rest_seconds: float = 1.0
    """How long a target is left alone before a call is tried on it."""


@dataclass(frozen=True)
class Permit:
    """Lets a call through, and tells later what its verdict is about."""

    epoch: int


class Circuit:
    """The circuit of one target. Belongs to one thread.

    Args:
        limits: when it opens, and for how long.
        clock: tells the time.
    """

    def __init__(self, limits: Limits, clock: Clock) -> None:
        self._limits = limits
        self._clock = clock
        self._latest: deque[tuple[float, bool]] = deque(maxlen=limits.window)
        self._probe_at: float | None = None
        self._epoch = 0

    @property
    def state(self) -> State:
        """What it is now."""
        if self._probe_at is None:
            return State.CLOSED
        return State.OPEN if self._clock() < self._probe_at else State.HALF_OPEN

    def enter(self) -> Permit | None:
        """Lets a call through, or not; a permit must come back through `leave`."""
        state = self.state
        if state is State.OPEN:
            return None
        if state is State.HALF_OPEN:
            self._rest()
        return Permit(self._epoch)

    def leave(self, permit: Permit, verdict: Verdict) -> None:
        """Takes a call's verdict.

        That of a call which was let through before the circuit last opened or closed says nothing
        about the target as it is now.
        """
        if permit.epoch != self._epoch:
            return
        if self._probe_at is None:
            self._take(verdict)
        elif verdict is Verdict.GOOD:
            self._turn(None)
        elif verdict is Verdict.BAD:
            self._rest()
        else:
            self._probe_at = self._clock()

    def _take(self, verdict: Verdict) -> None:
        if verdict is Verdict.NONE:
            return
        now = self._clock()
        self._latest.append((now, verdict is Verdict.BAD))
        since = now - self._limits.memory_seconds
        latest = [bad for at, bad in self._latest if at >= since]
        if sum(latest) >= max(self._limits.failures, len(latest) / 2):
            self._turn(now + self._limits.rest_seconds)

    def _turn(self, probe_at: float | None) -> None:
        self._probe_at = probe_at
        self._epoch += 1
        self._latest.clear()

    def _rest(self) -> None:
        self._probe_at = self._clock() + self._limits.rest_seconds
