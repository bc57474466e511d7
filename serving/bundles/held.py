"""The versions that a process holds: which one answers a call, and when one can be let go."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from core.errors import Unavailable

VERSION_KEY: Final = "x-tandem-bundle-version"
"""The metadata key by which a call names the version that must answer it."""


class Servicer(Protocol):
    """What a process has of one version: the methods of its services, and its life."""

    async def warm_up(self) -> None:
        """Makes one real call of each kind, so that the first caller does not pay for it."""

    async def activate(self, previous: Any) -> None:
        """Prepares to answer the calls that name no version.

        Args:
            previous: the servicer that answers them now, of the same class; None at the start.

        Raises:
            TandemError: it cannot; the previous one goes on.
        """

    async def close(self) -> None:
        """Releases what was loaded; no call is in flight any more."""


class Calls:
    """Those that a version answers just now. Without the version: gRPC may keep a call, and with it
    whom to tell of its end, for longer than it lasts."""

    def __init__(self) -> None:
        self._count = 0
        self._idle = asyncio.Event()
        self._idle.set()

    def enter(self, context: Any) -> None:
        """Counts a call, until gRPC is done with it."""
        self._count += 1
        self._idle.clear()
        context.add_done_callback(self._leave)

    @contextmanager
    def during(self) -> Iterator[None]:
        """Counts a call for as long as it is within."""
        self._count += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._leave(None)

    async def end(self) -> None:
        """Waits until there is none."""
        await self._idle.wait()

    def _leave(self, _: object) -> None:
        self._count -= 1
        if not self._count:
            self._idle.set()


@dataclass(frozen=True)
class HeldBundle:
    """One version."""

    version: str
    servicer: Servicer
    calls: Calls = field(default_factory=Calls)


class HeldBundles:
    """The version that serves, and at most one beside it."""

    def __init__(self) -> None:
        self.serving: HeldBundle | None = None
        """Answers the calls that name no version; None until the first is loaded."""
        self.beside: HeldBundle | None = None
        """Is about to serve, or has served."""

    @property
    def current(self) -> HeldBundle:
        """The version that serves.

        Raises:
            Unavailable: reason WARMING_UP.
        """
        if self.serving is None:
            raise Unavailable("the server is starting; try again shortly", reason="WARMING_UP")
        return self.serving

    @property
    def all(self) -> list[HeldBundle]:
        """Those that are held, the one that serves first."""
        return [held for held in (self.serving, self.beside) if held is not None]

    def states(self) -> list[tuple[str, str]]:
        """The versions that are held, and what each is: `serving` or `beside`."""
        return [
            (held.version, "serving" if held is self.serving else "beside") for held in self.all
        ]

    def find(self, version: str) -> HeldBundle | None:
        """The version, where it is held."""
        return next((held for held in self.all if held.version == version), None)

    def of(self, context: Any) -> HeldBundle:
        """What answers a call: the version that its metadata names, or the one that serves.

        Raises:
            Unavailable: reason WARMING_UP or VERSION_NOT_HELD.
        """
        serving = self.current
        for key, value in context.invocation_metadata() or ():
            if key == VERSION_KEY:
                held = self.find(value)
                if held is None:
                    raise Unavailable(
                        f"this server has {serving.version} and not the version that the call "
                        f"names in {VERSION_KEY}",
                        reason="VERSION_NOT_HELD",
                        bundle_version=serving.version,
                    )
                return held
        return serving
