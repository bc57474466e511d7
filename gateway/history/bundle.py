"""The histories in a bundle: a store that never changes, and what other stores are filled with."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Final, NoReturn

import structlog

from core.bundle import Bundle
from core.errors import FailedPrecondition
from gateway.history.event import Event
from gateway.history.store import HOUR_SECONDS, MICROSECONDS, HistoryStore, Recorded
from serving.validation import MAX_HISTORY

log = structlog.get_logger()

BATCH: Final = 1_000
"""Events that are recorded at a time."""


class BundleHistoryStore:
    """The histories of the users in the data that the bundle was built from; they never change."""

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle
        self._catalog = bundle.catalog
        self._histories = bundle.histories

    async def history(self, user_id: str) -> tuple[str, ...] | None:
        """As the protocol says, the newest `MAX_HISTORY` at most."""
        positions = self._histories.of(user_id)
        if positions is None:
            return None
        return tuple(self._catalog.ids(positions[-MAX_HISTORY:].tolist()))

    async def events(self, user_id: str, count: int, *, in_history: bool = True) -> list[Event]:
        """As the protocol says; all of them are histories."""
        return events_of(self._bundle, user_id, count) if in_history else []

    async def record(
        self,
        events: Sequence[Event],  # noqa: ARG002
        *,
        seeded: bool = False,  # noqa: ARG002
    ) -> Recorded:
        """Refuses."""
        _refuse()

    async def delete(self, user_id: str) -> int:  # noqa: ARG002
        """Refuses: a bundle is built without a user, or with it."""
        _refuse()

    async def merge(self, source: str, user_id: str) -> Recorded:  # noqa: ARG002
        """Refuses."""
        _refuse()

    async def seed(self) -> str | None:
        """The bundle."""
        return self._bundle.version

    async def set_seed(self, bundle_version: str) -> None:  # noqa: ARG002
        """Refuses."""
        _refuse()

    async def tend(self) -> float:
        """Nothing is ever due."""
        return HOUR_SECONDS

    async def close(self) -> None:
        """Nothing is held open."""


def events_of(bundle: Bundle, user_id: str, count: int) -> list[Event]:
    """The newest `count` interactions of a user in a bundle's data, oldest first, as events.

    Their identifiers are the same in each version of the bundle, for as long as its data only grows
    at the end. See `_times_of` for their times.
    """
    positions = bundle.histories.of(user_id)
    if positions is None:
        return []
    items = bundle.catalog.ids(positions.tolist())
    times = _times_of(bundle, user_id, len(items))
    first = max(0, len(items) - count)
    return [
        Event(f"{bundle.manifest.name}#{place}#{items[place]}", user_id, items[place], times[place])
        for place in range(first, len(items))
    ]


def _times_of(bundle: Bundle, user_id: str, count: int) -> list[int]:
    """When the `count` interactions of a user were, in microseconds since 1970.

    Times that the data has after the bundle was made are taken for that moment, so that what
    happens later comes later. A bundle without times gives its interactions the last microseconds
    before it was made: they come in order, and nothing can expire earlier than that.
    """
    made = datetime.fromisoformat(bundle.manifest.provenance.created)
    end = int(made.timestamp()) * MICROSECONDS
    times = bundle.histories.times_of(user_id)
    if times is None:
        return list(range(end - count, end))
    return [min(time, end) for time in times.tolist()]


def batches_of(bundle: Bundle, count: int) -> Iterator[list[Event]]:
    """All users' newest `count` interactions, in batches; every user's are in order."""
    batch: list[Event] = []
    for user_id in bundle.histories.user_index:
        batch += events_of(bundle, user_id, count)
        while len(batch) >= BATCH:
            yield batch[:BATCH]
            batch = batch[BATCH:]
    if batch:
        yield batch


async def fill(store: HistoryStore, bundle: Bundle, count: int) -> None:
    """Records a bundle's histories in a store that has never been filled.

    A store is filled once, and with nobody who was deleted from it: a bundle still has them.

    Args:
        store: to fill.
        bundle: to take the histories from.
        count: the newest so many of each user.

    Raises:
        TandemError: as the store's methods do. What is recorded then stays; filling the store
            again records the rest.
    """
    if await store.seed() is not None:
        return
    total = Recorded()
    for batch in batches_of(bundle, count):
        total += await store.record(batch, seeded=True)
    await store.set_seed(bundle.version)
    log.info("filled the history store", bundle=bundle.version, events=total.new)


def _refuse() -> NoReturn:
    raise FailedPrecondition(
        "the histories are the bundle's own and cannot be changed; start the gateway with "
        "--history FILE.sqlite or --history redis://HOST",
        reason="HISTORY_READ_ONLY",
    )
