"""The process that is soaked, seen from inside and from outside.

    python -m tests.robustness.soak.process

It serves a generator as `tandem serve generator` does, with the settings of its environment. Beside
that it takes orders, one JSON document a line, on its standard input, and answers each in one line:

    {"changes": [{"item_id": …, "attributes": …, "code": …} or {"item_id": …}, …]}  → {"version": …}
    {}                                     → {"rss": bytes, "positions": count, "live": count}

Its first line says where it serves. When its input ends, it drains.
"""

import asyncio
import gc
import json
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from core.bundle import Bundle
from core.catalog import CatalogItem, Delete
from services.generator.catalog.coded import CodedChange, CodedUpsert
from services.generator.decoding.engine import GeneratorEngine
from services.generator.servicer import GeneratorServicer
from services.generator.settings import GeneratorSettings
from serving.bundles.named import NamedBundle
from serving.server import Api, Service, ServiceHost
from serving.settings import ENVIRONMENT_PREFIX, load_settings
from serving.telemetry.logs import configure_logging
from tandem.v1.generator_service_pb2_grpc import add_GeneratorServiceServicer_to_server
from tests.processes import REPOSITORY
from tests.robustness.soak.catalog import Changes, Item

LINE_BYTES: Final = 2**24


@dataclass(frozen=True)
class Memory:
    """What a process takes, garbage collected."""

    rss: int
    """Bytes that are resident."""
    positions: int
    """Of the catalog, tombstones included."""
    live: int


class ServerProcess:
    """The process as its parent sees it. Orders are carried out one after another."""

    def __init__(self, process: asyncio.subprocess.Process, address: str) -> None:
        self._process = process
        self._turn = asyncio.Lock()
        self.address = address

    async def apply(self, changes: Changes) -> None:
        """Makes the next version of the catalog, and returns when it is the current one."""
        await self._order({"changes": [_document(key, item) for key, item in changes.items()]})

    async def measure(self) -> Memory:
        """Collects garbage, and looks at what is left."""
        return Memory(**await self._order({}))

    async def _order(self, order: Mapping[str, Any]) -> dict[str, Any]:
        async with self._turn:
            _stdin(self._process).write(json.dumps(order).encode() + b"\n")
            return await _answer(self._process)


@asynccontextmanager
async def started(bundle: Path, settings: Mapping[str, object]) -> AsyncIterator[ServerProcess]:
    """Runs a server process, with settings of `GeneratorSettings`.

    Raises:
        ChildProcessError: it ended by itself; its log says why.
    """
    told = {"bundle": bundle, "log_level": "warning", **settings}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.robustness.soak.process",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=LINE_BYTES,
        start_new_session=True,  # the terminal's SIGINT goes to the parent, which ends the input
        cwd=REPOSITORY,
        env={**os.environ, **{f"{ENVIRONMENT_PREFIX}{k.upper()}": str(told[k]) for k in told}},
    )  # fmt: skip
    try:
        yield ServerProcess(process, (await _answer(process))["address"])
    finally:
        _stdin(process).close()
        await process.wait()


def _stdin(process: asyncio.subprocess.Process) -> asyncio.StreamWriter:
    assert process.stdin is not None
    return process.stdin


async def _answer(process: asyncio.subprocess.Process) -> dict[str, Any]:
    assert process.stdout is not None
    line = await process.stdout.readline()
    if not line:
        raise ChildProcessError(f"the server ended with exit code {await process.wait()}")
    answer: dict[str, Any] = json.loads(line)
    return answer


def _document(key: str, item: Item | None) -> dict[str, object]:
    if item is None:
        return {"item_id": key}
    return {"item_id": key, "attributes": item.attributes, "code": item.code_text}


async def main() -> None:
    """Serves until the standard input ends."""
    settings = load_settings(GeneratorSettings, port=0)
    configure_logging("generator", settings.log_level, as_json=False, stream=sys.stderr)
    servicer = GeneratorServicer.load(Bundle.open(settings.bundle), settings)
    follower = servicer.follower
    api = Api("tandem.v1.GeneratorService", add_GeneratorServiceServicer_to_server)
    bundles = {"": NamedBundle(settings.bundle, lambda _: servicer)}
    host = ServiceHost(settings, Service("generator", [api], bundles))
    port = await host.start()
    await host.load()
    await host.ready()
    _say({"address": f"127.0.0.1:{port}"})
    reader = asyncio.StreamReader(limit=LINE_BYTES)
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    async for line in reader:
        order = json.loads(line)
        if "changes" in order:
            engine = follower.engine
            changes = [_change(engine, document) for document in order["changes"]]
            # Made on a thread: calls go on meanwhile, about the version that they began with.
            follower.engine = engine.over(await asyncio.to_thread(engine.snapshot.apply, changes))
            _say({"version": follower.engine.snapshot.version})
        else:
            _say(_memory(follower.engine))
    await host.drain()


def _change(engine: GeneratorEngine, document: Mapping[str, Any]) -> CodedChange:
    if "code" not in document:
        return Delete(document["item_id"])
    attributes = {name: tuple(values) for name, values in document["attributes"].items()}
    item = CatalogItem(document["item_id"], "", "", attributes, 0)
    text = document["code"]
    return CodedUpsert(item, text, engine.parts.tokenizer.encode(text).ids)


def _memory(engine: GeneratorEngine) -> dict[str, int]:
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    catalog = engine.snapshot.catalog
    return {
        "rss": pages * os.sysconf("SC_PAGE_SIZE"),
        "positions": len(catalog),
        "live": catalog.live_count,
    }


def _say(document: Mapping[str, Any]) -> None:
    print(json.dumps(document), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
