"""Reading all that a Redis of histories has, beside the gateways that use it."""

from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from gateway.history.event import Event
from gateway.history.redis.deletions import PREFIX
from gateway.history.redis.store import RedisHistoryStore
from gateway.history.store import Retention
from gateway.history.tombstones import UserHash
from serving.validation import MAX_HISTORY

KEYS: Final = 1_000
"""That are asked for at a time."""
TIMEOUT: Final = 30.0


async def pages_of(url: str, key_file: Path) -> AsyncGenerator[list[Event], None]:
    """All events, a page for each user; those of a list together, oldest first.

    It reads as a gateway does: whoever was deleted has none, whatever Redis still has. Redis may
    name a key several times; some 100 bytes a user are remembered, so that none is read twice.

    Args:
        url: of the Redis.
        key_file: the gateways' key.

    Raises:
        SettingsError: the key cannot be read, or the address is none.
        TandemError: Redis cannot be reached, or has another key's deletions.
    """
    users, everything = UserHash.read(key_file), Retention(MAX_HISTORY, others=MAX_HISTORY)
    with TemporaryDirectory() as directory:
        tombstones = Path(directory, "deleted.sqlite")
        store = RedisHistoryStore(url, everything, users, tombstones, timeout=TIMEOUT)
        try:
            read: set[bytes] = set()
            async for user_id in _users(store):
                if (user := users.of(user_id)) not in read:
                    read.add(user)
                    yield [
                        event
                        for in_history in (True, False)
                        for event in await store.events(user_id, MAX_HISTORY, in_history=in_history)
                    ]
        finally:
            await store.close()


async def _users(store: RedisHistoryStore) -> AsyncIterator[str]:
    cursor = 0
    while True:
        async with store.connection.operation() as redis:
            answer: Any = await redis.scan(cursor, match=f"{PREFIX}*:*", count=KEYS)
        cursor, keys = answer
        for key in keys:
            yield key[len(PREFIX) :].decode().partition(":")[2]
        if not int(cursor):
            return
