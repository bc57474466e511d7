"""The attempts of one call of a service: where each goes, and what it must be answered from."""

import asyncio
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from gateway.calls.circuit import Permit
from gateway.calls.targets import Target
from serving.bundles.held import VERSION_KEY
from serving.telemetry.request_id import REQUEST_ID_HEADER, request_id

S = TypeVar("S")
R = TypeVar("R")


class Versioned(Protocol):
    """What every response of a service says."""

    @property
    def bundle_version(self) -> str:
        """Of the bundle that answered."""

    @property
    def catalog_sequence(self) -> int:
        """Of the last change of the catalog that answered."""


@dataclass(eq=False)
class Attempt(Generic[S]):
    """A call of one target."""

    target: Target[S]
    permit: Permit
    version: str
    """That must answer it; empty for whichever serves."""
    kind: str = "first"
    """First, retry or hedge."""
    overtaken: bool = False
    """Whether a hedge that began later was answered earlier."""

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What it sends beside its request."""
        named = (REQUEST_ID_HEADER, request_id.get())
        return (named, (VERSION_KEY, self.version)) if self.version else (named,)


@dataclass
class Course(Generic[S]):
    """What a call has come to so far."""

    version: str
    """That is asked for; empty once no target has it, because an answer from another version,
    which is told apart, is better than none."""
    tried: list[Target[S]] = field(default_factory=list)
    misses: int = 0
    """Answers that a target does not hold the version."""

    def missed(self, targets: int) -> None:
        """Notes that one of so many targets does not hold the version."""
        self.misses += 1
        if self.misses >= targets:
            self.version = ""


async def first_answer(running: list["asyncio.Task[R]"]) -> "asyncio.Task[R]":
    """The first to be answered; where all fail, the one that began first."""
    pending: set[asyncio.Task[Any]] = set(running)
    while pending:
        done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        for task in running:
            if task in done and not task.cancelled() and task.exception() is None:
                return task
    return running[0]
