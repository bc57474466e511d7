"""Bare grpc.aio servers, to compare with.

An echo answers every call of any method with the same bytes, and does nothing else. A proxy hands
every call on to an echo, as a gateway does to a service, and does nothing else either: what it
reaches is what two hops can.

    python -m bench.lib.echo [ECHO]

takes the answer on its standard input, or is the proxy of the echo at an address.
"""

import asyncio
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import grpc
from google.protobuf.message import Message

from bench.lib.ghz import RATE, Load
from bench.lib.timing import in_turns


@contextmanager
def serving(answer: bytes = b"", echo: str | None = None) -> Iterator[str]:
    """Serves in a process of its own, the proxy of an echo if one is named; yields the address."""
    command = [sys.executable, "-m", "bench.lib.echo", *([echo] if echo else [])]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None and process.stdout is not None  # noqa: S101, PT018
        try:
            process.stdin.write(answer)
            process.stdin.close()
            yield f"127.0.0.1:{process.stdout.readline().decode().strip()}"
        finally:
            process.terminate()


def beside_echo(
    name: str, load: Load, address: str, request: Message, rounds: int, *, proxied: bool = False
) -> dict[str, float]:
    """Compares a method's calls a second with those of an echo that gives one of its answers.

    Args:
        name: of the method, in the figures.
        load: its calls.
        address: who answers them.
        request: one of them.
        rounds: turns of each side.
        proxied: also of an echo behind a bare proxy, which are two hops as a gateway's.
    """
    service, _, method = load.method.rpartition(".")
    with grpc.insecure_channel(address) as channel:
        call: Any = channel.unary_unary(f"/{service}/{method}")
        answer = call(request.SerializeToString())
    with ExitStack() as opened:
        sides = {name: address, "echo": opened.enter_context(serving(answer))}
        if proxied:
            sides["proxy"] = opened.enter_context(serving(echo=sides["echo"]))
        turns = in_turns({side: partial(load.run, at) for side, at in sides.items()}, rounds)
    ratios = {
        f"{side}_vs_echo": turns.ratio(side, "echo", RATE) for side in sides if side != "echo"
    }
    return ratios | turns.medians("calls_per_second", RATE)


class EveryMethod:
    """A handler of all methods of a server, sent and answered as bytes.

    Args:
        respond: makes the function that answers calls of a method, from the method's name; None
            for a method that there is not.
    """

    def __init__(self, respond: Callable[[str], Any]) -> None:
        self._respond = respond

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        """As gRPC asks for it."""
        answer = self._respond(details.method)
        return answer and grpc.unary_unary_rpc_method_handler(answer)


async def serve(answer: bytes, echo: str | None = None) -> None:
    """Prints the port, and serves until it is killed."""
    server: Any = grpc.aio.server()
    channel = echo and grpc.aio.insecure_channel(echo)

    def respond(method: str) -> Any:
        async def give(_request: bytes, _context: object) -> bytes:
            return answer

        async def pass_on(request: bytes, _context: object) -> bytes:
            passed: bytes = await forward(request)
            return passed

        forward: Any = channel and channel.unary_unary(method)
        return pass_on if forward else give

    server.add_generic_rpc_handlers((EveryMethod(respond),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(serve(sys.stdin.buffer.read(), *sys.argv[1:]))
