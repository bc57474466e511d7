"""What the processes do now, from their metrics: as `tandem top` shows it in a terminal."""

import asyncio
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from starlette.responses import Response
from starlette.routing import Route

from console.pages.site import Site, Visit
from serving.telemetry.scrapes import Interval, Scrape

LOOK_SECONDS: Final = 2.0
"""Between two looks, however many people look."""
KEPT: Final = 90
"""Looks that a curve shows."""
CALLS: Final = "tandem_server_calls_total"
SECONDS: Final = "tandem_server_call_seconds"


@dataclass(frozen=True)
class Method:
    """Calls of a method between two looks."""

    process: str
    name: str
    rate: float
    """A second."""
    failed: float
    """The same of those that failed."""
    median: float
    slowest: float
    """The 99th percentile, in seconds as the median is; NaN for no calls."""
    in_flight: float


@dataclass(frozen=True)
class Process:
    """A process at the last look."""

    address: str
    name: str
    error: str
    """Why nothing is known of it."""
    bundle: str = ""
    memory: float = 0.0
    """In bytes."""
    cpu: float = 0.0
    """Cores in use."""


@dataclass
class Watch:
    """Looks at the processes when somebody looks at it, and at most every two seconds.

    Args:
        addresses: where they show their metrics.
    """

    addresses: Sequence[str]
    _seen: dict[str, Scrape] = field(default_factory=dict)
    _between: dict[str, Interval] = field(default_factory=dict)
    _looked: float = 0.0
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    rates: deque[float] = field(default_factory=lambda: deque(maxlen=KEPT))
    """Calls a second that the gateway answered, at the last looks."""
    latencies: deque[float] = field(default_factory=lambda: deque(maxlen=KEPT))
    """The 99th percentile of its Recommend, in seconds; NaN for no calls."""

    async def look(self) -> None:
        """Looks, unless somebody just has."""
        async with self._lock:
            if self._between and time.monotonic() - self._looked < LOOK_SECONDS:
                return
            now = await self._read()
            if self._seen:
                self._between = {a: Interval(self._seen[a], now[a]) for a in self.addresses}
                self._note()
            self._seen, self._looked = now, time.monotonic()

    async def _read(self) -> dict[str, Scrape]:
        read = await asyncio.gather(*(asyncio.to_thread(Scrape.read, a) for a in self.addresses))
        return dict(zip(self.addresses, read, strict=True))

    def _note(self) -> None:
        gateways = [each for each in self._between.values() if _process(each.after) == "gateway"]
        if gateways:
            name = "tandem.v1.RecommendationService/Recommend"
            self.rates.append(sum(each.rate(CALLS) for each in gateways))
            self.latencies.append(gateways[0].quantile(SECONDS, 0.99, method=f"/{name}"))

    @property
    def processes(self) -> list[Process]:
        """All of them, those that cannot be reached too."""
        return [_shown(address, scrape, self._between) for address, scrape in self._seen.items()]

    @property
    def methods(self) -> list[Method]:
        """Those that were called between the last two looks."""
        return [m for seen in self._between.values() if not seen.after.error for m in _called(seen)]


def routes(site: Site, watch: Watch) -> list[Route]:
    """The page, and the part of it that is asked for again and again."""

    async def page(visit: Visit) -> Response:
        await watch.look()
        return visit.page("load.html", watch=watch, every=LOOK_SECONDS)

    async def part(visit: Visit) -> Response:
        await watch.look()
        return visit.page("load_now.html", watch=watch)

    return [site.route("/load", page), site.route("/load/now", part)]


def _shown(address: str, scrape: Scrape, between: Mapping[str, Interval]) -> Process:
    if scrape.error:
        return Process(address, address, scrape.error)
    seen = between.get(address)
    return Process(
        address,
        _process(scrape) or address,
        "",
        ", ".join(scrape.labels("tandem_bundle_info", "version", state="serving")) or "loading",
        scrape.value("process_resident_memory_bytes"),
        seen.rate("process_cpu_seconds_total") if seen and seen.seconds else 0.0,
    )


def _called(seen: Interval) -> Iterator[Method]:
    for name in seen.after.by(CALLS, "method"):
        rate = seen.rate(CALLS, method=name)
        in_flight = seen.after.value("tandem_server_calls_in_flight", method=name)
        if rate or in_flight:
            yield Method(
                process=_process(seen.after),
                name=name.rpartition(".")[2],
                rate=rate,
                failed=rate - seen.rate(CALLS, method=name, code="OK"),
                median=seen.quantile(SECONDS, 0.5, method=name),
                slowest=seen.quantile(SECONDS, 0.99, method=name),
                in_flight=in_flight,
            )


def _process(scrape: Scrape) -> str:
    return scrape.label("tandem_build_info", "process")
