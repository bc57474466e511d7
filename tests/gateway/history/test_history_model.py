"""Stores do what the model does, whatever is asked of them in whatever order."""

import asyncio
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeAlias

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.history import Event, HistoryStore, Retention
from gateway.history.sqlite import SqliteHistoryStore
from gateway.history.store import DAY, now
from tests.gateway.history.history_model import HistoryModel
from tests.gateway.redis_server import open_redis, redis_server

USERS = ("ann", "bob")
Open: TypeAlias = Callable[[Retention], HistoryStore]


@dataclass(frozen=True)
class Sent:
    """An event as a caller sends it."""

    user: str
    name: int
    half_days_ago: int | None
    """None leaves the time to the server."""

    def arrive(self, start: int) -> Event:
        ago = self.half_days_ago
        time = now() if ago is None else start - ago * DAY // 2
        return Event(f"e{self.name}", self.user, f"i{self.name}", time)


@dataclass(frozen=True)
class Record:
    events: tuple[Sent, ...]


@dataclass(frozen=True)
class Replay:
    """Sends the events of an earlier record again."""

    which: int


@dataclass(frozen=True)
class Delete:
    user: str


@dataclass(frozen=True)
class Keep:
    """Opens the store again, to keep so many events of each user."""

    events: int


@dataclass(frozen=True)
class Expire:
    """Opens the store again, to keep events for some days less."""

    days_less: int


@dataclass(frozen=True)
class Tend:
    pass


Step: TypeAlias = Record | Replay | Delete | Keep | Expire | Tend

sent = st.builds(Sent, st.sampled_from(USERS), st.integers(0, 15), st.none() | st.integers(-1, 12))
records = st.builds(Record, st.lists(sent, min_size=1, max_size=8).map(tuple))
replays = st.builds(Replay, st.integers(0, 20))
steps = st.one_of(
    records,
    replays,
    st.builds(Delete, st.sampled_from(USERS)),
    st.builds(Keep, st.integers(1, 6)),
    st.builds(Expire, st.integers(1, 2)),
    st.just(Tend()),
)
plans = st.lists(st.one_of(records, replays, steps), min_size=2, max_size=20)


class Play:
    """Takes steps on a store and on the model, and compares them after each."""

    def __init__(self, open_store: Open, retention: Retention) -> None:
        self._open = open_store
        self._model = HistoryModel(retention)
        self._recorded: list[Record] = []
        self._start = now()

    async def run(self, plan: list[Step]) -> None:
        async with AsyncExitStack() as opened:
            for step in [Keep(self._model.retention.events), *plan]:
                if isinstance(step, Keep | Expire):
                    await opened.aclose()
                    store = self._open(self._changed(step))
                    opened.push_async_callback(store.close)
                else:
                    await self._take(store, step)
                for user in USERS:
                    expected = self._model.events(user)
                    assert await store.events(user, 99) == expected
                    items = tuple(event.item_id for event in expected)
                    assert await store.history(user) == (items or None)

    def _changed(self, step: Keep | Expire) -> Retention:
        kept = self._model.retention
        if isinstance(step, Keep):
            self._model.retention = replace(kept, events=step.events)
        else:  # a quarter keeps what is tested away from the border
            days = (kept.days or 7.25) - step.days_less
            self._model.retention = replace(kept, days=max(0.25, days))
        return self._model.retention

    async def _take(self, store: HistoryStore, step: Record | Replay | Delete | Tend) -> None:
        if isinstance(step, Tend):
            await store.tend()
        elif isinstance(step, Delete):
            visible = len(self._model.events(step.user))
            stored = len(self._model.users[step.user].events)
            assert visible <= await store.delete(step.user) <= stored
            self._model.delete(step.user)
        else:
            await self._record(store, step)

    async def _record(self, store: HistoryStore, step: Record | Replay) -> None:
        if isinstance(step, Record):
            self._recorded.append(step)
        elif not self._recorded:
            return
        else:
            step = self._recorded[step.which % len(self._recorded)]
        events = [each.arrive(self._start) for each in step.events]
        assert await store.record(events) == self._model.record(events)


@contextmanager
def sqlite_stores() -> Iterator[Callable[[], Open]]:
    memory = Path("/dev/shm")  # noqa: S108 - each step is flushed to disk, which is not the point here
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as directory:
        count = iter(range(10**9))
        yield lambda: partial(
            SqliteHistoryStore.open, Path(directory, f"{next(count)}.sqlite"), scrub_share=1.0
        )


@contextmanager
def redis_stores() -> Iterator[Callable[[], Open]]:
    with tempfile.TemporaryDirectory() as directory, redis_server(Path(directory)) as server:

        def fresh() -> Open:
            server.command("FLUSHALL")
            return lambda retention: open_redis(server, retention, timeout=5)

        yield fresh


@pytest.fixture(params=[sqlite_stores, redis_stores], ids=["sqlite", "redis"], scope="module")
def stores(request: pytest.FixtureRequest) -> Iterator[Callable[[], Open]]:
    """Gives a store without any events, to be opened with a retention."""
    with request.param() as fresh:
        yield fresh


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    retention=st.builds(Retention, st.integers(1, 6), st.sampled_from([0.0, 0.0, 4.25])),
    plan=plans,
)
def test_a_store_does_what_the_model_does(
    stores: Callable[[], Open], retention: Retention, plan: list[Step]
) -> None:
    asyncio.run(Play(stores(), retention).run(plan))
