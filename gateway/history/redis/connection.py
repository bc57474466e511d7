"""The connections to a Redis, and what becomes of its failures."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

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
from gateway.history.store import unavailable

log = structlog.get_logger()

MAX_CONNECTIONS: Final = 64
FULL_RETRY_SECONDS: Final = 5.0


class Connection:
    """A pool of connections; answers are bytes.

    Args:
        url: `redis://[[user]:password@]host[:port][/database]`; `rediss://` for TLS, `unix://` for
            a socket.
        timeout: seconds that an operation may take, the wait for a connection included.

    Raises:
        SettingsError: the URL is not one of Redis.
    """

    def __init__(self, url: str, timeout: float) -> None:
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
            )
        except ValueError as error:
            raise SettingsError(f"not the address of a Redis: {error}") from error
        self.redis: Redis = Redis.from_pool(pool)
        self._timeout = timeout

    @asynccontextmanager
    async def operation(self) -> AsyncIterator[Redis]:
        """Bounds the time of an operation, and makes its failures the gateway's.

        Raises:
            ResourceExhausted: reason HISTORY_FULL.
            Unavailable: reason HISTORY_UNAVAILABLE.
        """
        try:
            async with asyncio.timeout(self._timeout):
                yield self.redis
        except (OutOfMemoryError, ResponseError) as error:
            log.warning("history store refused", error=str(error))
            if (
                isinstance(error, OutOfMemoryError)
                or "OOM" in str(error)
                or "MISCONF" in str(error)
            ):
                raise ResourceExhausted(
                    "the history store has no room left, in memory or on its disk",
                    reason="HISTORY_FULL",
                    retry_after=FULL_RETRY_SECONDS,
                ) from error
            raise unavailable("redis") from error
        except (RedisError, BusyLoadingError, OSError, TimeoutError) as error:
            log.warning("history store failed", error=str(error) or type(error).__name__)
            raise unavailable("redis") from error

    async def close(self) -> None:
        """Closes them."""
        await self.redis.aclose()
