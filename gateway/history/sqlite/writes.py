"""What the store in SQLite does inside of a transaction."""

import sqlite3
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from gateway.history.event import Event, read_event
from gateway.history.sqlite import partitions
from gateway.history.sqlite.partitions import sql
from gateway.history.store import Recorded, Retention, now
from gateway.history.tombstones import Tombstone, UserHash, is_deleted, put
from serving.validation import MAX_HISTORY

SWEEP_EVENTS: Final = 1_000
"""Outdated events of a partition that are deleted at a time."""


def record(
    connection: sqlite3.Connection,
    partition_of: Callable[[str], int],
    events: Sequence[Event],
    retention: Retention,
    seeds: UserHash | None = None,
) -> Recorded:
    """Records events; of a bundle's, for which `seeds` is given, those of users not deleted."""
    lists = defaultdict(list)
    for event in events:
        lists[event.user_id, event.in_history].append(event)
    total = Recorded()
    for (user_id, _), batch in lists.items():
        if seeds is not None and is_deleted(connection, seeds.of(user_id)):
            total += Recorded(outdated=len(batch))
            continue
        total += _record_of(connection, partition_of(user_id), batch, retention)
    return total


def _record_of(
    connection: sqlite3.Connection, partition: int, events: Sequence[Event], retention: Retention
) -> Recorded:
    """Records events of one user's list, and drops what is no longer kept of it."""
    which, oldest = (events[0].user_id, events[0].in_history), retention.oldest()
    last = (*which, 0, 1, retention.most(in_history=which[1]) - 1)
    # Of a full list, the time that an event must be newer than.
    full = connection.execute(sql(partitions.PLACE, partition), last).fetchone()
    added, known = [], 0
    for event in events:
        if event.time >= oldest and (full is None or event.time > full[0]):
            if partitions.add(connection, partition, event, oldest):
                added.append(event)
            else:
                known += 1
        elif partitions.is_known(connection, partition, event, oldest):
            known += 1
    if added:
        connection.execute(sql(partitions.EXPIRE, partition), (*which, oldest))
        full = connection.execute(sql(partitions.PLACE, partition), last).fetchone()
        if full is not None:
            connection.execute(sql(partitions.TRIM, partition), (*which, *full))
    return Recorded.of(added, known, len(events))


def delete(
    connection: sqlite3.Connection, partition: int, user_id: str, user: bytes
) -> tuple[int, bool]:
    """Deletes a user, and remembers that; who is deleted once more costs no writing."""
    events, found = partitions.delete(connection, partition, user_id)
    if found or not is_deleted(connection, user):
        put(connection, [Tombstone(user, now())])
    return events, found


def merge(
    connection: sqlite3.Connection,
    source: tuple[int, str],
    target: tuple[int, str],
    user: bytes,
    retention: Retention,
) -> tuple[Recorded, bool]:
    """Moves a user's events to another; both are given with their partitions."""
    total = Recorded()
    for in_history in (True, False):
        newest = (source[1], in_history, retention.oldest(), MAX_HISTORY)
        rows = connection.execute(sql(partitions.EVENTS, source[0]), newest).fetchall()
        events = [read_event(*row, in_history=in_history) for row in reversed(rows)]
        if events:
            theirs = [replace(event, user_id=target[1]) for event in events]
            total += _record_of(connection, target[0], theirs, retention)
    partitions.give_ids(connection, source, target)
    _, found = delete(connection, *source, user)
    return total, found


def sweep(connection: sqlite3.Connection, *, partition: int, oldest: int) -> bool:
    """Deletes some of what is too old; returns whether there may be more."""
    return partitions.sweep(connection, partition, oldest, SWEEP_EVENTS) >= SWEEP_EVENTS
