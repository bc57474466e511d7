"""A hundred swaps under load: what callers notice of them, and what they take in memory.

    python -m bench.operate.swaps --bundle bundles/ml-100k/current

Two versions with the same files take turns in three real processes, while callers ask for lists at
a fixed rate (each call counted from when it was due) and one of them writes to the catalog. Every
second swap begins with loading: the version that is not served is pushed out before by a third. As
two builds with the same embedder do, the versions share the text encoder; with `--apart` each has
one of its own, and they share nothing but the page cache.

A call failed if it was refused or late, or if its answer is degraded; an answer is mixed if two
versions had a part in it.
"""

import asyncio
import json
import shutil
import tempfile
import time
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final

import numpy as np
import onnx
import typer

from bench.lib.held import proc_bytes
from bench.lib.report import Figures, publish, run, served_precision
from bench.lib.stack import Process, serving
from core.bundle import Bundle, sha256
from tandem import AsyncCatalogClient, AsyncClient, BundleClient, Error, Item
from tandem.v1 import recommendation_service_pb2 as pb

TEXT_ENCODER: Final = "text_encoder.onnx"
DEADLINE: Final = 2.0
WRITE_SECONDS: Final = 0.2
SAMPLE_SECONDS: Final = 0.05
TABLE: Final = (
    ("{swaps} swaps, {rate} calls/s", "calm", "meanwhile"),
    ("calls", "{calm_calls}", "{swap_calls}"),
    ("failed, late or degraded", "{calm_failed}", "{swap_failed}"),
    ("answers of two versions", "{calm_mixed}", "{swap_mixed}"),
    ("p50, ms", "{calm_p50_ms:.1f}", "{swap_p50_ms:.1f}"),
    ("p99, ms", "{calm_p99_ms:.1f}", "{swap_p99_ms:.1f}"),
    ("changes of the catalog that failed", "{calm_writes_failed}", "{swap_writes_failed}"),
    ("a swap that loads, s", "", "{load_s:.2f}"),
    ("a swap to what is held, s", "", "{activate_s:.2f}"),
    ("memory of all three, MB: one version", "{one_mb:.0f}", ""),
    ("the most, and as a ratio", "", "{peak_mb:.0f}, {peak_ratio:.2f}"),
)


@dataclass
class Tally:
    """What came of a time of calls."""

    ms: list[float] = field(default_factory=list)
    failed: int = 0
    mixed: int = 0
    writes_failed: int = 0

    def figures(self, name: str) -> Figures:
        """All of it, under a name."""
        p50, p99 = np.percentile(self.ms, (50, 99)).tolist()
        return {
            f"{name}_calls": len(self.ms),
            f"{name}_failed": self.failed,
            f"{name}_mixed": self.mixed,
            f"{name}_p50_ms": p50,
            f"{name}_p99_ms": p99,
            f"{name}_writes_failed": self.writes_failed,
        }


def is_mixed(answer: pb.RecommendResponse) -> bool:
    """Whether another version had a part in it."""
    parts = {timing.bundle_version for timing in answer.timings if timing.bundle_version}
    return bool(parts - {answer.bundle_version})


class Load:
    """Calls at a fixed rate, and changes of the catalog."""

    def __init__(
        self, client: AsyncClient, catalog: AsyncCatalogClient, users: Sequence[str], rate: float
    ) -> None:
        self.tally = Tally()
        self._client = client
        self._catalog = catalog
        self._users = users
        self._rate = rate

    async def run(self, until: "asyncio.Event") -> None:
        """Calls until it is told to end."""
        async with asyncio.TaskGroup() as calls:
            calls.create_task(self._write(until))
            began, number = time.perf_counter(), 0
            while not until.is_set():
                due = began + number / self._rate
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                calls.create_task(self._call(self._users[number % len(self._users)], due))
                number += 1

    async def _call(self, user_id: str, due: float) -> None:
        tally = self.tally
        try:
            answer = await self._client.recommend(user_id, strategy="rerank", timeout=DEADLINE)
            tally.failed += answer.degraded
            tally.mixed += is_mixed(answer)
        except Error:
            tally.failed += 1
        tally.ms.append((time.perf_counter() - due) * 1e3)

    async def _write(self, until: "asyncio.Event") -> None:
        number = 0
        while not until.is_set():
            item = Item("new", "A new film", title=f"New {number}", attributes={"genre": "New"})
            try:
                await self._catalog.upsert_items([item], timeout=DEADLINE)
            except Error:
                self.tally.writes_failed += 1
            number += 1
            await asyncio.sleep(WRITE_SECONDS)


class Memory:
    """What processes take together, and the most that they took."""

    def __init__(self, processes: Sequence[Process]) -> None:
        self._pids = [process.process.pid for process in processes]
        self.peak = 0.0

    def now(self) -> float:
        """MB that are theirs alone."""
        return sum(proc_bytes(f"{pid}/smaps_rollup", "Anonymous") for pid in self._pids) / 2**20

    async def watch(self) -> None:
        """Notes the most, until it is cancelled."""
        while True:
            self.peak = max(self.peak, await asyncio.to_thread(self.now))
            await asyncio.sleep(SAMPLE_SECONDS)


async def measure(processes: dict[str, Process], swaps: int, rate: float) -> Figures:
    """Calm, then swaps."""
    users = list(Bundle.open(processes["gateway"].bundle).histories.user_index)
    memory = Memory(list(processes.values()))
    async with (
        AsyncClient(processes["gateway"].address) as client,
        AsyncCatalogClient(processes["candidate"].address) as catalog,
    ):
        bundles = BundleClient(processes["gateway"].address)
        await during(Load(client, catalog, users, rate), asyncio.sleep(2.0))  # warms up
        calm = Load(client, catalog, users, rate)
        await during(calm, asyncio.sleep(max(10.0, swaps * 0.2)))
        one = memory.now()
        watching = asyncio.create_task(memory.watch())
        swapped, taken = Load(client, catalog, users, rate), list[float]()
        await during(swapped, swap(bundles, swaps, taken))
        watching.cancel()
        bundles.close()
    return {
        "swaps": swaps,
        "rate": rate,
        **calm.tally.figures("calm"),
        **swapped.tally.figures("swap"),
        "load_s": float(np.median(taken[::2])),
        "activate_s": float(np.median(taken[1::2])),
        "one_mb": one,
        "peak_mb": memory.peak,
        "peak_ratio": memory.peak / one,
    }


async def during(load: Load, work: Coroutine[Any, Any, None]) -> None:
    """Calls for as long as some work takes."""
    ended = asyncio.Event()
    calling = asyncio.create_task(load.run(ended))
    try:
        await work
    finally:
        ended.set()
        await calling


async def swap(bundles: BundleClient, swaps: int, taken: list[float]) -> None:
    """Goes to a version that must be loaded, and back to the one that is held; and so on."""
    name = next(iter(bundles.list())).rpartition("/")[0]
    for number in range(swaps):
        version = ("a", "bc"[number // 2 % 2])[number % 2 == 0]
        started = time.perf_counter()
        await asyncio.to_thread(bundles.activate, f"{name}/{version}")
        taken.append(time.perf_counter() - started)


def copies(bundle: Path, root: Path, *, apart: bool = False) -> Path:
    """Three versions with the files of one; returns the first.

    Args:
        bundle: the one.
        root: where they are put.
        apart: whether each has a text encoder of its own.
    """
    source = Bundle.open(bundle)
    for version in "abc":
        path = root / source.manifest.name / version
        shutil.copytree(source.path, path)
        manifest = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
        if apart:
            manifest["files"][TEXT_ENCODER] = _stamped(path / TEXT_ENCODER, version)
        (path / "manifest.json").write_text(json.dumps(manifest | {"version": version}))
    return root / source.manifest.name / "a"


def _stamped(graph: Path, version: str) -> dict[str, str | int]:
    """Notes the version in a graph, and returns its new entry in the manifest."""
    model = onnx.load(graph)
    model.metadata_props.add(key="version", value=version)
    onnx.save(model, graph)
    return {"sha256": sha256(graph), "bytes": graph.stat().st_size}


@contextmanager
def all_three(
    bundle: Path, directory: Path, history: str | Path = "bundle"
) -> Iterator[dict[str, Process]]:
    """Candidate, with a store, generator and gateway, for as long as the block takes.

    Args:
        bundle: what they serve.
        directory: for the store.
        history: of the gateway.
    """
    with ExitStack() as opened:
        candidate = opened.enter_context(
            serving("candidate", bundle, f"--store={directory / 'items.db'}")
        )
        generator = opened.enter_context(
            serving("generator", bundle, f"--catalog={candidate.address}")
        )
        gateway = opened.enter_context(
            serving(
                "gateway",
                bundle,
                f"--candidate-target={candidate.address}",
                f"--generator-target={generator.address}",
                f"--history={history}",
            )
        )
        yield {"candidate": candidate, "generator": generator, "gateway": gateway}


def main(
    bundle: Annotated[Path, typer.Option(help="What is served.")] = Path("bundles/ml-100k/current"),
    swaps: Annotated[int, typer.Option(help="How many.", min=2)] = 100,
    rate: Annotated[float, typer.Option(help="Calls a second.", min=1)] = 30.0,
    apart: Annotated[
        bool, typer.Option(help="Give each version a text encoder of its own.")
    ] = False,
) -> None:
    """Measure swaps under load."""
    with tempfile.TemporaryDirectory() as directory:
        first = copies(bundle, Path(directory), apart=apart)
        with all_three(first, Path(directory)) as processes:
            figures = asyncio.run(measure(processes, swaps, rate))
    precision = served_precision(Bundle.open(bundle, verify=False))
    publish("operate.swaps", figures, TABLE, precision=precision, caches="warm")


if __name__ == "__main__":
    run(main)
