"""Runs the three services as processes of this machine, for `tandem serve all`.

It starts them, waits until each serves, and stops them together: on SIGTERM, on SIGINT, or when
one of them ends by itself. It does not restart them: that is the work of a process manager.
"""

import asyncio
import os
import signal
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from types import MappingProxyType
from typing import Final, NoReturn

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from serving.security.own import own_credentials

POLL_SECONDS: Final = 0.02
KILL_AFTER_SECONDS: Final = 15.0
"""More than a server takes to drain by default."""
SERVICE_NICENESS: Final = 5
"""Of what the gateway calls: on cores that they share it must be free to say no, and in time.
Not more, because beside other busy programs the services would hardly run (docs/log.md)."""

_REACHABLE: Final = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}  # noqa: S104 - read, not bound

Command = Sequence[str]
Launch = Callable[[Mapping[str, str]], Command]
"""Makes a command from the addresses of what was started before."""
Pair = tuple[Path, Path]
Report = Callable[[str, str], None]
"""Told the name and the address of each service once it serves."""


class ProcessEndedError(RuntimeError):
    """A service ended, although nobody asked it to."""


class Stack:
    """Child processes that live and end together."""

    def __init__(self, directory: Path, host: str, tls: Pair | None = None) -> None:
        self._directory = directory
        self._tls = tls
        self._host = _REACHABLE.get(host, host)
        self._processes: dict[str, asyncio.subprocess.Process] = {}

    async def start(self, name: str, command: Command, niceness: int = 0) -> None:
        """Starts a server; the command is completed with `--port-file`.

        Args:
            name: of the server.
            command: see above.
            niceness: how much nicer it is than this process, where the cores do not suffice.
        """
        process = self._processes[name] = await asyncio.create_subprocess_exec(
            *command,
            "--port-file",
            str(self._directory / name),
            # The terminal's SIGINT goes to the parent alone, which decides...
            process_group=0,
            # ...and when the parent is killed, the pipe ends, and the child with it.
            stdin=asyncio.subprocess.PIPE,
            env={**os.environ, "TANDEM_STOP_ON_EOF": "true"},
        )
        if niceness:
            own = os.getpriority(os.PRIO_PROCESS, 0)
            with suppress(ProcessLookupError):  # it is gone already, which `died` notices
                os.setpriority(os.PRIO_PROCESS, process.pid, own + niceness)

    async def listening(self, name: str) -> str:
        """Waits until a started server has its port; returns its address."""
        port_file = self._directory / name
        while not port_file.exists():  # noqa: ASYNC110 - a file has no event
            await asyncio.sleep(POLL_SECONDS)
        return f"{self._host}:{port_file.read_text(encoding='ascii').strip()}"

    async def serving(self, name: str) -> str:
        """Waits until a started server says that it serves; returns its address."""
        address = await self.listening(name)
        async with await self._channel(address) as channel:
            while not await _says_serving(channel):  # noqa: ASYNC110 - nor has another process
                await asyncio.sleep(POLL_SECONDS)
        return address

    async def _channel(self, address: str) -> grpc.aio.Channel:
        if self._tls is None:
            return grpc.aio.insecure_channel(address)
        host, _, port = address.rpartition(":")
        credentials, options = await asyncio.to_thread(
            own_credentials, host.strip("[]"), int(port), *self._tls
        )
        return grpc.aio.secure_channel(address, credentials, options)

    async def died(self, name: str) -> NoReturn:
        """Waits for the end of a process, and raises."""
        code = await self._processes[name].wait()
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        raise ProcessEndedError(f"the {name} process ended with {how}; its log says more")

    async def stop(self) -> None:
        """Ends all processes, the last started first, and kills what does not end."""
        for process in reversed(self._processes.values()):
            if process.returncode is None:
                process.terminate()
                try:
                    await asyncio.wait_for(process.wait(), KILL_AFTER_SECONDS)
                except TimeoutError:
                    process.kill()
                    await process.wait()


async def supervise(
    services: Mapping[str, Launch],
    gateway: Launch,
    *,
    host: str,
    report: Report,
    tls: Pair | None = None,
    after: Mapping[str, Launch] = MappingProxyType({}),
) -> None:
    """Starts the services, then the gateway, and lives until one ends or a signal comes.

    Args:
        services: those that the gateway needs, by name. Each is started once the one before it has
            its port, and they load side by side.
        gateway: started when all of them serve.
        host: that all of them listen on.
        report: see `Report`.
        tls: the certificate that all of them show, and its key.
        after: what is started when the gateway serves, by name; it serves once it has its port.

    Raises:
        ProcessEndedError: one ended by itself.
    """
    stopping = _termination()
    async with _stack(host, tls) as stack:
        living = asyncio.create_task(_live(stack, services, gateway, report, after))
        stopped = asyncio.create_task(stopping.wait())
        await asyncio.wait({living, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if living.done():
            stopped.cancel()
            await living
        living.cancel()


async def _live(
    stack: Stack,
    services: Mapping[str, Launch],
    gateway: Launch,
    report: Report,
    after: Mapping[str, Launch],
) -> None:
    addresses: dict[str, str] = {}
    try:
        async with asyncio.TaskGroup() as group:
            for name, launch in services.items():
                await stack.start(name, launch(addresses), SERVICE_NICENESS)
                group.create_task(stack.died(name))
                addresses[name] = await stack.listening(name)
            for name in services:
                report(name, await stack.serving(name))
            await stack.start("gateway", gateway(addresses))
            group.create_task(stack.died("gateway"))
            addresses["gateway"] = await stack.serving("gateway")
            report("gateway", addresses["gateway"])
            for name, launch in after.items():
                await stack.start(name, launch(addresses))
                group.create_task(stack.died(name))
                report(name, await stack.listening(name))
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None


async def _says_serving(channel: grpc.aio.Channel) -> bool:
    """Follows a server's health until it serves; False when the connection breaks."""
    request = health_pb2.HealthCheckRequest()
    try:
        async for response in health_pb2_grpc.HealthStub(channel).Watch(request):
            if response.status == health_pb2.HealthCheckResponse.SERVING:
                return True
    except grpc.aio.AioRpcError:
        pass  # it may be gone for good, which `died` notices
    return False


@asynccontextmanager
async def _stack(host: str, tls: Pair | None) -> AsyncIterator[Stack]:
    with tempfile.TemporaryDirectory(prefix="tandem-") as directory:
        stack = Stack(Path(directory), host, tls)
        try:
            yield stack
        finally:
            await stack.stop()


def _termination() -> asyncio.Event:
    event = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, event.set)
    return event
