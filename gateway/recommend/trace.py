"""What happens while a request is served: its steps, how long they took, and what failed."""

import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from core.errors import TandemError, Unavailable
from gateway.calls.failures import is_trouble
from gateway.deadline import Deadline
from gateway.domain import (
    Answered,
    Degradation,
    Fallback,
    Origin,
    Recommended,
    Scored,
    StageTime,
)
from serving.telemetry.tracing import span

T = TypeVar("T")


@dataclass
class Stage:
    """A step that runs."""

    name: str
    origin: Origin | None = None
    """What answered it, once something did."""


class Stopwatch:
    """Collects the times of a request's stages, in the order in which they end.

    Args:
        note: is told the name and the seconds of each as well.
    """

    def __init__(self, note: Callable[[str, float], None] = lambda _name, _seconds: None) -> None:
        self._note = note
        self._times: list[StageTime] = []

    @contextmanager
    def stage(self, name: str, deadline: Deadline | None = None) -> Iterator[Stage]:
        """Times a block.

        Args:
            name: of the stage.
            deadline: by when it must have ended; its budget is the time until then.
        """
        budget = None if deadline is None else deadline.left
        stage, started = Stage(name), time.perf_counter()
        try:
            with span(name):
                yield stage
        finally:
            seconds = time.perf_counter() - started
            self._note(name, seconds)
            self._times.append(StageTime(name, seconds, budget, stage.origin))

    @property
    def times(self) -> tuple[StageTime, ...]:
        """What was measured so far."""
        return tuple(self._times)


@dataclass
class RequestTrace:
    """What happens while a request is served."""

    deadline: Deadline
    may_degrade: bool
    bundle_version: str = ""
    """Of the gateway, which the services should have too."""
    watch: Stopwatch = field(default_factory=Stopwatch)
    degradations: list[Degradation] = field(default_factory=list)
    ranked: dict[str, Sequence[Scored | Recommended]] = field(default_factory=dict)
    """What each stage ranked."""

    def share(self, fraction: float) -> Deadline:
        """By when a step must have ended that something could take the place of."""
        return self.deadline.share(fraction if self.may_degrade else 1.0)

    def tolerates(self, error: TandemError) -> bool:
        """Whether an answer may lack what failed: the request is not to blame, and allows it."""
        return self.may_degrade and is_trouble(error)

    async def ask(
        self, name: str, share: float, question: Callable[[Deadline], Awaitable[Answered[T]]]
    ) -> T:
        """Asks a service, as a stage.

        Args:
            name: of the stage.
            share: of the time that is left, see `share`.
            question: calls the service, by a deadline.

        Raises:
            Unavailable: reason MIXED_VERSIONS: another version of the bundle answered, and the
                request forbids that.
            TandemError: the service failed.
        """
        deadline = self.share(share)
        with self.watch.stage(name, deadline) as stage:
            return self._take(stage, await question(deadline))

    def _take(self, stage: Stage, answered: Answered[T]) -> T:
        """What a service answered to a stage; notes from what, and whether that belongs here."""
        stage.origin = answered.origin
        if answered.origin is None or answered.origin.bundle_version == self.bundle_version:
            return answered.value
        mixed = Unavailable(
            f"{stage.name} was answered from bundle {answered.origin.bundle_version}, and the "
            f"gateway has {self.bundle_version}; try again when all have the same",
            reason="MIXED_VERSIONS",
        )
        self.do_without(stage.name, mixed, Fallback.NONE)
        return answered.value

    def do_without(self, stage: str, error: TandemError, fallback: Fallback) -> None:
        """Goes on without a stage that failed.

        Raises:
            TandemError: the error itself, where it is not tolerated.
        """
        if not self.tolerates(error):
            raise error
        self.degradations.append(Degradation(stage, error.reason, fallback))
