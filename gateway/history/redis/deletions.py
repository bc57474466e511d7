"""Keeps the deleted users of Redis and of a gateway's file the same.

Redis has what all gateways deleted, and may lose it: when it is flushed, when it fails over to a
replica that was behind, or one key alone. Each gateway has it in a file, too, and puts back what
Redis has lost: before it does anything else there, because each script is told the newest deletion
that its gateway knows of (`scripts.py`). What gateways delete, the others take over from Redis.

A deletion is in the file before it is in Redis: one that fails half-way is made good later.
"""

import asyncio
import sqlite3
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

import structlog

from core.errors import Unavailable
from gateway.history.redis.connection import Connection
from gateway.history.store import now, unavailable
from gateway.history.tombstones import Tombstone, Tombstones, UserHash
from serving.sqlite import storage_error
from serving.workers import Workers

log = structlog.get_logger()

T = TypeVar("T")

PREFIX: Final = "tandem:history:"
USER_KEYS: Final = ("events", "others", "ids", "state")
"""What is kept of a user, each under `PREFIX`, this name, a colon and the user's id."""
DELETED: Final = f"{PREFIX}deleted"
_KEY: Final = f"{PREFIX}key"
PAGE: Final = 1_000
FULL_SECONDS: Final = 3_600.0
"""How often all are compared, and not only those that are new."""
_NONE: Final = Tombstone(b"", -1)


class Deletions:
    """The deleted users that a gateway and its Redis know of.

    Args:
        connection: to Redis.
        tombstones: the file.
        users: hashes their ids.
        learned: called with the deletions by other gateways, once they are in the file.
    """

    def __init__(
        self,
        connection: Connection,
        tombstones: Tombstones,
        users: UserHash,
        learned: Callable[[set[bytes]], None],
    ) -> None:
        self._connection = connection
        self._tombstones = tombstones
        self._users = users
        self._learned = learned
        self._thread = Workers(1)
        self._newest = _NONE
        """The newest that is both in Redis and in the file."""
        self._doubts, self._settled = 1, 0
        """How often Redis may have come to lack some that are in the file, and up to which time
        that has been seen to."""
        self._read_to = -1
        """The time up to which the file has what is in Redis."""
        self._compared = 0.0
        self._syncing: asyncio.Task[None] | None = None
        self._unswept = True
        """Whether Redis may have histories that came back."""

    async def arguments(self, user_id: str) -> list[bytes | int]:
        """What each script begins with: the user, and the newest deletion that must be there.

        Raises:
            TandemError: Redis or the file cannot be reached.
        """
        while self._doubts > self._settled:
            await self.sync()
        return [self._users.of(user_id), *self._newest]

    def lost(self) -> None:
        """To be called when a script found that Redis has lost deletions: it gets them back."""
        self._doubts += 1

    async def delete(self, user_id: str, run: Callable[[int], Awaitable[tuple[int, int]]]) -> int:
        """Deletes a user, and returns how many events there were.

        Args:
            user_id: whom.
            run: deletes it from Redis, at a time that it may put off, and returns the number of
                events and the time.

        Raises:
            TandemError: as `run` does; or the file cannot be written to.
        """
        # What is put back is dropped before it can be counted: first, nothing is to be put back.
        await self.arguments(user_id)
        user, begun = self._users.of(user_id), max(now(), self._read_to + 1)
        await self._on_disk(self._tombstones.put, [Tombstone(user, begun)])
        try:
            count, ended = await run(begun)
        except BaseException:
            self.lost()  # or never had this one
            raise
        if ended != begun:
            await self._on_disk(self._tombstones.put, [Tombstone(user, ended)])
        self._newest = max(self._newest, Tombstone(user, ended), key=_time)
        return count

    async def sync(self) -> None:
        """Makes both the same; whoever calls meanwhile waits for the same.

        Raises:
            TandemError: Redis or the file cannot be reached, or Redis has another key's hashes.
        """
        if self._syncing is None or self._syncing.done():
            self._syncing = asyncio.get_running_loop().create_task(self._sync())
            # Whoever waited may have given up.
            self._syncing.add_done_callback(lambda task: task.cancelled() or task.exception())
        await asyncio.shield(self._syncing)

    async def sweep(self, drop: Callable[[list[str]], Awaitable[None]]) -> None:
        """Lets go of the histories that came back to Redis with what it was before.

        Args:
            drop: called with deleted users that have one.

        Raises:
            TandemError: Redis cannot be reached; the next call begins anew.
        """
        if not self._unswept or self._newest == _NONE:
            return
        self._unswept = False
        try:
            cursor, page = await self._scan(0)
            await drop(page)
            while cursor:
                cursor, page = await self._scan(cursor)
                await drop(page)
        except BaseException:
            self._unswept = True
            raise

    async def close(self) -> None:
        """Ends what is under way, and closes the file."""
        if self._syncing is not None:
            self._syncing.cancel()
            await asyncio.wait([self._syncing])
        self._thread.close()
        self._tombstones.close()

    async def _sync(self) -> None:
        await self._check_key()
        if not await self._has(self._newest):
            self.lost()
        old = time.monotonic() - self._compared > FULL_SECONDS
        if old or self._doubts > self._settled:
            doubts = self._doubts
            await self._put_back()
            self._settled, self._compared, self._read_to = doubts, time.monotonic(), -1
        self._newest = max(self._newest, await self._take_over(), key=_time)

    async def _check_key(self) -> None:
        own = self._users.fingerprint
        async with self._connection.operation() as redis:
            found = await redis.get(_KEY)
            if found is None:
                await redis.set(_KEY, own, nx=True)
                found = await redis.get(_KEY)
        if found != own:
            raise Unavailable(
                "the gateways of this Redis have different keys; give all of them the same "
                "--history-key-file",
                reason="HISTORY_UNAVAILABLE",
                store="redis",
            )

    async def _has(self, tombstone: Tombstone) -> bool:
        if tombstone == _NONE:
            return True
        async with self._connection.operation() as redis:
            score = await redis.zscore(DELETED, tombstone.user)
        return score is not None and score >= tombstone.time

    async def _put_back(self) -> None:
        """Writes to Redis what the file has."""
        page = await self._on_disk(self._tombstones.after, b"", PAGE)
        while page:
            async with self._connection.operation() as redis:
                changed = await redis.zadd(DELETED, dict(page), gt=True, ch=True)
            if changed:
                self._unswept = True
                log.warning("redis lacked deleted users", put_back=changed)
            page = await self._on_disk(self._tombstones.after, page[-1].user, PAGE)

    async def _take_over(self) -> Tombstone:
        """Writes to the file what Redis has, from `_read_to` on, and returns the newest of it."""
        newest = _NONE
        while True:
            async with self._connection.operation() as redis:
                rows: Any = await redis.zrangebyscore(
                    DELETED, f"({self._read_to}", "+inf", start=0, num=PAGE, withscores=True
                )
            page = [Tombstone(user, int(score)) for user, score in rows]
            if page:
                await self._on_disk(self._tombstones.put, page)
                self._learned({each.user for each in page})
                newest, self._read_to = page[-1], page[-1].time
            if len(page) < PAGE:
                return newest

    async def _scan(self, cursor: int) -> tuple[int, list[str]]:
        """The next cursor, and those of a page of users who were deleted."""
        async with self._connection.operation() as redis:
            answer: Any = await redis.scan(cursor, match=f"{PREFIX}*:*", count=PAGE)
            following, keys = answer
            named = (key[len(PREFIX) :].decode().partition(":")[2] for key in keys)
            users: list[str] = list(dict.fromkeys(named))
            if not users:
                return int(following), []
            hashes: list[Any] = [self._users.of(user) for user in users]
            scores = await redis.zmscore(DELETED, hashes)
        found = zip(users, scores, strict=True)
        return int(following), [user for user, score in found if score is not None]

    async def _on_disk(self, work: Callable[..., T], *arguments: Any) -> T:
        try:
            return await self._thread.run(work, *arguments)
        except sqlite3.Error as error:
            failed = unavailable("the file of deleted users")
            raise storage_error(error, reason_full="HISTORY_FULL", otherwise=failed) from error


def _time(tombstone: Tombstone) -> int:
    return tombstone.time
