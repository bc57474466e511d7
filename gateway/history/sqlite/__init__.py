"""Histories in one file of SQLite, for one gateway.

store.py       the store: recording, reading, deleting
writes.py      what it does inside of a transaction
partitions.py  its tables, which hold a part of the users each
export.py      reads all of it, beside the gateway
scrubs.py      leaves no bytes of deleted users, at a bounded rate
writer.py      the thread that writes, for several callers at a time
"""

from gateway.history.sqlite.store import SqliteHistoryStore

__all__ = ["SqliteHistoryStore"]
