"""Who was deleted stays so, whatever a Redis loses; and no file says who it was."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from core.bundle import Bundle
from core.errors import ResourceExhausted, SettingsError, Unavailable
from gateway.history import Event, Recorded, Retention
from gateway.history.bundle import fill
from gateway.history.opening import open_store
from gateway.history.redis import RedisHistoryStore
from gateway.history.redis import deletions as module
from gateway.history.sqlite import SqliteHistoryStore
from gateway.history.tombstones import Tombstone, Tombstones, UserHash, read_deleted
from gateway.settings import GatewaySettings
from tests.gateway.redis_server import KEY, RedisServer, opened_redis, redis_server
from tests.processes import wait_until
from tests.tiny_bundle import write_tiny_bundle

USERS = UserHash(KEY)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    with redis_server(tmp_path) as server:
        yield server


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return Bundle.open(write_tiny_bundle(tmp_path))


def opened(
    server: RedisServer, name: str = "one"
) -> AbstractAsyncContextManager[RedisHistoryStore]:
    """A gateway's store; each name has a file of deleted users of its own."""
    return opened_redis(server, None, server.directory / name, timeout=30)


def event(number: int, user: str = "ann") -> Event:
    return Event(f"e{number}", user, f"i{number}", number)


def keys_of(server: RedisServer, user: str) -> list[str]:
    return [key for key in server.command("KEYS", f"tandem:history:*:{user}") if key]


async def test_a_flushed_redis_is_filled_without_them(server: RedisServer, bundle: Bundle) -> None:
    async with opened(server) as store:
        await fill(store, bundle, 100)
        assert await store.delete("ann") == 3
        server.command("FLUSHALL")
        await fill(store, bundle, 100)
        assert await store.history("ann") is None
        assert keys_of(server, "ann") == []
        assert await store.history("bob") is not None


async def test_a_new_gateway_that_fills_does_not_bring_them_back(
    server: RedisServer, bundle: Bundle
) -> None:
    async with opened(server) as store, opened(server, "other") as other:
        await fill(store, bundle, 100)
        await store.delete("ann")
        server.command("FLUSHALL")
        await fill(other, bundle, 100)  # it has never heard of her
        assert await other.history("ann") is not None
        await store.tend()
        assert keys_of(server, "ann") == []
        assert await other.history("ann") is None


async def test_a_gateway_that_starts_puts_them_back_first(
    server: RedisServer, bundle: Bundle
) -> None:
    async with opened(server) as store:
        await store.delete("ann")
    server.command("FLUSHALL")
    async with opened(server, "other") as other:
        await fill(other, bundle, 100)
    async with opened(server) as store:
        histories = await asyncio.gather(*(store.history(user) for user in ("bob", *["ann"] * 9)))
    assert histories == [("i5",), *[None] * 9]


async def test_the_first_call_may_be_a_deletion(server: RedisServer) -> None:
    async with opened(server) as store:
        await store.record([event(1), event(2)])
    async with opened(server, "other") as other:
        assert await other.delete("ann") == 2


@pytest.mark.parametrize("lost", ["deleted", "seed", "state:ann"])
async def test_any_one_key_may_go(server: RedisServer, bundle: Bundle, lost: str) -> None:
    async with opened(server) as store, opened(server, "other") as other:
        await fill(store, bundle, 100)
        for user in ("ann", "bob"):
            await store.delete(user)
        await other.tend()
        server.command("DEL", f"tandem:history:{lost}")
        for each in (other, store):
            await fill(each, bundle, 100)
            assert [await each.history(user) for user in ("ann", "bob")] == [None, None]
        # Whoever came back since has what was recorded since, and nothing else.
        await store.record([event(7)])
        server.command("DEL", "tandem:history:deleted")
        await fill(other, bundle, 100)
        assert [await each.history("ann") for each in (other, store)] == [("i7",)] * 2


@asynccontextmanager
async def failed_over(server: RedisServer) -> AsyncIterator[None]:
    """A replica stops following; what happens then is lost, for it takes the primary's place."""
    directory = server.directory / "replica"
    directory.mkdir()
    replica = RedisServer(directory).start()
    try:
        server.command("CONFIG", "SET", "repl-diskless-sync-delay", "0")
        replica.command("REPLICAOF", "127.0.0.1", str(server.port))
        await asyncio.to_thread(
            wait_until,
            lambda: "master_link_status:up" in replica.command("INFO", "replication"),
            "the replica to follow",
        )
        assert server.command("WAIT", "1", "10000") == ["1"]
        replica.command("REPLICAOF", "NO", "ONE")
        yield
        server.kill()
        replica.command("CONFIG", "SET", "appendonly", "no")
        replica.command("CONFIG", "SET", "appendonly", "yes")
        await asyncio.to_thread(
            wait_until,
            lambda: "aof_rewrite_in_progress:0" in replica.command("INFO", "persistence"),
            "the replica's file",
        )
    finally:
        replica.kill()
    server.directory = directory
    server.start()


async def test_a_replica_that_was_behind_does_not_bring_them_back(server: RedisServer) -> None:
    async with opened(server) as store, opened(server, "other") as other:
        events = [event(n, user) for user in ("ann", "bob", "cy") for n in range(5)]
        await store.record(events)
        await store.delete("cy")
        async with failed_over(server):
            assert await store.delete("ann") == 5
            assert await other.history("bob") is not None
            await other.tend()
        assert len(keys_of(server, "ann")) == 3  # it has come back
        with capture_logs() as logs:
            # Whoever calls first, and for whom: the other gateway has heard of it, too.
            assert await other.history("ann") is None
        assert {
            "event": "redis lacked deleted users",
            "put_back": 1,
            "log_level": "warning",
        } in logs
        assert await store.record([event(9)]) == Recorded(new=1)
        assert [await each.history("ann") for each in (store, other)] == [("i9",)] * 2


async def test_what_came_back_is_dropped_unasked(server: RedisServer) -> None:
    async with opened(server) as store:
        await store.record([event(n, user) for user in ("ann", "bob") for n in range(5)])
        await store.tend()
        async with failed_over(server):
            await store.delete("ann")
        await store.tend()
        assert keys_of(server, "ann") == []
        assert len(keys_of(server, "bob")) == 3


async def test_a_deletion_that_failed_is_made_good(server: RedisServer) -> None:
    async with opened(server) as store:
        await store.record([event(1), event(1, "bob")])
        server.kill()
        with pytest.raises(Unavailable):
            await store.delete("ann")
        server.start()
        while await store.history("bob") is None:
            continue
        assert await store.history("ann") is None


async def test_clocks_that_differ_do_not_matter(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(server) as store, opened(server, "other") as behind:
        await store.delete("ann")
        await store.record([event(1)])
        monkeypatch.setattr(module, "now", lambda: 5)
        await behind.record([event(2)])
        assert await behind.delete("ann") == 2
        assert await behind.delete("bob") == 0
        await store.tend()
        server.command("FLUSHALL")
        for each in (store, behind):
            assert await each.record([event(3), event(3, "bob")], seeded=True) == Recorded(
                outdated=2
            )


async def test_many_are_put_back_page_by_page(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PAGE", 3)
    async with opened(server) as store, opened(server, "other") as other:
        users = [f"user {n}" for n in range(10)]
        for user in users:
            await store.delete(user)
        await other.tend()
        server.command("FLUSHALL")
        events = [event(1, user) for user in users]
        assert await other.record(events, seeded=True) == Recorded(outdated=10)
        assert server.command("ZCARD", "tandem:history:deleted") == ["10"]


async def test_gateways_with_different_keys_are_told(server: RedisServer) -> None:
    async with opened(server) as store:
        await store.record([event(1)])
        users = UserHash(b"another key, of the same length.")
        stranger = RedisHistoryStore(
            server.url, Retention(), users, server.directory / "stranger.sqlite", timeout=30
        )
        with pytest.raises(Unavailable, match="different keys"):
            await stranger.history("ann")
        await stranger.close()


async def test_a_file_that_cannot_be_written_deletes_nothing(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(server) as store:
        await store.record([event(1)])
        tombstones = store._deletions._tombstones
        tombstones._file.connection.execute("PRAGMA max_page_count=1")
        with pytest.raises(ResourceExhausted) as caught:
            await asyncio.gather(*(store.delete(f"user {n}") for n in range(1_000)))
        assert caught.value.reason == "HISTORY_FULL"
        assert await store.history("ann") == ("i1",)


async def test_sqlite_is_not_filled_with_them(tmp_path: Path, bundle: Bundle) -> None:
    store = SqliteHistoryStore.open(tmp_path / "history.sqlite", Retention())
    assert await store.delete("ann") == 0
    await store.record([event(9, "bob")])
    await store.delete("bob")
    await store.record([event(8, "bob")])
    await store.close()
    store = SqliteHistoryStore.open(tmp_path / "history.sqlite", Retention())
    await fill(store, bundle, 100)
    assert await store.history("ann") is None
    assert await store.history("bob") == ("i8",)
    await store.close()


async def test_files_say_who_was_deleted_only_with_the_key(
    server: RedisServer, tmp_path: Path
) -> None:
    name = "somebody@example.org"
    async with opened(server) as store:
        await store.record([event(1, name)])
        await store.delete(name)
    own = SqliteHistoryStore.open(tmp_path / "history.sqlite", Retention())
    await own.record([event(1, name)])
    await own.delete(name)
    await own.close()
    (tmp_path / "key").write_bytes(KEY)
    files = {
        tmp_path / "one" / "deleted.sqlite": tmp_path / "key",
        tmp_path / "history.sqlite": tmp_path / "history.sqlite.key",
    }
    for path, key in files.items():
        assert all(name.encode() not in each.read_bytes() for each in path.parent.glob("*sqlite*"))
        assert key.read_bytes().strip() not in path.read_bytes()
        deleted = read_deleted(path, key)
        assert name in deleted
        assert "ann" not in deleted
    assert (tmp_path / "history.sqlite.key").stat().st_mode & 0o777 == 0o600
    with pytest.raises(SettingsError, match="another key"):
        read_deleted(tmp_path / "history.sqlite", tmp_path / "key")
    with pytest.raises(SettingsError, match="another key"):
        SqliteHistoryStore.open(tmp_path / "history.sqlite", Retention(), USERS)


def _delete_some(path: Path, first: int) -> None:
    tombstones = Tombstones.open(path, USERS)
    for n in range(first, first + 20):
        tombstones.put([Tombstone(USERS.of(f"user {n}"), n)])
    tombstones.close()


def test_gateways_of_a_machine_share_a_file(tmp_path: Path) -> None:
    path = tmp_path / "deleted.sqlite"
    with ThreadPoolExecutor(3) as pool:
        for done in [pool.submit(_delete_some, path, 20 * n) for n in range(3)]:
            done.result(60)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM deleted_users").fetchone() == (60,)


def test_a_key_is_made_once(tmp_path: Path) -> None:
    first, again = (UserHash.make(tmp_path / "new" / "key") for _ in range(2))
    assert first.of("ann") == again.of("ann")
    assert first.of("ann") != UserHash.make(tmp_path / "key").of("ann")
    assert [each.name for each in (tmp_path / "new").iterdir()] == ["key"]


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({}, "redis:// needs --history-key-file"),
        ({"history_key_file": "short/key"}, "cannot make the key"),
        ({"history_key_file": "short"}, "at least 32"),
    ],
)
def test_redis_needs_a_key(
    tmp_path: Path, bundle: Bundle, options: dict[str, Any], complaint: str
) -> None:
    (tmp_path / "short").write_text("secret")
    options = {name: tmp_path / value for name, value in options.items()}
    settings = GatewaySettings(bundle=bundle.path, history="redis://localhost:1", **options)
    with pytest.raises(SettingsError, match=complaint):
        open_store(settings, bundle)
