"""Histories in a Redis that several gateways share.

store.py      the store: recording, reading, deleting
scripts.py    what runs inside of Redis, each script as one step
export.py     reads all of it, beside the gateways
deletions.py  keeps the deleted users of Redis and of this gateway's file the same
"""

from gateway.history.redis.store import RedisHistoryStore

__all__ = ["RedisHistoryStore"]
