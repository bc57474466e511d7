"""How often callers may call: counted in memory, or in the Redis that gateways share."""

import asyncio
import math
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import structlog
from limits import RateLimitItem, RateLimitItemPerMinute, RateLimitItemPerSecond
from limits.aio.storage import MemoryStorage, RedisStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter

from gateway.history.opening import REDIS
from gateway.settings import GatewaySettings
from serving.security.keyring import Caller, Quota

if TYPE_CHECKING:
    from gateway.history.redis.connection import Connection

log = structlog.get_logger()

MAX_CALLERS: Final = 10_000
"""Callers whose calls are counted in memory at a time: those that called last."""
AWAY_SECONDS: Final = 5.0
"""How long Redis is left alone that failed."""
PREFIX: Final = "tandem:quota"

_Limiter = SlidingWindowCounterRateLimiter


class CallerQuotas:
    """Counts the calls of those who have a quota.

    Where Redis counts for several gateways and cannot be reached, each of them counts for itself:
    who may call goes on calling, and who calls too often is held up a little later.

    Args:
        redis: counts; None where it is done in memory alone.
        timeout: seconds that Redis may take.
        clock: in seconds.
    """

    def __init__(
        self,
        redis: "Connection | None" = None,
        timeout: float = 0.25,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._connection = redis
        self._redis = _Limiter(_storage(redis)) if redis else None
        self._timeout = timeout
        self._clock = clock
        self._back = -math.inf
        # A limiter for each: what limits does at each call grows with what its storage holds.
        self._memory: OrderedDict[str, _Limiter] = OrderedDict()

    async def spend(self, caller: Caller) -> float | None:
        """Counts a call; see `serving.security.guard.Quotas`."""
        items = _items(caller.quota)
        if self._redis is not None and self._clock() >= self._back:
            try:
                async with asyncio.timeout(self._timeout):
                    return await _spend(self._redis, items, caller.name)
            except Exception as error:  # noqa: BLE001 - of Redis' client, of several families
                self._back = self._clock() + AWAY_SECONDS
                log.warning("quotas counted alone", error=str(error) or type(error).__name__)
        return await _spend(self._in_memory(caller.name), items, caller.name)

    async def close(self) -> None:
        """Closes the connections to Redis."""
        if self._connection is not None:
            await self._connection.close()

    def _in_memory(self, name: str) -> _Limiter:
        limiter = self._memory.get(name) or _Limiter(MemoryStorage())
        self._memory[name] = limiter
        self._memory.move_to_end(name)
        if len(self._memory) > MAX_CALLERS:
            self._memory.popitem(last=False)
        return limiter


def quotas_of(settings: GatewaySettings) -> CallerQuotas:
    """Counts in Redis where histories are kept there."""
    history = settings.history or ""
    if not history.startswith(REDIS):
        return CallerQuotas()
    from gateway.history.redis.connection import Connection

    return CallerQuotas(Connection(history, settings.history_timeout), settings.history_timeout)


def _storage(connection: "Connection") -> RedisStorage:
    pool = connection.redis.connection_pool
    return RedisStorage(
        "async+redis://",  # what is connected to is the pool's
        implementation="redispy",
        key_prefix=PREFIX,
        connection_pool=pool,  # type: ignore[arg-type]
    )


def _items(quota: Quota) -> list[RateLimitItem]:
    items: list[RateLimitItem] = []
    if quota.per_second:
        items.append(RateLimitItemPerSecond(quota.per_second))
    if quota.per_minute:
        items.append(RateLimitItemPerMinute(quota.per_minute))
    return items


async def _spend(limiter: _Limiter, items: list[RateLimitItem], name: str) -> float | None:
    for item in items:
        if not await limiter.hit(item, name):
            stats = await limiter.get_window_stats(item, name)
            return max(stats.reset_time - time.time(), 0.01)
    return None
