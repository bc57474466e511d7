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

from gateway.history import Event, HistoryStore, Retention, Shown
from gateway.history.sqlite import SqliteHistoryStore
from gateway.history.store import DAY, now
from tests.gateway.history.history_model import HistoryModel
from tests.gateway.redis_server import open_redis, redis_server

USERS = ("ann", "bob")
PLAIN = Event("", "", "", 0)
Open: TypeAlias = Callable[[Retention], HistoryStore]


@dataclass(frozen=True)
class Sent:
    """An event as a caller sends it."""

    user: str
    name: int
    half_days_ago: int | None
    """None leaves the time to the server."""
    rest: Event = PLAIN
    """What there is to say beside ids and time."""

    def arrive(self, start: int) -> Event:
        ago = self.half_days_ago
        time = now() if ago is None else start - ago * DAY // 2
        return replace(
            self.rest,
            event_id=f"e{self.name}",
            user_id=self.user,
            item_id=f"i{self.name}",
            time=time,
        )


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
class Merge:
    """Makes a user's events another's."""

    source: str
    target: str


@dataclass(frozen=True)
class Keep:
    """Opens the store again, to keep so many events of each user's lists."""

    events: int
    others: int


@dataclass(frozen=True)
class Expire:
    """Opens the store again, to keep events for some days less."""

    days_less: int


@dataclass(frozen=True)
class Tend:
    pass


Step: TypeAlias = Record | Replay | Delete | Merge | Keep | Expire | Tend

finite = st.floats(allow_nan=False, allow_infinity=False)
shown = st.builds(Shown, st.text(), st.text(), st.integers(1, 99), finite, st.text(), st.text())
rests = st.just(PLAIN) | st.builds(
    replace,
    st.just(PLAIN),
    type=st.sampled_from(["interaction", "click", "impression"]),
    value=st.none() | finite,
    position=st.integers(0, 99),
    shown=st.none() | shown,
    in_history=st.booleans(),
)
sent = st.builds(
    Sent, st.sampled_from(USERS), st.integers(0, 15), st.none() | st.integers(-1, 12), rests
)
records = st.builds(Record, st.lists(sent, min_size=1, max_size=8).map(tuple))
replays = st.builds(Replay, st.integers(0, 20))
steps = st.one_of(
    records,
    replays,
    st.builds(Delete, st.sampled_from(USERS)),
    st.permutations(USERS).map(lambda users: Merge(*users[:2])),
    st.builds(Keep, st.integers(1, 6), st.integers(1, 6)),
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
            kept = self._model.retention
            for step in [Keep(kept.events, kept.others), *plan]:
                if isinstance(step, Keep | Expire):
                    await opened.aclose()
                    store = self._open(self._changed(step))
                    opened.push_async_callback(store.close)
                else:
                    await self._take(store, step)
                for user in USERS:
                    expected = self._model.events(user)
                    assert await store.events(user, 99) == expected
                    others = self._model.events(user, in_history=False)
                    assert await store.events(user, 99, in_history=False) == others
                    items = tuple(event.item_id for event in expected)
                    assert await store.history(user) == (items or None)

    def _changed(self, step: Keep | Expire) -> Retention:
        kept = self._model.retention
        if isinstance(step, Keep):
            self._model.retention = replace(kept, events=step.events, others=step.others)
        else:  # a quarter keeps what is tested away from the border
            days = (kept.days or 7.25) - step.days_less
            self._model.retention = replace(kept, days=max(0.25, days))
        return self._model.retention

    async def _take(
        self, store: HistoryStore, step: Record | Replay | Delete | Merge | Tend
    ) -> None:
        if isinstance(step, Tend):
            await store.tend()
        elif isinstance(step, Delete):
            visible = sum(len(self._model.events(step.user, in_history=h)) for h in (True, False))
            stored = sum(map(len, self._model.users[step.user].lists.values()))
            assert visible <= await store.delete(step.user) <= stored
            self._model.delete(step.user)
        elif isinstance(step, Merge):
            expected = self._model.merge(step.source, step.target)
            assert await store.merge(step.source, step.target) == expected
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
        recorded, expected = await store.record(events), self._model.record(events)
        assert recorded == expected
        assert recorded.added == expected.added


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
    retention=st.builds(
        Retention, st.integers(1, 6), st.sampled_from([0.0, 0.0, 4.25]), st.integers(1, 6)
    ),
    plan=plans,
)
def test_a_store_does_what_the_model_does(
    stores: Callable[[], Open], retention: Retention, plan: list[Step]
) -> None:
    asyncio.run(Play(stores(), retention).run(plan))
