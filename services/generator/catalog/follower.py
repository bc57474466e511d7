"""The generator's catalog follows that of the candidate service, where items come and go.

    feed ──▶ inbox ──▶ all that is there, as one ──▶ next version, on a thread ──▶ next engine

The follower resumes after the last change that it has made, however often the connection breaks.
Where the candidate's catalog turns out not to be the one that was followed (it was restored from an
older state, say) it begins anew: from the bundle's own items and with all changes since, beside the
version that is served meanwhile. While the candidate is away the generator serves what it has.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, Protocol

import structlog

from core.errors import InvalidArgument
from services.generator.catalog.client import Disconnected, OtherCatalog, Step
from services.generator.catalog.coded import CodedCatalog, CodedChange, CodedUpsert
from services.generator.catalog.inbox import receiving
from services.generator.decoding.engine import GeneratorEngine
from serving.background import Background, Backoff
from serving.frames import release_frames

log = structlog.get_logger()

QUIET_SECONDS: Final = 0.25


class Feed(Protocol):
    """Where changes come from; see `services.generator.catalog.client.CatalogFeed`."""

    def steps(self, after: int) -> AsyncGenerator[Step, None]:
        """Yields what happened after a sequence, and then what happens."""

    async def close(self) -> None:
        """Closes the connection."""


@dataclass(frozen=True)
class Refusal:
    """A change that cannot be made."""

    change: CodedChange
    error: InvalidArgument


@dataclass
class CatalogProgress:
    """How far a follower has come, and what it met with."""

    sequence: int = 0
    """Everything up to here is made; 0 is the bundle's own catalog."""
    changes: int = 0
    """That were made."""
    refused: int = 0
    """Changes that could not be made, each once."""
    restarts: int = 0
    """How often it began anew."""


class Follower:
    """Holds the engine that serves, and keeps its catalog as the candidate's is.

    Args:
        engine: the first, whose catalog is the bundle's own.
        feed: of the candidate's changes; None where the catalog stays as it is.
        backoff: between attempts to reach it.
        quiet: seconds after which, when nothing comes, all that had happened has come.
    """

    def __init__(
        self,
        engine: GeneratorEngine,
        feed: Feed | None = None,
        backoff: Backoff | None = None,
        quiet: float = QUIET_SECONDS,
    ) -> None:
        self.engine = engine
        """That of the version that is served; a request takes it once."""
        self.progress = CatalogProgress()
        self._feed = feed
        self._backoff = backoff or Backoff()
        self._quiet = quiet
        self._base = engine.snapshot
        self._next = engine.snapshot
        """What the engine has or, while beginning anew, is about to have."""
        self._anew = False
        self._held: dict[str, Refusal] = {}
        """Items whose code another one has. Changes that are yet to come may free it: of an item
        that changed several times, only the last change comes."""
        self._told: dict[str, CodedChange] = {}
        """Those of them that are in the log."""
        self._caught_up = asyncio.Event()
        if feed is None:
            self._caught_up.set()
        self._background = (
            None if feed is None else Background("catalog follower", partial(self._run, feed))
        )

    def start(self) -> None:
        """Begins to follow, where there is a feed; to be called on the event loop."""
        if self._background is not None:
            self._caught_up.clear()
            self._background.start()

    async def caught_up(self) -> None:
        """Waits until all changes that there are have been made, once since the start."""
        await self._caught_up.wait()

    async def pause(self) -> None:
        """Follows no more until it is started again; the engine stays."""
        if self._background is not None:
            await self._background.stop()

    async def close(self) -> None:
        """Follows no more; the engine stays."""
        await self.pause()
        self._background = None  # else a cycle, as in `BatchQueue.close`
        if self._feed is not None:
            await self._feed.close()

    async def _run(self, feed: Feed) -> None:
        """Follows forever, through whatever becomes of the candidate."""
        while True:
            try:
                await self._follow(feed)
            except Disconnected as error:
                if isinstance(error, OtherCatalog):
                    self._begin_anew()
                if not self._backoff.failures:  # once an outage, not once an attempt
                    log.warning("catalog not followed", **self._where(), error=str(error))
                release_frames(error)
            await asyncio.sleep(self._backoff.next())

    async def _follow(self, feed: Feed) -> None:
        """Follows until the feed ends."""
        async with receiving(feed.steps(self.progress.sequence)) as inbox:
            if step := await inbox.take():
                await self._make(step)
            self._backoff.reset()
            log.info("catalog followed", **self._where())
            while True:
                step = await inbox.take(None if self.settled else self._quiet)
                if step is None:
                    self._settle()
                else:
                    await self._make(step)

    async def _make(self, step: Step) -> None:
        """Makes the next version, and serves it unless it is begun anew and not complete yet."""
        started = time.perf_counter()
        if not step.changes:
            self._reached(self._next, step.sequence)
            self._settle()
            self._caught_up.set()
            return
        last = {item_id: refusal.change for item_id, refusal in self._held.items()}
        last |= {change.item_id: change for change in step.changes}
        made, refusals = await asyncio.to_thread(make, self._next, last.values())
        self._reached(made, step.sequence)
        self.progress.changes += len(last) - len(refusals)
        self._keep(refusals)
        if 0 < step.last <= step.sequence:
            self._anew = False
            self._caught_up.set()
        if not self._anew:
            self.engine = self.engine.over(self._next)
        ms = round((time.perf_counter() - started) * 1e3, 3)
        log.info("catalog changed", **self._where(), changes=len(step.changes), ms=ms)

    def _reached(self, version: CodedCatalog, sequence: int) -> None:
        if version.sequence != sequence:
            version = replace(version, sequence=sequence)
        self._next = version
        self.progress.sequence = sequence

    @property
    def settled(self) -> bool:
        """Whether all that has come is served, or refused for good."""
        return not self._anew and self._held.keys() == self._told.keys()

    def _settle(self) -> None:
        """Serves what there is, and gives up on what could not be made with all that has come."""
        self.engine = self.engine.over(self._next)
        self._anew = False
        self._tell(self._held.values())

    def _keep(self, refusals: Iterable[Refusal]) -> None:
        """Holds what may be possible later, and lets go of what never will."""
        held = {r.change.item_id: r for r in refusals if r.error.reason == "CODE_TAKEN"}
        self._tell(r for r in refusals if r.change.item_id not in held)
        self._held = held
        self._told = {
            item_id: change
            for item_id, change in self._told.items()
            if item_id in held and held[item_id].change is change
        }

    def _tell(self, refusals: Iterable[Refusal]) -> None:
        for refusal in refusals:
            item_id = refusal.change.item_id
            if item_id not in self._told:
                self._told[item_id] = refusal.change
                self.progress.refused += 1
                error = refusal.error
                log.error(
                    "catalog change refused",
                    item_id=item_id,
                    reason=error.reason,
                    error=error.message,
                )

    def _begin_anew(self) -> None:
        if not self.progress.sequence:
            return
        log.warning("catalog is begun anew", **self._where())
        self._next = replace(self._base, version=self.engine.snapshot.version + 1)
        self._anew = True
        self._held, self._told = {}, {}
        self.progress.sequence = 0
        self.progress.restarts += 1

    def _where(self) -> dict[str, int]:
        return {"sequence": self.progress.sequence, "items": self._next.catalog.live_count}


def make(
    catalog: CodedCatalog, changes: Iterable[CodedChange]
) -> tuple[CodedCatalog, list[Refusal]]:
    """Makes the version that results from all changes, of different items, that can be made.

    Blocking: as `CodedCatalog.apply`, as many times as there are items whose codes are taken.

    Returns:
        The version, and the changes that were left out.
    """
    left, refusals = {}, []
    for change in changes:
        if problem := _problem(catalog, change):
            refusals.append(Refusal(change, problem))
        else:
            left[change.item_id] = change
    while left:
        try:
            return catalog.apply(left.values()), refusals
        except InvalidArgument as error:
            refusals.append(Refusal(left.pop(error.metadata["item_id"]), error))
    return catalog, refusals


def _problem(catalog: CodedCatalog, change: CodedChange) -> InvalidArgument | None:
    if isinstance(change, CodedUpsert):
        try:
            catalog.check(change)
        except InvalidArgument as error:
            return error
    return None
