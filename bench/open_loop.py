"""Calls at a rate, whatever becomes of them, as a crowd sends them: see what overload does.

It costs a tenth of what a gRPC library would, so that what is measured is the server.
"""

import itertools
import random
import selectors
import time
from typing import Final

import grpc

from bench.http2 import (
    END_STREAM,
    GOAWAY,
    HEADERS,
    RST_STREAM,
    Connection,
    call,
    call_headers,
    status_of,
)
from bench.outcome import PATIENCE_SECONDS, Load, Outcome

CONNECTIONS: Final = 8
_CODES: Final = {code.value[0]: code.name for code in grpc.StatusCode}


class OpenLoop:
    """Sends one load.

    Args:
        load: its `rate` is that of a Poisson process.
    """

    def __init__(self, load: Load) -> None:
        self._load = load
        self._headers = call_headers(load.method, int(PATIENCE_SECONDS))
        self._outcome = Outcome(seconds=load.seconds)
        self._selector = selectors.DefaultSelector()
        self._lines = [Line(load.address) for _ in range(CONNECTIONS)]
        for line in self._lines:
            self._selector.register(line.connection.socket, selectors.EVENT_READ, line)

    def run(self) -> Outcome:
        """Sends for as long as the load lasts, and waits for the last answers."""
        lines, requests = itertools.cycle(self._lines), itertools.cycle(self._load.requests)
        rng = random.Random(0)  # noqa: S311 - no secret depends on it
        due = started = time.perf_counter()
        while due < started + self._load.seconds:
            now = time.perf_counter()
            if now < due:
                self._listen(due - now)
                continue
            self._outcome.late_ms = max(self._outcome.late_ms, (now - due) * 1e3)
            next(lines).send(self._headers, next(requests))
            due += rng.expovariate(self._load.rate)
        end = time.perf_counter() + PATIENCE_SECONDS
        while any(line.sent for line in self._lines) and time.perf_counter() < end:
            self._listen(0.01)
        if unanswered := sum(len(line.sent) for line in self._lines):
            self._outcome.failed["DEADLINE_EXCEEDED"] += unanswered
        for line in self._lines:
            line.connection.close()
        return self._outcome

    def _listen(self, seconds: float) -> None:
        for key, _ in self._selector.select(seconds):
            for status, ms in key.data.ended():
                self._note(status, ms)

    def _note(self, status: str, ms: float) -> None:
        if status == "OK":
            self._outcome.accepted.append(ms)
        elif status == "RESOURCE_EXHAUSTED":
            self._outcome.rejected.append(ms)
        else:
            self._outcome.failed[status] += 1


class Line:
    """A connection and the calls that are on it."""

    def __init__(self, address: str) -> None:
        self.connection = Connection(address)
        self.sent: dict[int, float] = {}
        """When each call was sent that has not ended, by its stream."""
        self._stream = 1

    def send(self, headers: bytes, message: bytes) -> None:
        """Sends a call."""
        self.sent[self._stream] = time.perf_counter()
        self.connection.send(call(self._stream, headers, message))
        self._stream += 2

    def ended(self) -> "list[tuple[str, float]]":
        """The status of each call that has ended since, and the milliseconds that it took."""
        ended = []
        for frame in self.connection.frames():
            if frame.kind == GOAWAY:
                raise ConnectionAbortedError("the server sends the crowd away")
            if frame.stream not in self.sent:
                continue
            if frame.kind == HEADERS and frame.flags & END_STREAM:
                status = _CODES[status_of(frame.payload)]
            elif frame.kind == RST_STREAM:
                status = "RESET"
            else:
                continue
            ended.append((status, (time.perf_counter() - self.sent.pop(frame.stream)) * 1e3))
        return ended
