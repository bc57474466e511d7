"""Reading long histories from Redis: as now, and as one JSON text an event, which is how it was.

    python -m bench.histories.reads --help

Needs `redis-server`, which it starts. 24 reads are in flight at a time, each with the gateway's
limit of time, of users who have as many events as are kept. `json` reads every event and its time,
and decodes each; `changed` reads a history that is not in memory; `unchanged` one that is, and
whose version is asked for. CPU is that of this process, in milliseconds a read, and of Redis; the
ratios are to `json` in the same rounds, which take turns.
"""

import asyncio
import json
import shutil
import subprocess
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from redis.exceptions import RedisError

from bench.lib.report import Figures, publish, run
from core.errors import TandemError
from gateway.history import Event, Retention
from gateway.history.redis import RedisHistoryStore
from gateway.history.redis.connection import Connection
from gateway.history.tombstones import UserHash
from serving.validation import MAX_HISTORY

IN_FLIGHT: Final = 24
ROUNDS: Final = 6
TIMEOUT: Final = 0.25
"""Seconds, the gateway's default."""

Read = Callable[[str], Awaitable[object]]


@contextmanager
def _redis(directory: Path) -> Iterator[str]:
    """Starts a Redis of its own; its address."""
    program = shutil.which("redis-server")
    if program is None:
        raise ChildProcessError("redis-server is not installed: apt-get install redis-server")
    socket = directory / "redis.sock"
    options = ["--port", "0", "--unixsocket", str(socket), "--dir", str(directory), "--save", ""]
    process = subprocess.Popen([program, *options], stdout=subprocess.DEVNULL)
    try:
        for _ in range(1_000):
            if socket.exists():
                break
            time.sleep(0.01)
        yield f"unix://{socket}"
    finally:
        process.kill()
        process.wait()


@asynccontextmanager
async def _opened(url: str, directory: Path, **limits: Any) -> AsyncIterator[RedisHistoryStore]:
    store = RedisHistoryStore(
        url, Retention(MAX_HISTORY), UserHash(bytes(32)), directory / "deleted.sqlite", **limits
    )
    try:
        yield store
    finally:
        await store.close()


async def _fill(store: RedisHistoryStore, connection: Connection, events: int) -> None:
    """Records the users' histories, and the same as JSON."""
    for user in map(str, range(IN_FLIGHT)):
        made = [
            Event(f"{int(user):08}-{n:027}", user, f"item_{n % 1_700}", 10**15 + n)
            for n in range(events)
        ]
        await store.record(made)
        members = {
            f"{n:016}{json.dumps([each.event_id, each.item_id])}": each.time
            for n, each in enumerate(made)
        }
        await connection.redis.zadd(f"json:{user}", members)


async def _cpu(connection: Connection) -> float:
    """Seconds of Redis' processor until now."""
    info: dict[str, Any] = await connection.redis.info("cpu")
    return float(info["used_cpu_user"]) + float(info["used_cpu_sys"])


async def _measure(reads: Mapping[str, Read], connection: Connection) -> Mapping[str, float]:
    """The sums of all rounds, of which the first warms up."""
    sums: defaultdict[str, float] = defaultdict(float)
    for number in range(ROUNDS + 1):
        for name, read in reads.items():
            before, started = await _cpu(connection), time.process_time()
            calls = (read(str(user)) for user in range(IN_FLIGHT))
            answers = await asyncio.gather(*calls, return_exceptions=True)
            own, redis = time.process_time() - started, await _cpu(connection) - before
            if number:
                sums[f"{name}_failed"] += sum(isinstance(each, TandemError) for each in answers)
                sums[f"{name}_cpu"] += own
                sums[f"{name}_redis_cpu"] += redis
    return sums


def _figures(names: list[str], sums: Mapping[str, float], events: int) -> Figures:
    count = ROUNDS * IN_FLIGHT
    figures: dict[str, float | int] = {"events": events, "reads": count}
    for name in names:
        figures |= {
            f"{name}_failed": sums[f"{name}_failed"],
            f"{name}_cpu_ms": sums[f"{name}_cpu"] / count * 1e3,
            f"{name}_redis_cpu_ms": sums[f"{name}_redis_cpu"] / count * 1e3,
        }
        if name != "json":
            figures[f"{name}_cpu_ratio"] = sums["json_cpu"] / sums[f"{name}_cpu"]
    return figures


async def _run(events: int) -> Figures:
    async with AsyncExitStack() as opened:
        path = Path(opened.enter_context(tempfile.TemporaryDirectory()))
        url = opened.enter_context(_redis(path))
        open_store = partial(_opened, url, path)
        patient = await opened.enter_async_context(open_store(timeout=60))
        store = await opened.enter_async_context(open_store(timeout=TIMEOUT))
        forgetful = await opened.enter_async_context(
            open_store(timeout=TIMEOUT, max_recent_bytes=0)
        )
        connection = Connection(url, TIMEOUT)
        opened.push_async_callback(connection.close)
        await _fill(patient, connection, events)

        async def as_json(user: str) -> list[tuple[str, int]]:
            async with connection.operation() as redis:
                rows: Any = await redis.zrange(f"json:{user}", -events, -1, withscores=True)
            return [(json.loads(member[16:])[1], int(at)) for member, at in rows]

        reads = {"json": as_json, "changed": forgetful.history, "unchanged": store.history}
        return _figures(list(reads), await _measure(reads, connection), events)


def main(events: Annotated[int, typer.Option(help="Of each history.")] = 1_000) -> None:
    """Measure reading histories from Redis."""
    try:
        publish("histories.reads", asyncio.run(_run(events)), precision="none", caches="warm")
    except RedisError as error:
        raise ChildProcessError(f"redis: {error}") from error


if __name__ == "__main__":
    run(main)
