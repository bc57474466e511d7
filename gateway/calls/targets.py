"""The addresses of a service, each with a channel, a circuit and its load.

gRPC can balance over the addresses of one name, but its outlier detection takes every code but OK
for a failure of the server, a caller's mistakes included, and it picks without knowing where an
earlier attempt of the same call went. So each address has a channel of its own, on which gRPC
reconnects and watches the server's health, and the choice among them is made here.
"""

import asyncio
import contextlib
import socket
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, Generic, Protocol, TypeVar

import grpc
import structlog

from gateway.calls.circuit import Circuit, Limits, Permit, State, Verdict
from serving.security.links import Link
from tandem.channel import channel_options

log = structlog.get_logger()

DNS: Final = "dns:///"
RESOLVE_SECONDS: Final = 5.0
"""How long the addresses of a name are believed."""
LOOK_UP_SECONDS: Final = 5.0
"""How long it may take to find them."""
FAREWELL_SECONDS: Final = 30.0
"""How long calls of an address that a name no longer has may go on."""

S = TypeVar("S")


class Choice(Protocol):
    """What matters for the choice of a target."""

    circuit: Circuit
    in_flight: int

    @property
    def reachable(self) -> bool:
        """Whether it is connected and serves, as far as is known."""


C = TypeVar("C", bound=Choice)


def choose(targets: Sequence[C], tried: Collection[C], turn: int) -> C | None:
    """Chooses where a call goes: by turns among the best.

    A target that was not tried comes before one that was, one that is connected before one that
    is not, and one with less to do before one with more. A target that is due for a probe is one
    like any other: it has nothing to do, so its turn comes soon.

    Args:
        targets: all that there are.
        tried: those that failed the call before, or work on it.
        turn: one more each time.

    Returns:
        None where the circuits of all are open.
    """
    ready = [(i, t) for i, t in enumerate(targets) if t.circuit.state is not State.OPEN]
    if not ready:
        return None

    def order(numbered: tuple[int, C]) -> tuple[bool, bool, int, int]:
        number, target = numbered
        place = (number - turn) % len(targets)
        return (target in tried, not target.reachable, target.in_flight, place)

    return min(ready, key=order)[1]


@dataclass(eq=False)
class Target(Generic[S]):
    """One address of a service."""

    address: str
    channel: grpc.aio.Channel
    stub: S
    circuit: Circuit
    in_flight: int = 0
    answered: dict[type, float] = field(default_factory=dict)
    """When it last answered a request of a type, on the monotonic clock."""

    @property
    def reachable(self) -> bool:
        """Whether it is connected and serves, as far as is known."""
        state = self.channel.get_state(try_to_connect=True)
        return state not in _UNREACHABLE

    def leave(self, permit: Permit, verdict: Verdict) -> None:
        """Takes a call's verdict, and tells the log when that changes something."""
        before = self.circuit.state
        self.circuit.leave(permit, verdict)
        after = self.circuit.state
        if before is State.CLOSED and after is not State.CLOSED:
            log.warning("target set aside", target=self.address)
        elif before is not State.CLOSED and after is State.CLOSED:
            log.info("target is back", target=self.address)


_UNREACHABLE: Final = (
    grpc.ChannelConnectivity.TRANSIENT_FAILURE,
    grpc.ChannelConnectivity.SHUTDOWN,
)


class Targets(Generic[S]):
    """The addresses of one service. Belongs to the event loop that first uses it.

    Args:
        spec: addresses separated by commas. Each is any name that gRPC knows; one that starts with
            `dns:///` stands for all the addresses that it has now, and is looked up again as long
            as it is used.
        protobuf_service: whose health each of them is asked for.
        stub: the generated class.
        limits: of the circuits.
        link: opens the channels; for newer files of TLS there are new ones.
    """

    def __init__(
        self,
        spec: str,
        protobuf_service: str,
        stub: Callable[[grpc.aio.Channel], S],
        limits: Limits,
        link: Link | None = None,
    ) -> None:
        self._entries = parse(spec)
        self._moving = any(entry.startswith(DNS) for entry in self._entries)
        self._options = channel_options([], retries=False, health_of=protobuf_service)
        self._stub = stub
        self._limits = limits
        self._link = link or Link()
        self._generation = self._link.generation
        self._names: dict[str, str] = {}
        """What the certificate of an address that was looked up must say."""
        self._targets: dict[str, Target[S]] = {}
        self._turn = 0
        self._refreshed = -RESOLVE_SECONDS
        self._refreshing: asyncio.Task[None] | None = None
        self._parting: set[asyncio.Task[None]] = set()

    async def choose(
        self, tried: Collection[Target[S]], patience: float
    ) -> tuple[Target[S], Permit] | None:
        """Chooses a target, and takes its permit.

        Args:
            tried: targets to come back to only when there is no other.
            patience: seconds to wait for the first addresses.

        Returns:
            None while all are set aside, or none is known.
        """
        await self._refresh(patience)
        self._turn += 1
        target = choose(tuple(self._targets.values()), tried, self._turn)
        permit = target and target.circuit.enter()
        return (target, permit) if target and permit else None

    @property
    def count(self) -> int:
        """How many addresses are known."""
        return len(self._targets)

    @property
    def set_aside(self) -> int:
        """How many of them are left alone because calls of them failed."""
        targets = list(self._targets.values())  # whoever asks may be on another thread
        return sum(target.circuit.state is not State.CLOSED for target in targets)

    @property
    def known(self) -> bool:
        """Whether there is any address."""
        return bool(self._targets)

    async def channels(self) -> list[grpc.aio.Channel]:
        """One to each address, by which calls show the gateway's key; addresses are looked up where
        none is known yet."""
        await self._refresh(LOOK_UP_SECONDS)
        return [self._link.keyed(target.channel) for target in self._targets.values()]

    async def ready(self) -> None:
        """Waits, for as long as it takes, until one of the targets serves.

        Raises:
            TimeoutError: no address is known.
        """
        await self._refresh(LOOK_UP_SECONDS)
        if not self.known:
            raise TimeoutError(f"no address of {self._entries} is known")
        waiting = [asyncio.create_task(t.channel.channel_ready()) for t in self._targets.values()]
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waiting:
                task.cancel()

    async def close(self) -> None:
        """Closes the connections."""
        if self._refreshing is not None:
            self._refreshing.cancel()
        for task in self._parting:
            task.cancel()
        for target in self._targets.values():
            await target.channel.close()

    async def _refresh(self, patience: float) -> None:
        """Looks names up when it is time; waits for that only while there is no target at all."""
        if self._generation != self._link.generation:
            self._generation = self._link.generation
            self._reconnect()
        if not self._moving:
            if not self._targets:
                self._adopt(self._entries)
            return
        now = time.monotonic()
        if self._refreshing is None and now - self._refreshed >= RESOLVE_SECONDS:
            self._refreshed = now
            self._refreshing = asyncio.create_task(self._look_up())
        if not self._targets and self._refreshing is not None:
            await asyncio.wait([self._refreshing], timeout=patience)

    async def _look_up(self) -> None:
        try:
            async with asyncio.timeout(LOOK_UP_SECONDS):
                found = await asyncio.gather(*map(resolve, self._entries))
            self._names = {
                address: name_of(entry)
                for entry, addresses in zip(self._entries, found, strict=True)
                for address in addresses
                if entry.startswith(DNS)
            }
            self._adopt([address for addresses in found for address in addresses])
        except (OSError, TimeoutError) as error:
            log.warning("cannot look targets up", targets=self._entries, error=str(error))
        finally:
            self._refreshing = None

    def _adopt(self, addresses: Iterable[str]) -> None:
        """Keeps what is still there, with its circuit; connects to what is new; drops the rest."""
        known, self._targets = self._targets, {}
        for address in addresses:
            there = known.pop(address) if address in known else None
            self._targets[address] = there or self._connect(address)
        for target in known.values():
            self._part(target)

    def _reconnect(self) -> None:
        """Opens new channels, and lets the calls on the old ones end."""
        known = self._targets
        self._targets = {a: self._connect(a, target.circuit) for a, target in known.items()}
        for target in known.values():
            self._part(target)

    def _part(self, target: Target[S]) -> None:
        task = asyncio.create_task(target.channel.close(FAREWELL_SECONDS))
        self._parting.add(task)
        task.add_done_callback(self._parting.discard)

    def _connect(self, address: str, circuit: Circuit | None = None) -> Target[S]:
        channel = self._link.open(address, self._options, self._names.get(address))
        stub = self._stub(self._link.keyed(channel))
        return Target(address, channel, stub, circuit or Circuit(self._limits, time.monotonic))


def parse(spec: str) -> tuple[str, ...]:
    """Reads addresses separated by commas, each once, in their order.

    Raises:
        ValueError: there is none, or a `dns:///` name has no port.
    """
    entries = tuple(dict.fromkeys(entry.strip() for entry in spec.split(",") if entry.strip()))
    if not entries:
        raise ValueError("give at least one address, such as candidate:50051")
    for entry in entries:
        if entry.startswith(DNS):
            _host_and_port(entry)
    return entries


async def resolve(entry: str) -> list[str]:
    """The addresses that an entry stands for now, sorted.

    Raises:
        OSError: the name cannot be looked up.
    """
    if not entry.startswith(DNS):
        return [entry]
    host, port = _host_and_port(entry)
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return sorted({_address(family, *where[:2]) for family, _, _, _, where in found})


def name_of(entry: str) -> str:
    """The name of an entry that begins with `dns:///`."""
    return _host_and_port(entry)[0]


def _host_and_port(entry: str) -> tuple[str, int]:
    host, _, port = entry.removeprefix(DNS).rpartition(":")
    with contextlib.suppress(ValueError):
        if host:
            return host.strip("[]"), int(port)
    raise ValueError(f"{entry} needs a name and a port, such as {DNS}candidate:50051")


def _address(family: int, host: str | int, port: str | int) -> str:
    return f"ipv6:[{host}]:{port}" if family == socket.AF_INET6 else f"ipv4:{host}:{port}"
