"""Which versions a process holds, whatever is asked of it and whatever fails."""

import asyncio
import threading
import weakref
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from core.bundle import Bundle
from core.errors import BundleError, Unavailable
from serving.bundles.held import VERSION_KEY, HeldBundles
from serving.bundles.swapper import BundleSwapper
from tests.tiny_bundle import write_tiny_bundle


class Fake:
    """A servicer whose life can be made to fail or to last."""

    def __init__(self, version: str, life: list[str]) -> None:
        self.version = version
        self.life = life
        self.warm: asyncio.Event | Exception | None = None
        self.fails: Exception | None = None

    async def warm_up(self) -> None:
        if isinstance(self.warm, Exception):
            raise self.warm
        if self.warm is not None:
            await self.warm.wait()
        self.life.append(f"{self.version} warm")

    async def activate(self, previous: "Fake | None") -> None:
        if self.fails is not None:
            raise self.fails
        self.life.append(f"{self.version} after {previous.version if previous else 'none'}")

    async def close(self) -> None:
        self.life.append(f"{self.version} closed")


class Context:
    """A call, until it is ended."""

    def __init__(self, version: str = "") -> None:
        self.version = version
        self.end: Callable[[object], None]

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return ((VERSION_KEY, self.version),) if self.version else ()

    def add_done_callback(self, callback: Callable[[object], None]) -> None:
        self.end = callback


class Process:
    """What a process has of versions."""

    def __init__(self, root: Path) -> None:
        self.life: list[str] = []
        self.prepared: dict[str, Callable[[Fake], None]] = {}
        self.held = HeldBundles()
        self.serving: Any = None
        self.swapper = BundleSwapper(self.held, self.load, root / "tiny" / "1", self.activated)

    def load(self, bundle: Bundle) -> Fake:
        fake = Fake(bundle.version, self.life)
        if prepare := self.prepared.get(bundle.version):
            prepare(fake)
        return fake

    def activated(self, servicer: Any) -> None:
        self.serving = servicer

    @property
    def versions(self) -> list[str]:
        return [held.version for held in self.held.all]

    def call(self, version: str = "") -> Context:
        context = Context(version)
        self.held.of(context).calls.enter(context)
        return context


@pytest.fixture
async def process(tmp_path: Path) -> AsyncIterator[Process]:
    for version in ("1", "2", "3"):
        write_tiny_bundle(tmp_path, version)
    process = Process(tmp_path)
    await process.swapper.start(tmp_path / "tiny" / "1")
    yield process
    await process.swapper.close()
    assert process.life.count("tiny/1 closed") == 1


async def test_two_are_held_and_no_third(process: Process) -> None:
    await process.swapper.activate("tiny/2")
    assert process.versions == ["tiny/2", "tiny/1"]
    await process.swapper.load("tiny/3")
    assert process.versions == ["tiny/2", "tiny/3"]
    await process.swapper.activate("tiny/3")
    assert process.versions == ["tiny/3", "tiny/2"]
    assert process.serving.version == "tiny/3"
    assert process.life == [
        "tiny/1 warm", "tiny/1 after none",
        "tiny/2 warm", "tiny/2 after tiny/1",
        "tiny/1 closed", "tiny/3 warm", "tiny/3 after tiny/2",
    ]  # fmt: skip
    with pytest.raises(Unavailable, match="tiny/3"):
        process.call("tiny/1")


async def test_what_is_held_or_serves_is_not_loaded_again(process: Process) -> None:
    for version in ("tiny/1", "tiny/2", "tiny/2", "tiny/1"):
        await process.swapper.load(version)
        await process.swapper.activate(version)
    assert process.life.count("tiny/2 warm") == process.life.count("tiny/1 warm") == 1
    assert process.versions == ["tiny/1", "tiny/2"]


async def test_a_version_is_released_after_its_calls(process: Process) -> None:
    call = process.call()
    await process.swapper.activate("tiny/2")
    later = process.call("tiny/1")
    loading = asyncio.create_task(process.swapper.load("tiny/3"))
    call.end(None)
    while process.versions != ["tiny/2"]:  # noqa: ASYNC110 - no event tells
        await asyncio.sleep(0)
    with pytest.raises(Unavailable):
        process.call("tiny/1")
    assert "tiny/1 closed" not in process.life
    later.end(None)
    await loading
    assert process.life[-2:] == ["tiny/1 closed", "tiny/3 warm"]


async def test_versions_are_freed_off_the_event_loop(process: Process) -> None:
    freed_on: list[int] = []
    await process.swapper.activate("tiny/2")
    first = process.held.beside
    assert first is not None
    weakref.finalize(first.servicer, lambda: freed_on.append(threading.get_ident()))
    del first
    await process.swapper.load("tiny/3")
    assert len(freed_on) == 1
    assert freed_on[0] != threading.get_ident()


async def test_a_version_that_fails_changes_nothing(process: Process) -> None:
    def cold(fake: Fake) -> None:
        fake.warm = ValueError("a defect")

    def stuck(fake: Fake) -> None:
        fake.fails = Unavailable("not now", reason="CATALOG_NOT_FOLLOWED")

    process.prepared = {"tiny/2": cold, "tiny/3": stuck}
    with pytest.raises(ValueError, match="a defect"):
        await process.swapper.load("tiny/2")
    assert process.versions == ["tiny/1"]
    assert process.life[-1] == "tiny/2 closed"
    with pytest.raises(Unavailable, match="not now"):
        await process.swapper.activate("tiny/3")
    assert process.versions == ["tiny/1", "tiny/3"]
    assert process.serving.version == "tiny/1"


async def test_a_broken_version_does_not_push_out_the_one_held(
    process: Process, tmp_path: Path
) -> None:
    await process.swapper.activate("tiny/2")
    (tmp_path / "tiny" / "3" / "users.json").write_text("[]", encoding="utf-8")
    with pytest.raises(BundleError, match=r"users\.json"):
        await process.swapper.activate("tiny/3")
    assert process.versions == ["tiny/2", "tiny/1"]


async def test_a_change_ends_when_its_caller_has_left(process: Process) -> None:
    warm = asyncio.Event()
    loading = threading.Event()

    def slow(fake: Fake) -> None:
        fake.warm = warm
        loading.set()

    process.prepared = {"tiny/2": slow}
    asking = asyncio.create_task(process.swapper.activate("tiny/2"))
    await asyncio.to_thread(loading.wait)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    waiting = asyncio.create_task(process.swapper.activate("tiny/3"))
    warm.set()
    await waiting
    assert process.versions == ["tiny/3", "tiny/2"]


async def test_versions_that_lie_there_are_listed(process: Process) -> None:
    assert process.swapper.available() == ["tiny/3", "tiny/2", "tiny/1"]
