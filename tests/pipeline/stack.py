"""The three real servers in one process and on one event loop, as many of them as wanted."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gateway.main
import services.candidate.main
import services.generator.main
from gateway.settings import GatewaySettings
from services.candidate.settings import CandidateSettings
from services.generator.settings import GeneratorSettings
from serving.server import ServiceHost
from serving.testing import hosted


@dataclass(frozen=True)
class Hosts:
    """What serves, and at which addresses."""

    candidate: ServiceHost
    generator: ServiceHost
    gateway: ServiceHost
    addresses: dict[str, str]


@asynccontextmanager
async def running(
    bundle: Path, *, store: Path | None = None, **common: Any
) -> AsyncIterator[Hosts]:
    """All three, over one bundle and with the same settings; with a store, the generator follows
    the candidate's catalog."""
    common = {"bundle": bundle, "threads": 1, "port": 0, **common}
    async with AsyncExitStack() as opened:
        settings = CandidateSettings(**common, store=store)
        candidate, at_candidate = await opened.enter_async_context(
            hosted(settings, services.candidate.main.service(settings))
        )
        own = GeneratorSettings(**common, catalog=at_candidate if store else None)
        generator, at_generator = await opened.enter_async_context(
            hosted(own, services.generator.main.service(own))
        )
        front = GatewaySettings(
            **common,
            history="bundle",
            candidate_target=at_candidate,
            generator_target=at_generator,
        )
        host, address = await opened.enter_async_context(hosted(front, gateway.main.service(front)))
        addresses = {"candidate": at_candidate, "generator": at_generator, "gateway": address}
        yield Hosts(candidate, generator, host, addresses)
