"""Histories in Redis, for several gateways.

Of each user there are two keys: a sorted set of the events that are kept, by time, and one of the
identifiers of all events that were recorded, by the time of theirs. A member of the former begins
with a number that grows with arrival, which orders events of the same time, and goes on with the
event as JSON.

Redis acknowledges what it has been told to keep: with `appendonly yes` and `appendfsync always`
that survives SIGKILL and loss of power, with `everysec` SIGKILL alone. A Redis that keeps nothing,
or may evict keys, is used but warned of.
"""

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import structlog
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    BusyLoadingError,
    OutOfMemoryError,
    RedisError,
    ResponseError,
)

from core.errors import ResourceExhausted, SettingsError
from gateway.history.store import Event, Recorded, Retention, unavailable

log = structlog.get_logger()

MAX_CONNECTIONS: Final = 64
FULL_RETRY_SECONDS: Final = 5.0
PREFIX: Final = "tandem:history:"
_ARRIVAL: Final = 16
"""Digits of the number that a member begins with."""

_RECORD: Final = """
local events, ids, arrivals = KEYS[1], KEYS[2], KEYS[3]
local kept, oldest, lifetime = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])

-- Identifiers were a plain set before they outlived their events.
if redis.call('TYPE', ids).ok == 'set' then
  redis.call('DEL', ids)
  local rows = redis.call('ZRANGE', events, 0, -1, 'WITHSCORES')
  for i = 1, #rows, 2 do
    redis.call('ZADD', ids, rows[i + 1], cjson.decode(string.sub(rows[i], 17))[1])
  end
end

-- Of a full history, the time that an event must be newer than.
local full = redis.call('ZRANGE', events, -kept, -kept, 'WITHSCORES')[2]
local new, known = 0, 0
for i = 4, #ARGV, 3 do
  local time, id = tonumber(ARGV[i]), ARGV[i + 1]
  local before = redis.call('ZSCORE', ids, id)
  if before and tonumber(before) >= oldest then
    known = known + 1
  elseif time >= oldest and (not full or time > tonumber(full)) then
    local arrival = string.format('%016d', redis.call('INCR', arrivals))
    redis.call('ZADD', events, ARGV[i], arrival .. ARGV[i + 2])
    redis.call('ZADD', ids, ARGV[i], id)
    new = new + 1
  end
end
if new > 0 then  -- only now: a script that has removed something adds to a memory that is full
  redis.call('ZREMRANGEBYRANK', events, 0, -kept - 1)
  redis.call('ZREMRANGEBYSCORE', events, '-inf', '(' .. ARGV[2])
  redis.call('ZREMRANGEBYSCORE', ids, '-inf', '(' .. ARGV[2])
end
if lifetime > 0 then
  local newest = redis.call('ZRANGE', events, -1, -1, 'WITHSCORES')[2]
  if newest then
    local expiry = string.format('%.0f', (tonumber(newest) + lifetime) / 1000)
    redis.call('PEXPIREAT', events, expiry)
    redis.call('PEXPIREAT', ids, expiry)
  end
end
return {new, known}
"""

_DELETE: Final = """
local count = redis.call('ZCARD', KEYS[1])
redis.call('DEL', KEYS[1], KEYS[2])
return count
"""


class RedisHistoryStore:
    """A Redis of histories, which any number of gateways may share.

    Args:
        url: `redis://[[user]:password@]host[:port][/database]`; `rediss://` for TLS, `unix://` for
            a socket.
        retention: what is kept; less than before takes effect as users have new events.
        timeout: seconds that an operation may take, the wait for a connection included.

    Raises:
        SettingsError: the URL is not one of Redis.
    """

    def __init__(self, url: str, retention: Retention, *, timeout: float = 0.25) -> None:
        try:
            pool = BlockingConnectionPool.from_url(
                url,
                max_connections=MAX_CONNECTIONS,
                timeout=timeout,
                socket_timeout=timeout,
                socket_connect_timeout=timeout,
                # At once, for a connection that Redis closed while it was idle. Each operation
                # may be repeated: events are recorded once, and what is deleted stays so.
                retry=Retry(NoBackoff(), 1),
                decode_responses=True,
            )
        except ValueError as error:
            raise SettingsError(f"not the address of a Redis: {error}") from error
        self._redis: Redis = Redis.from_pool(pool)
        self._retention = retention
        self._timeout = timeout
        self._record = self._redis.register_script(_RECORD)
        self._delete = self._redis.register_script(_DELETE)

    async def record(self, events: Sequence[Event]) -> Recorded:
        """As the protocol says; of a batch that fails, the events of some users may be kept."""
        by_user = defaultdict(list)
        for event in events:
            by_user[event.user_id].append(event)
        async with self._operation(), self._redis.pipeline(transaction=False) as pipeline:
            for user_id, batch in by_user.items():
                await self._record(
                    keys=[*_keys(user_id), PREFIX + "arrivals"],
                    args=[*self._limits(), *_arguments(batch)],
                    client=pipeline,
                )
            counts = await pipeline.execute()
        new, known = sum(n for n, _ in counts), sum(k for _, k in counts)
        return Recorded(new, known, len(events) - new - known)

    async def history(self, user_id: str) -> tuple[str, ...] | None:
        """As the protocol says."""
        rows = await self._newest(user_id, self._retention.events)
        return tuple(item_id for _, item_id, _ in rows) or None

    async def events(self, user_id: str, count: int) -> list[Event]:
        """As the protocol says."""
        rows = await self._newest(user_id, min(count, self._retention.events))
        return [Event(event_id, user_id, item_id, time) for event_id, item_id, time in rows]

    async def delete(self, user_id: str) -> int:
        """As the protocol says; Redis rewrites its append-only file by rules of its own."""
        async with self._operation():
            return int(await self._delete(keys=_keys(user_id)))

    async def seed(self) -> str | None:
        """As the protocol says."""
        async with self._operation():
            seed = await self._redis.get(PREFIX + "seed")
        return None if seed is None else str(seed)

    async def set_seed(self, bundle_version: str) -> None:
        """As the protocol says."""
        async with self._operation():
            await self._redis.set(PREFIX + "seed", bundle_version)

    async def tend(self) -> None:
        """Warns of a Redis that loses what it acknowledges; what is too old goes by itself."""
        async with self._operation():
            info: dict[str, Any] = await self._redis.info()
        if not info.get("aof_enabled"):
            log.warning("redis loses events when it restarts: set appendonly yes")
        if info.get("maxmemory_policy", "noeviction") != "noeviction":
            log.warning("redis may drop histories: set maxmemory-policy noeviction")

    async def close(self) -> None:
        """Closes the connections."""
        await self._redis.aclose()

    async def _newest(self, user_id: str, count: int) -> list[tuple[str, str, int]]:
        """Identifier, item and time of the newest events, oldest first."""
        key, oldest = _keys(user_id)[0], self._retention.oldest()
        async with self._operation():
            rows: list[Any] = await self._redis.zrange(key, -count, -1, withscores=True)
        kept = [(json.loads(member[_ARRIVAL:]), int(time)) for member, time in rows]
        return [(event_id, item_id, time) for (event_id, item_id), time in kept if time >= oldest]

    def _limits(self) -> list[int]:
        return [self._retention.events, self._retention.oldest(), self._retention.lifetime or 0]

    @asynccontextmanager
    async def _operation(self) -> AsyncIterator[None]:
        """Bounds the time of an operation, and makes its failures the gateway's."""
        try:
            async with asyncio.timeout(self._timeout):
                yield
        except (OutOfMemoryError, ResponseError) as error:
            log.warning("history store refused", error=str(error))
            if isinstance(error, OutOfMemoryError) or str(error).startswith(("OOM", "MISCONF")):
                raise ResourceExhausted(
                    "the history store has no room left, in memory or on its disk",
                    reason="HISTORY_FULL",
                    retry_after=FULL_RETRY_SECONDS,
                ) from error
            raise unavailable("redis") from error
        except (RedisError, BusyLoadingError, OSError, TimeoutError) as error:
            log.warning("history store failed", error=str(error) or type(error).__name__)
            raise unavailable("redis") from error


def _keys(user_id: str) -> list[str]:
    return [f"{PREFIX}events:{user_id}", f"{PREFIX}ids:{user_id}"]


def _arguments(events: Sequence[Event]) -> list[str | int]:
    arguments: list[str | int] = []
    for event in events:
        body = json.dumps([event.event_id, event.item_id], ensure_ascii=False)
        arguments += [event.time, event.event_id, body]
    return arguments
