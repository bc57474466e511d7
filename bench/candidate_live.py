"""A catalog that changes while it is searched: what searches notice, and how fast items come in.

One candidate server with a store, a process of its own; so are those who search, one call after
another, and those who write. Turns with and without writing alternate, so that a drifting machine
slows both. Items that bring their vector come at a fixed rate. Items of text alone come as fast as
they are taken, which is compared with the same encoder in turns of its own, over the same texts.

Both kinds write the same `IDS` items again and again, each time with another vector or text: a
bundle of short codes has no room for more than a few hundred items beside its own.
"""

import asyncio
import itertools
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import grpc
import numpy as np
from rich.console import Console
from rich.table import Table

from bench.service import serving
from core.bundle import Bundle
from services.candidate.index.flat import Vector
from services.candidate.retrieval.encoders import OnnxTextEncoder
from tandem.v1 import candidate_service_pb2_grpc as candidate_grpc
from tandem.v1 import catalog_service_pb2 as pb
from tandem.v1 import catalog_service_pb2_grpc as catalog_grpc
from tandem.v1 import common_pb2
from tandem.v1.candidate_service_pb2 import SearchRequest

ROUNDS: Final = 5
RATE: Final = 1_000
"""Items with a vector that are written each second."""
ITEMS_A_CALL: Final = 100
IDS: Final = 300
SEARCHERS: Final = 2
WRITERS: Final = 4
"""Calls that wait for their acknowledgment at a time, at most."""
HISTORY: Final = 20
_SPAWN: Final = multiprocessing.get_context("spawn")  # a fork would copy gRPC's threads


@dataclass(frozen=True)
class Work:
    """What both kinds of callers send, prepared before the clock runs."""

    address: str
    histories: Sequence[Sequence[str]]
    texts: Sequence[str]
    dimension: int
    seconds: float


def measure_live(bundle: Path, seconds: float) -> dict[str, float]:
    """Measures searches while items come in, and prints a table.

    Args:
        bundle: whose candidates are served.
        seconds: of all turns together.

    Returns:
        `p99_ratio_while_upserting`, `upserts_per_second`, `text_upserts_vs_encoder`, and the
        figures that these are made of.
    """
    figures = asyncio.run(_measure(bundle, seconds / (4 * ROUNDS)))
    table = Table("a live catalog", "", box=None, header_style="bold")
    for name, value in figures.items():
        table.add_row(name, f"{value:,.2f}")
    Console().print(table)
    return figures


async def _measure(path: Path, seconds: float) -> dict[str, float]:
    bundle = Bundle.open(path, verify=False)
    loop = asyncio.get_running_loop()
    with (
        tempfile.TemporaryDirectory() as directory,
        ProcessPoolExecutor(2, mp_context=_SPAWN) as processes,
    ):
        async with serving("candidate", path, "--store", f"{directory}/items.db") as address:
            work = _work(bundle, address, seconds)
            run = loop.run_in_executor
            await run(processes, search, work)  # warm
            alone, beside, taken, text_rates, encoder_rates = [], [], [], [], []
            for turn in range(ROUNDS):
                alone.append(await run(processes, search, work))
                both = (run(processes, search, work), run(processes, upsert, work, turn))
                found, rate = await asyncio.gather(*both)
                beside.append(found)
                taken.append(rate)
                text_rates.append(await run(processes, upsert_texts, work, turn))
                encoder_rates.append(await run(processes, encode, path, work))
    return {
        "search_p99_ms_alone": statistics.median(alone),
        "search_p99_ms_while_upserting": statistics.median(beside),
        "p99_ratio_while_upserting": statistics.median(
            b / a for a, b in zip(alone, beside, strict=True)
        ),
        "upserts_per_second": statistics.median(taken),
        "text_upserts_per_second": statistics.median(text_rates),
        "encoder_texts_per_second": statistics.median(encoder_rates),
        "text_upserts_vs_encoder": statistics.median(
            t / e for t, e in zip(text_rates, encoder_rates, strict=True)
        ),
    }


def _work(bundle: Bundle, address: str, seconds: float) -> Work:
    rng = np.random.default_rng(0)
    catalog = bundle.catalog
    return Work(
        address=address,
        histories=[
            catalog.ids(rng.integers(0, len(catalog), HISTORY).tolist()) for _ in range(256)
        ],
        texts=[catalog.items[int(i)].text for i in rng.permutation(len(catalog))],
        dimension=bundle.array("content_vectors", np.float32).shape[1],
        seconds=seconds,
    )


def search(work: Work) -> float:
    """Searches in a process of its own: the 99th percentile, in milliseconds."""

    async def run() -> float:
        async with _connected(work) as channel:
            stub = candidate_grpc.CandidateServiceStub(channel)
            times: list[float] = []
            requests = itertools.cycle(
                SearchRequest(history_item_ids=history) for history in work.histories
            )
            end = time.perf_counter() + work.seconds

            async def search_on() -> None:
                while (began := time.perf_counter()) < end:
                    await stub.Search(next(requests))
                    times.append(1e3 * (time.perf_counter() - began))

            await asyncio.gather(*(search_on() for _ in range(SEARCHERS)))
            return float(np.percentile(times, 99))

    return asyncio.run(run())


def upsert(work: Work, turn: int) -> float:
    """Writes items with vectors at `RATE`, or slower: items that were acknowledged a second."""

    async def run() -> float:
        async with _connected(work) as channel:
            stub = catalog_grpc.CatalogServiceStub(channel)
            rng = np.random.default_rng(turn)
            requests = []
            for call in range(round(work.seconds * RATE / ITEMS_A_CALL)):
                vectors = rng.standard_normal((ITEMS_A_CALL, work.dimension), np.float32)
                items = _items(call, f"v{turn}", work.texts, vectors)
                requests.append(pb.UpsertItemsRequest(items=items))
            began, calls, written = time.perf_counter(), iter(enumerate(requests)), 0

            async def write_on() -> None:
                nonlocal written
                for call, request in calls:
                    due = began + call * ITEMS_A_CALL / RATE
                    await asyncio.sleep(max(0.0, due - time.perf_counter()))
                    await stub.UpsertItems(request)
                    written += ITEMS_A_CALL

            await asyncio.gather(*(write_on() for _ in range(WRITERS)))
            return written / max(time.perf_counter() - began, work.seconds)

    return asyncio.run(run())


def upsert_texts(work: Work, turn: int) -> float:
    """Writes items of text alone as fast as they are taken: items a second."""

    async def run() -> float:
        async with _connected(work) as channel:
            stub = catalog_grpc.CatalogServiceStub(channel)
            began, calls = time.perf_counter(), itertools.count()
            written = 0

            async def write_on() -> None:
                nonlocal written
                while time.perf_counter() < began + work.seconds:
                    items = _items(next(calls), f"t{turn}", work.texts, None)
                    await stub.UpsertItems(pb.UpsertItemsRequest(items=items))
                    written += ITEMS_A_CALL

            await asyncio.gather(*(write_on() for _ in range(WRITERS)))
            return written / (time.perf_counter() - began)

    return asyncio.run(run())


def encode(bundle: Path, work: Work) -> float:
    """The encoder by itself, as the server runs it: texts a second."""
    opened = Bundle.open(bundle, verify=False)
    encoder = OnnxTextEncoder(
        opened.file("text_encoder.onnx"),
        opened.file("text_tokenizer.json"),
        prefix=opened.manifest.candidate.text_prefix,
        threads=1,
    )
    texts = itertools.cycle(work.texts)
    encoder.encode_batch(list(itertools.islice(texts, ITEMS_A_CALL)))
    began, encoded = time.perf_counter(), 0
    while time.perf_counter() < began + work.seconds:
        encoder.encode_batch(list(itertools.islice(texts, ITEMS_A_CALL)))
        encoded += ITEMS_A_CALL
    return encoded / (time.perf_counter() - began)


def _items(
    call: int, title: str, texts: Sequence[str], vectors: Vector | None
) -> Iterator[pb.NewItem]:
    """The next items to write, under a title that they have not had yet."""
    for row in range(ITEMS_A_CALL):
        number = call * ITEMS_A_CALL + row
        yield pb.NewItem(
            item_id=f"new-{number % IDS}",
            title=f"{title}-{number}",
            text=texts[number % len(texts)],
            vector=None if vectors is None else common_pb2.Vector(values=vectors[row].tolist()),
        )


@asynccontextmanager
async def _connected(work: Work) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(work.address) as channel:
        await channel.channel_ready()
        yield channel
