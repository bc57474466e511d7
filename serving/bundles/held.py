"""The versions that a process holds: which one answers a call, and when one can be let go."""

import asyncio
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


class HeldBundle:
    """One version, and the calls that it answers just now."""

    def __init__(self, version: str, servicer: Servicer) -> None:
        self.version = version
        self.servicer = servicer
        self._calls = 0
        self._idle = asyncio.Event()
        self._idle.set()

    def enter(self, context: Any) -> None:
        """Counts a call, until gRPC is done with it."""
        self._calls += 1
        self._idle.clear()
        context.add_done_callback(self._leave)

    async def idle(self) -> None:
        """Waits until no call is in flight."""
        await self._idle.wait()

    def _leave(self, _: object) -> None:
        self._calls -= 1
        if not self._calls:
            self._idle.set()


class HeldBundles:
    """The version that serves, and at most one beside it."""

    def __init__(self) -> None:
        self.serving: HeldBundle | None = None
        """Answers the calls that name no version; None until the first is loaded."""
        self.beside: HeldBundle | None = None
        """Is about to serve, or has served."""

    @property
    def all(self) -> list[HeldBundle]:
        """Those that are held, the one that serves first."""
        return [held for held in (self.serving, self.beside) if held is not None]

    def find(self, version: str) -> HeldBundle | None:
        """The version, where it is held."""
        return next((held for held in self.all if held.version == version), None)

    def of(self, context: Any) -> HeldBundle:
        """What answers a call: the version that its metadata names, or the one that serves.

        Raises:
            Unavailable: reason WARMING_UP or VERSION_NOT_HELD.
        """
        if self.serving is None:
            raise Unavailable("the server is starting; try again shortly", reason="WARMING_UP")
        for key, value in context.invocation_metadata() or ():
            if key == VERSION_KEY:
                held = self.find(value)
                if held is None:
                    raise Unavailable(
                        f"this server has {self.serving.version} and not the version that the call "
                        f"names in {VERSION_KEY}",
                        reason="VERSION_NOT_HELD",
                        bundle_version=self.serving.version,
                    )
                return held
        return self.serving
