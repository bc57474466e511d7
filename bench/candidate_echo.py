"""`Similar` over the loopback beside a bare echo: what the service costs on top of gRPC itself.

Both servers are processes of their own, and so is the client, which calls one after the other with
messages of the same sizes, as raw bytes. They take turns, so that a drifting machine slows both;
the figure is the median over rounds of the ratio of one round's calls per second.

Callers are closed-loop, and share the machine with the servers.
"""

import asyncio
import itertools
import multiprocessing
import statistics
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import grpc
import numpy as np
from rich.console import Console
from rich.table import Table

from bench import echo
from bench.service import serving
from core.bundle import Bundle
from tandem.v1 import candidate_service_pb2 as pb
from tandem.v1.common_pb2 import SimilarityQuery

ROUNDS: Final = 5
CALLERS: Final = 16
REQUESTS: Final = 512
SIMILAR: Final = "/tandem.v1.CandidateService/Similar"
_SPAWN: Final = multiprocessing.get_context("spawn")  # a fork would copy gRPC's threads


@dataclass(frozen=True)
class Turn:
    """What callers of one server saw."""

    calls_per_second: float
    response_bytes: int
    """The median size of a response."""


def measure_echo(bundle: Path, seconds: float) -> dict[str, float]:
    """Measures `Similar` by item beside an echo of its messages, and prints a table.

    Args:
        bundle: whose candidates are served, with their text encoder.
        seconds: of all turns together.

    Returns:
        `similar_vs_echo`, and the calls per second that it is made of.
    """
    return asyncio.run(_measure(bundle, seconds / (2 * ROUNDS)))


async def _measure(bundle: Path, seconds: float) -> dict[str, float]:
    requests = similar_requests(Bundle.open(bundle, verify=False))
    loop = asyncio.get_running_loop()
    with ProcessPoolExecutor(1, mp_context=_SPAWN) as client:
        async with serving("candidate", bundle) as address:
            similar = (address, SIMILAR, requests)
            probe = await loop.run_in_executor(client, call, *similar, seconds)
            request = echo.request(len(requests[0]), probe.response_bytes)
            with echo.serving() as bare_address:
                bare = (bare_address, echo.METHOD, [request])
                await loop.run_in_executor(client, call, *bare, seconds / 10)
                rounds = [
                    [
                        await loop.run_in_executor(client, call, *turn, seconds)
                        for turn in (similar, bare)
                    ]
                    for _ in range(ROUNDS)
                ]
    rates = np.array([[turn.calls_per_second for turn in turns] for turns in rounds])
    names = ("similar", "echo")
    figures = {
        f"{name}_calls_per_second": float(rate)
        for name, rate in zip(names, np.median(rates, axis=0), strict=True)
    }
    figures["similar_vs_echo"] = float(np.median(rates[:, 0] / rates[:, 1]))
    table = Table("Similar by item", f"{CALLERS} callers", box=None, header_style="bold")
    for name, value in figures.items():
        table.add_row(name, f"{value:,.2f}")
    Console().print(table)
    return figures


def similar_requests(bundle: Bundle) -> list[bytes]:
    """Asks for what is similar to each of some items of the catalog, spread evenly over it."""
    step = -(-len(bundle.catalog) // REQUESTS)
    return [
        pb.SimilarRequest(
            query=SimilarityQuery(items=SimilarityQuery.ItemList(item_ids=[item_id]))
        ).SerializeToString()
        for item_id in bundle.catalog.ids(range(0, len(bundle.catalog), step))
    ]


def call(address: str, method: str, requests: Sequence[bytes], seconds: float) -> Turn:
    """Calls a server for so long, in a process of its own."""
    return asyncio.run(_call(address, method, requests, seconds))


async def _call(address: str, method: str, requests: Sequence[bytes], seconds: float) -> Turn:
    async with grpc.aio.insecure_channel(address) as channel:
        await channel.channel_ready()
        ask: Any = channel.unary_unary(method)
        turns, sizes = itertools.cycle(requests), []
        started = time.perf_counter()

        async def call_on() -> None:
            while time.perf_counter() < started + seconds:
                sizes.append(len(await ask(next(turns))))

        await asyncio.gather(*(call_on() for _ in range(CALLERS)))
        rate = len(sizes) / (time.perf_counter() - started)
    return Turn(rate, int(statistics.median(sizes)))


if __name__ == "__main__":
    measure_echo(Path(sys.argv[1]), float(sys.argv[2]))
