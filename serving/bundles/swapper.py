"""Loads versions of the bundle beside the one that serves, and lets one take the other's place.

    load      verified on a quiet thread, loaded on another, warmed by real calls; held beside
    activate  the version that is held serves, and the one that served is held
    release   what is held and not wanted any more, once its calls have ended

Callers see nothing of it: a call is answered to its end by the version that it began with.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable
from contextvars import Context
from functools import partial
from pathlib import Path
from typing import Final

import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from core.bundle import Bundle, versions
from core.errors import BundleError, InvalidArgument, NotFound
from core.manifest import PATH_COMPONENT
from serving.bundles.held import HeldBundle, HeldBundles, Servicer
from serving.bundles.quiet import QuietThread
from serving.telemetry.request_id import request_id

log = structlog.get_logger()

RELEASE_SECONDS: Final = 30.0
"""How long the calls of a version that is let go may go on; no call of a service takes so long."""


class BundleSwapper:
    """Changes what a process holds, one change at a time; one that began is brought to its end,
    also when its caller has left.

    Args:
        held: what the process holds.
        load: makes the servicer of a bundle; blocks, on a thread.
        path: of the bundle that the process was started with; its versions lie beside it.
        key: that bundles must be signed with; None takes any.
        activated: told of the servicer that serves from now on.
    """

    def __init__(
        self,
        held: HeldBundles,
        load: Callable[[Bundle], Servicer],
        path: Path,
        activated: Callable[[Servicer], None],
        key: Ed25519PublicKey | None = None,
    ) -> None:
        self._held = held
        self._load = load
        self._directory = path.absolute().parent
        self._activated = activated
        self._open = partial(Bundle.open, key=key)
        self._quiet = QuietThread()
        self._turn = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self, path: Path) -> None:
        """Loads the first version, and lets it serve.

        Raises:
            TandemError: it must not be served.
        """
        held = await self._loaded(await asyncio.to_thread(self._open, path))
        await held.servicer.activate(None)
        self._serve(held)

    async def load(self, version: str) -> None:
        """Loads a version beside the one that serves, unless it is held already.

        Raises:
            Unavailable: reason WARMING_UP: none serves yet.
            InvalidArgument: reason OTHER_BUNDLE or INVALID_VERSION: it is none of this bundle's.
            NotFound: reason UNKNOWN_BUNDLE.
            BundleError: it is broken; what serves serves on.
        """
        await self._in_turn(self._hold, version)

    async def activate(self, version: str) -> None:
        """Lets a version serve, which is loaded first where it is not held.

        Raises:
            TandemError: as `load`; or it cannot take over, and what served serves on.
        """
        await self._in_turn(self._activate, version)

    def available(self) -> list[str]:
        """The versions that lie beside the one that the process was started with, the newest first;
        blocks."""
        name = self._directory.name
        paths = [path for path in versions(self._directory.parent) if path.parent.name == name]
        return [f"{path.parent.name}/{path.name}" for path in reversed(paths)]

    async def close(self) -> None:
        """Waits for a change that is under way, and closes all that is held."""
        async with self._turn:
            for held in self._held.all:
                await held.servicer.close()
            await asyncio.to_thread(self._quiet.close)

    async def _in_turn(self, change: Callable[[str], Awaitable[object]], version: str) -> None:
        """Makes a change after those before it; its end does not depend on who asked for it."""

        async def run() -> None:
            async with self._turn:
                await change(version)

        # With the caller's request id, and without its deadline.
        context = Context()
        context.run(request_id.set, request_id.get())
        task = asyncio.get_running_loop().create_task(run(), context=context)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(_noted)
        await asyncio.shield(task)

    async def _hold(self, version: str) -> HeldBundle:
        held = self._held.find(version)
        if held is None:
            path = self._path(version)
            bundle = await self._quiet.run(self._open, path)
            if bundle.version != version:
                raise BundleError(f"{path} holds {bundle.version}, not {version}")
            # Only now, so that a broken version costs nothing; and before it is loaded, so that
            # there are never three.
            await self._release()
            held = self._held.beside = await self._loaded(bundle)
            log.info("bundle loaded", bundle=version)
        return held

    async def _activate(self, version: str) -> None:
        held, serving = await self._hold(version), self._held.current
        if held is serving:
            return
        await held.servicer.activate(serving.servicer)
        self._held.beside = serving
        self._serve(held)
        log.info("bundle activated", bundle=version, before=serving.version)

    def _serve(self, held: HeldBundle) -> None:
        self._held.serving = held
        self._activated(held.servicer)

    async def _loaded(self, bundle: Bundle) -> HeldBundle:
        """Loads and warms a version, which nobody has called yet."""
        servicer = await asyncio.to_thread(self._load, bundle)
        try:
            await servicer.warm_up()
        except BaseException:
            await servicer.close()
            raise
        return HeldBundle(bundle.version, servicer)

    async def _release(self) -> None:
        """Lets go of what is held beside, so that no more than two versions take memory."""
        held, self._held.beside = self._held.beside, None
        if held is None:
            return
        try:
            async with asyncio.timeout(RELEASE_SECONDS):
                await held.calls.end()
        except TimeoutError:
            log.warning("calls of a released bundle go on", bundle=held.version)
        await held.servicer.close()
        log.info("bundle released", bundle=held.version)
        # On a thread, because what was loaded is freed with the last reference.
        last = [held]
        del held
        await asyncio.to_thread(last.clear)

    def _path(self, version: str) -> Path:
        """Where a version lies.

        Raises:
            InvalidArgument: it is none of this bundle's.
            NotFound: it is not there.
        """
        serving = self._held.current.version
        name, _, number = version.rpartition("/")
        ours = serving.rpartition("/")[0]
        if name != ours:
            raise InvalidArgument(
                f"this server has versions of the bundle {ours}; name one of them, such as "
                f"{serving}",
                reason="OTHER_BUNDLE",
            )
        if not re.fullmatch(PATH_COMPONENT, number):
            raise InvalidArgument(
                f"{version!r} is not a bundle's name, a slash and a version",
                reason="INVALID_VERSION",
            )
        path = self._directory / number
        if not path.is_dir():
            raise NotFound(f"there is no {version} in {self._directory}", reason="UNKNOWN_BUNDLE")
        return path


def _noted(task: "asyncio.Task[None]") -> None:
    """Tells the log of a change that failed: its caller may have left."""
    if not task.cancelled() and (error := task.exception()):
        log.warning("bundle not changed", error=str(error))
