"""SIGKILL at random moments of upserts and deletes: nothing acknowledged is lost or halved.

    python -m tests.robustness.kill_candidate --times 100

Several callers write to a candidate process, each its own items, one call after another, until the
process is killed. After each restart the catalog must be, for every caller, what was acknowledged,
with or without the one call that was in flight, and with all of that call or none of it. Following
the catalog from the beginning must lead to the same items, and every code must be one item's own.
"""

import argparse
import asyncio
import multiprocessing
import random
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.candidate.main import main as serve
from services.candidate.settings import CandidateSettings
from tandem.v1 import catalog_service_pb2 as pb
from tandem.v1.candidate_service_pb2 import SimilarRequest
from tandem.v1.common_pb2 import VECTOR_SPACE_BEHAVIOR, VECTOR_SPACE_CONTENT, SimilarityQuery
from tests.candidate.made_up import CONTENT, make_world
from tests.candidate.served import Stub
from tests.candidate.small_bundle import write_small_bundle

CALLERS: Final = 4
ITEMS_PER_CALLER: Final = 20
LONGEST_LIFE: Final = 0.15
"""Seconds of writing before the kill, at most."""
PATIENCE: Final = 60.0

Catalog = dict[str, str]
"""Item → title; a title says which write of the item it is."""


@dataclass
class Caller:
    """One who writes, and remembers what was acknowledged."""

    name: str
    items: list[str]
    acknowledged: Catalog
    in_flight: dict[str, str | None] = field(default_factory=dict)
    """What the call whose answer is not there yet is about: titles, or None to delete."""
    writes: int = 0
    answers: int = 0

    async def write(self, stub: Stub, chance: random.Random) -> None:
        """Writes until the process is gone."""
        while True:
            chosen = chance.sample(self.items, chance.randint(1, 5))
            self.writes += 1
            if chance.random() < 0.3:
                self.in_flight = dict.fromkeys(chosen)
                call: Any = stub.DeleteItems(pb.DeleteItemsRequest(item_ids=chosen))
            else:
                title = f"{self.name} {self.writes}"
                self.in_flight = dict.fromkeys(chosen, title)
                items = [_new_item(item_id, title, chance) for item_id in chosen]
                call = stub.UpsertItems(pb.UpsertItemsRequest(items=items))
            try:
                await call
            except grpc.aio.AioRpcError as error:
                if error.code() is grpc.StatusCode.UNAVAILABLE:
                    return
                raise
            self.answers += 1
            self.acknowledged = _applied(self.acknowledged, self.in_flight)
            self.in_flight = {}

    def check(self, catalog: Catalog) -> None:
        """Compares with what is there, and goes on from that.

        Raises:
            AssertionError: something acknowledged is lost, or something is there by half.
        """
        found = {i: catalog[i] for i in self.items if i in catalog}
        possible = [self.acknowledged, _applied(self.acknowledged, self.in_flight)]
        if found not in possible:
            raise AssertionError(f"{self.name} finds {found}, not one of {possible}")
        self.acknowledged, self.in_flight = found, {}


class Process:
    """A candidate process, of which the next life takes up the store of the last."""

    def __init__(self, bundle: Path, directory: Path) -> None:
        # A server that has everything imported forks off each life, in a tenth of the time.
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["services.candidate.main"])
        self._port_file = directory / "port"
        self._settings = CandidateSettings(
            bundle=bundle,
            store=directory / "items.sqlite",
            port=0,
            port_file=self._port_file,
            threads=1,
            log_level="error",
        )

    def start(self) -> None:
        """Begins a life."""
        self._port_file.unlink(missing_ok=True)
        self._process = self._context.Process(target=serve, args=(self._settings,), daemon=True)
        self._process.start()

    def kill(self) -> None:
        """Ends it with SIGKILL, if it has not ended yet."""
        self._process.kill()
        self._process.join(PATIENCE)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Stub]:
        """Waits until it serves."""
        end = time.monotonic() + PATIENCE
        while not self._port_file.exists():
            if time.monotonic() > end or not self._process.is_alive():
                raise AssertionError("the process does not start")
            await asyncio.sleep(0.005)
        async with grpc.aio.insecure_channel(f"127.0.0.1:{self._port_file.read_text()}") as channel:
            health = health_pb2_grpc.HealthStub(channel)
            async for answer in health.Watch(health_pb2.HealthCheckRequest(), timeout=PATIENCE):
                if answer.status == health_pb2.HealthCheckResponse.SERVING:
                    break
            yield Stub(channel)


async def kill_repeatedly(times: int, seed: int, directory: Path) -> dict[str, int]:
    """Kills a process that is written to, and checks what is left.

    Args:
        times: how often.
        seed: of the callers, and of the moments.
        directory: for the bundle and the store.

    Returns:
        How many calls were made, and how many answered.

    Raises:
        AssertionError: something is lost, or there by half.
    """
    chance = random.Random(seed)  # noqa: S311
    process = Process(write_small_bundle(directory, make_world()), directory)
    callers = [_caller(number) for number in range(CALLERS)]
    for _ in range(times):
        process.start()
        try:
            if chance.random() < 0.1:  # while it loads and replays
                await asyncio.sleep(chance.random() * LONGEST_LIFE)
                continue
            async with process.serving() as stub:
                await _check(stub, callers)
                writing = [asyncio.create_task(caller.write(stub, chance)) for caller in callers]
                await asyncio.sleep(chance.random() * LONGEST_LIFE)
                process.kill()
                await asyncio.gather(*writing)
        finally:
            process.kill()
    process.start()
    try:
        async with process.serving() as stub:
            await _check(stub, callers)
    finally:
        process.kill()
    return {
        "kills": times,
        "calls": sum(caller.writes for caller in callers),
        "acknowledged": sum(caller.answers for caller in callers),
    }


async def _check(stub: Stub, callers: list[Caller]) -> None:
    listed = await _listed(stub)
    for caller in callers:
        caller.check(listed)
    strange = listed.keys() - {item for caller in callers for item in caller.items}
    if strange != {f"i{i}" for i in range(CALLERS * 2, make_world().items)}:
        raise AssertionError(f"items that nobody wrote have changed: {sorted(strange)}")
    followed, codes = await _followed(stub)
    if followed != listed:
        raise AssertionError("following the catalog leads to another one than listing it")
    if len(set(codes.values())) < len(codes):
        raise AssertionError(f"two items have the same code: {codes}")
    for item in followed.keys() & codes.keys():  # each has vectors, in both spaces
        for space in (VECTOR_SPACE_CONTENT, VECTOR_SPACE_BEHAVIOR):
            items = SimilarityQuery.ItemList(item_ids=[item])
            query = SimilarRequest(query=SimilarityQuery(items=items, space=space))
            await stub.Similar(query)


async def _listed(stub: Stub) -> Catalog:
    catalog: Catalog = {}
    token = ""
    while True:
        page = await stub.ListItems(pb.ListItemsRequest(page_size=50, page_token=token))
        catalog |= {item.item_id: item.title for item in page.items}
        token = page.next_page_token
        if not token:
            if page.total_size != len(catalog):
                raise AssertionError(f"{len(catalog)} items listed of {page.total_size}")
            return catalog


async def _followed(
    stub: Stub,
) -> tuple[Catalog, dict[str, tuple[int, ...]]]:
    """The catalog by its changes, and the codes of the changed items."""
    catalog = {item.item_id: item.title for item in make_world().engine.catalog.items}
    codes: dict[str, tuple[int, ...]] = {}
    stream = stub.WatchItems(pb.WatchItemsRequest())
    last = 0
    async for message in stream:
        for change in message.changes:
            if change.sequence <= last:
                raise AssertionError(f"change {change.sequence} after {last}")
            last = change.sequence
            catalog.pop(change.delete_item_id, None)
            if change.HasField("upsert"):
                item = change.upsert.item
                catalog[item.item_id] = item.title
                codes[item.item_id] = tuple(change.upsert.code_tokens)
        if len(message.changes) < 128:  # all that there was
            stream.cancel()
            return catalog, codes
    raise AssertionError("the stream ended")


def _caller(number: int) -> Caller:
    """One who writes two of the bundle's items, and others."""
    own = [f"i{number * 2}", f"i{number * 2 + 1}"]
    titles = {item: f"Film {item[1:]}" for item in own}
    new = [f"n{number}-{i}" for i in range(ITEMS_PER_CALLER - len(own))]
    return Caller(f"caller {number}", own + new, titles)


def _new_item(item_id: str, title: str, chance: random.Random) -> pb.NewItem:
    item = pb.NewItem(item_id=item_id, title=title, text=f"a Film {chance.random()}")
    if chance.random() < 0.5:
        item.vector.values.extend(chance.gauss(0, 1) for _ in range(CONTENT))
    return item


def _applied(catalog: Catalog, changes: dict[str, str | None]) -> Catalog:
    after = {**catalog, **changes}
    return {item: title for item, title in after.items() if title is not None}


def main() -> None:
    """Kills as often as it is told, and says what came of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as directory:
        counts = asyncio.run(kill_repeatedly(given.times, given.seed, Path(directory)))
    print(", ".join(f"{count:,} {name}" for name, count in counts.items()), end="; ")
    print(f"nothing lost, nothing halved; {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
