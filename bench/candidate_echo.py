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
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

import grpc
import numpy as np
from rich.console import Console
from rich.table import Table

from cli.supervise import Stack
from runtime.bundle import Bundle
from tandem.v1 import candidate_service_pb2 as pb

ROUNDS: Final = 5
CALLERS: Final = 16
REQUESTS: Final = 512
SIMILAR: Final = "/tandem.v1.CandidateService/Similar"
ECHO: Final = "/bench.Echo/Echo"
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
        async with serving_candidates(bundle) as similar:
            probe = await loop.run_in_executor(client, call, similar, SIMILAR, requests, seconds)
            with serving_echo(probe.response_bytes) as echo:
                await loop.run_in_executor(client, call, echo, ECHO, requests, seconds / 10)
                rounds = [
                    [
                        await loop.run_in_executor(client, call, *turn, seconds)
                        for turn in (
                            (similar, SIMILAR, requests),
                            (echo, ECHO, requests),
                        )
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
        pb.SimilarRequest(items=pb.ItemsQuery(item_ids=[item_id])).SerializeToString()
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


@asynccontextmanager
async def serving_candidates(bundle: Path, *flags: str) -> AsyncIterator[str]:
    """A candidate server in a process of its own; yields its address once it serves."""
    command = [sys.executable, "-m", "cli.main", "serve", "candidate", "--bundle", str(bundle)]
    command += ["--port", "0", "--log-level", "warning", *flags]
    with tempfile.TemporaryDirectory() as directory:
        stack = Stack(Path(directory), "127.0.0.1")
        try:
            await stack.start("candidate", command)
            serving, died = (
                asyncio.ensure_future(one)
                for one in (stack.serving("candidate"), stack.died("candidate"))
            )
            await asyncio.wait({serving, died}, return_when=asyncio.FIRST_COMPLETED)
            for other in (serving, died):
                other.cancel()
            yield serving.result() if not died.done() else await died
        finally:
            await stack.stop()


@contextmanager
def serving_echo(size: int) -> Iterator[str]:
    """A bare server that answers everything with so many bytes; yields its address."""
    ours, theirs = _SPAWN.Pipe()
    server = _SPAWN.Process(target=_echo, args=(size, theirs), daemon=True)
    server.start()
    try:
        yield f"127.0.0.1:{ours.recv()}"
    finally:
        server.terminate()
        server.join()


def _echo(size: int, parent: Connection) -> None:
    asyncio.run(_serve_echo(bytes(size), parent))


async def _serve_echo(answer: bytes, parent: Connection) -> None:
    async def echo(_request: bytes, _context: Any) -> bytes:
        return answer

    server = grpc.aio.server()
    handler = grpc.method_handlers_generic_handler(
        "bench.Echo", {"Echo": grpc.unary_unary_rpc_method_handler(echo)}
    )
    server.add_generic_rpc_handlers((handler,))
    parent.send(server.add_insecure_port("127.0.0.1:0"))
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    measure_echo(Path(sys.argv[1]), float(sys.argv[2]))
