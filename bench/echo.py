"""Bare grpc.aio servers, to compare with.

An echo answers every call with as many bytes as the request's first four say, and does nothing
else. A proxy hands every call on to an echo, as a gateway does to a service, and does nothing else
either: what it reaches is what two hops can.
"""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import grpc

METHOD: Final = "/tandem.bench.Echo/Echo"
_HEADER_BYTES: Final = 4


def request(request_bytes: int, response_bytes: int) -> bytes:
    """A request of some size, at least 4 bytes, that is answered with another."""
    return response_bytes.to_bytes(_HEADER_BYTES, "big").ljust(request_bytes, b"\0")


@contextmanager
def serving(echo: str | None = None) -> Iterator[str]:
    """Serves in a process of its own, the proxy of an echo if one is named; yields the address."""
    command = [sys.executable, "-m", "bench.echo", *([echo] if echo else [])]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield f"127.0.0.1:{process.stdout.readline().strip()}" if process.stdout else ""
        finally:
            process.terminate()


async def _echo(request: bytes, _context: Any) -> bytes:
    return bytes(int.from_bytes(request[:_HEADER_BYTES], "big"))


async def serve(echo: str | None = None) -> None:
    """Prints the port, and serves until it is killed.

    Args:
        echo: the address of the echo that it is the proxy of.
    """
    answer: Any = _echo
    if echo is not None:
        forward: Any = grpc.aio.insecure_channel(echo).unary_unary(METHOD)

        async def answer(request: bytes, _context: Any) -> bytes:
            response: bytes = await forward(request)
            return response

    server = grpc.aio.server()
    handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(answer)
    service, _, method = METHOD[1:].partition("/")
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(service, {method: handler}),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(serve(*sys.argv[1:]))
