"""Histories in Redis, for several gateways.

What is read of a history is its items in one string, and that only when it has changed since this
gateway read it last: its version is compared in Redis, and what other gateways write is seen.

Redis acknowledges what it has been told to keep: with `appendonly yes` and `appendfsync always`
that survives SIGKILL and loss of power, with `everysec` SIGKILL alone. A Redis that keeps nothing,
or may evict keys, is used but warned of. Whatever it loses, users who were deleted stay so
(`deletions.py`).
"""

import json
import secrets
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias

import structlog
from redis.commands.core import AsyncScript

from gateway.history.event import Event, read_event, write_details
from gateway.history.recent import History, RecentHistories
from gateway.history.redis import scripts
from gateway.history.redis.connection import Connection
from gateway.history.redis.deletions import DELETED, PREFIX, USER_KEYS, Deletions
from gateway.history.store import Recorded, Retention, unavailable
from gateway.history.tombstones import Tombstones, UserHash

log = structlog.get_logger()

TEND_SECONDS: Final = 10.0
"""How soon a gateway that nobody calls puts back the deletions that Redis has lost."""
_VERSION_BYTES: Final = 8
_Lists: TypeAlias = dict[tuple[str, bool], list[Event]]
"""Events by user, and by whether the models read them."""
_SEPARATOR: Final = scripts.SEPARATOR.decode(errors="surrogateescape")


class RedisHistoryStore:
    """A Redis of histories, which any number of gateways may share.

    Args:
        url: see `Connection`.
        retention: what is kept; less than before takes effect as users have new events.
        users: hashes the ids of users who are deleted; with the same key in each gateway.
        tombstones: the file of deleted users, this gateway's or shared with others of its machine.
        timeout: seconds that an operation may take, the wait for a connection included.
        max_recent_bytes: see `RecentHistories`.

    Raises:
        SettingsError: the URL is not one of Redis, or the file cannot be opened.
    """

    def __init__(
        self,
        url: str,
        retention: Retention,
        users: UserHash,
        tombstones: Path,
        *,
        timeout: float = 0.25,
        max_recent_bytes: int = 16 * 2**20,
    ) -> None:
        self.connection = Connection(url, timeout)
        self._recent = RecentHistories(max_recent_bytes)
        self._retention = retention
        self._users = users
        self._deletions = Deletions(
            self.connection, Tombstones.open(tombstones, users), users, self._forget
        )
        script = self.connection.redis.register_script
        self._record = script(scripts.RECORD)
        self._items = script(scripts.ITEMS)
        self._events = script(scripts.EVENTS)
        self._delete = script(scripts.DELETE)
        self._merge = script(scripts.MERGE)
        self._warned: set[str] = set()

    async def record(self, events: Sequence[Event], *, seeded: bool = False) -> Recorded:
        """As the protocol says; of a batch that fails, the events of some users may be kept."""
        lists: _Lists = defaultdict(list)
        for event in events:
            lists[event.user_id, event.in_history].append(event)
        total = Recorded()
        for _ in range(2):
            answers = await self._record_each(lists, seeded=seeded)
            for which, (known, *new) in answers.items():
                batch = lists.pop(which)
                total += Recorded.of([batch[place] for place in new], known, len(batch))
            if not lists:
                return total
            self._deletions.lost()
        raise unavailable("redis")

    async def history(self, user_id: str) -> tuple[str, ...] | None:
        """As the protocol says."""
        oldest = self._retention.oldest()
        known = self._recent.find(user_id, oldest)
        version, *found = await self._run(
            self._items, user_id, known.version if known else b"", oldest, self._retention.events
        )
        if known is not None and not found:
            return known.items
        since, items = found
        if not items:
            self._recent.forget([user_id])
            return None
        text: str = items.decode(errors="surrogateescape")
        history = History(tuple(text.split(_SEPARATOR)), int(since), version)
        if version:
            self._recent.keep(user_id, history)
        return history.items

    async def events(self, user_id: str, count: int, *, in_history: bool = True) -> list[Event]:
        """As the protocol says."""
        count = min(count, self._retention.most(in_history=in_history))
        oldest = self._retention.oldest()
        found = await self._run(self._events, user_id, oldest, count, int(in_history))
        rows = zip(found[-2::-2], found[::-2], strict=True)
        return [
            read_member(user_id, member, int(time), in_history=in_history) for member, time in rows
        ]

    async def delete(self, user_id: str) -> int:
        """As the protocol says; Redis rewrites its append-only file by rules of its own."""

        async def run(time: int) -> tuple[int, int]:
            count, ended = await self._run(self._delete, user_id, time)
            return int(count), int(ended)

        self._recent.forget([user_id])
        return await self._deletions.delete(user_id, run)

    async def merge(self, source: str, user_id: str) -> Recorded:
        """As the protocol says, in one script; else as `delete`."""
        kept, version = self._retention, secrets.token_bytes(_VERSION_BYTES)
        target = self._users.of(user_id)
        limits = [kept.oldest(), kept.lifetime or 0, kept.events, kept.others]
        keys = [*_keys(user_id)[:-1], PREFIX + "arrivals"]
        counts: list[int] = []

        async def run(time: int) -> tuple[int, int]:
            found = await self._run(
                self._merge, source, time, target, version, *limits, others=keys
            )
            *counts[:], ended = map(int, found)
            return sum(counts), ended

        self._recent.forget([source, user_id])
        await self._deletions.delete(source, run)
        new, known, outdated = counts
        return Recorded(new, known, outdated)

    async def seed(self) -> str | None:
        """As the protocol says."""
        async with self.connection.operation() as redis:
            seed: Any = await redis.get(PREFIX + "seed")
        return None if seed is None else seed.decode()

    async def set_seed(self, bundle_version: str) -> None:
        """As the protocol says."""
        async with self.connection.operation() as redis:
            await redis.set(PREFIX + "seed", bundle_version)

    async def tend(self) -> float:
        """Puts back deletions, and warns of a Redis that loses what it acknowledged.

        What is too old goes by itself.
        """
        await self._deletions.sync()
        await self._deletions.sweep(self._drop)
        async with self.connection.operation() as redis:
            info: dict[str, Any] = await redis.info()
        self._warn(
            "redis loses events when it restarts: set appendonly yes", not info.get("aof_enabled")
        )
        self._warn(
            "redis may drop histories: set maxmemory-policy noeviction",
            info.get("maxmemory_policy", "noeviction") != "noeviction",
        )
        return TEND_SECONDS

    async def close(self) -> None:
        """Closes the connections and the file."""
        await self._deletions.close()
        await self.connection.close()

    async def _record_each(
        self, lists: _Lists, *, seeded: bool
    ) -> dict[tuple[str, bool], list[int]]:
        """What each list's script answered, without those for which deletions were missing."""
        kept, version = self._retention, secrets.token_bytes(_VERSION_BYTES)
        limits = [kept.oldest(), kept.lifetime or 0]
        async with (
            self.connection.operation() as redis,
            redis.pipeline(transaction=False) as pipeline,
        ):
            for (user_id, in_history), batch in lists.items():
                begin = await self._deletions.arguments(user_id)
                most = kept.most(in_history=in_history)
                which: list[int | bytes] = [int(seeded), int(in_history), version]
                await self._record(
                    keys=[*_keys(user_id), PREFIX + "arrivals"],
                    args=[*begin, *which, most, *limits, *_arguments(batch)],
                    client=pipeline,
                )
            answers = await pipeline.execute()
        found = zip(lists, answers, strict=True)
        return {which: answer for which, answer in found if answer is not None}

    async def _run(
        self,
        script: AsyncScript,
        user_id: str,
        *arguments: bytes | int,
        others: Sequence[str] = (),
    ) -> Any:
        """Runs a script for a user, once Redis has all deletions that it should have.

        Args:
            script: to run.
            user_id: whose keys it is given.
            arguments: after those that all begin with.
            others: keys after those.
        """
        for _ in range(2):
            async with self.connection.operation():
                begin = await self._deletions.arguments(user_id)
                keys = [*_keys(user_id), *others]
                answer = await script(keys=keys, args=[*begin, *arguments])
            if answer is not None:
                return answer
            self._deletions.lost()
        raise unavailable("redis")

    async def _drop(self, user_ids: list[str]) -> None:
        """Each script drops what must not be there."""
        for user_id in user_ids:
            await self._run(self._events, user_id, 0, 0, 1)

    def _forget(self, deleted: set[bytes]) -> None:
        remembered = self._recent.users()
        self._recent.forget(user for user in remembered if self._users.of(user) in deleted)

    def _warn(self, what: str, wrong: bool) -> None:
        """Warns once, until it has been right in between."""
        if wrong and what not in self._warned:
            log.warning(what)
        (self._warned.add if wrong else self._warned.discard)(what)


def _keys(user_id: str) -> list[str]:
    return [*(f"{PREFIX}{each}:{user_id}" for each in USER_KEYS), DELETED]


def _arguments(events: Sequence[Event]) -> list[str | int | bytes]:
    return [part for event in events for part in (event.time, event.event_id, _write_rest(event))]


def _write_rest(event: Event) -> bytes:
    """What follows the event's id in its member."""
    details = write_details(event)
    said = scripts.DETAILS + details.encode() if details else b""
    return said + scripts.SEPARATOR + event.item_id.encode()


def read_member(user_id: str, member: bytes, time: int, *, in_history: bool) -> Event:
    """An event, from its member of a list."""
    body = member[scripts.ARRIVAL :]
    named, separator, item_id = body.partition(scripts.SEPARATOR)
    if not separator:
        event_id, item = json.loads(body)  # of 0.1.0
        return Event(event_id, user_id, item, time)
    event, _, details = named.partition(scripts.DETAILS)
    return read_event(
        event.decode(), user_id, item_id.decode(), time, details.decode(), in_history=in_history
    )
