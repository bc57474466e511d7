"""The three real servers in one process and on one event loop, as many of them as wanted."""

from collections.abc import AsyncIterator, Mapping
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
    bundle: Path, *, store: Path | None = None, of_gateway: Mapping[str, Any] = {}, **common: Any
) -> AsyncIterator[Hosts]:
    """All three, over one bundle and with the same settings.

    Args:
        bundle: a bundle that is whole.
        store: of the candidate; with one, the generator follows its catalog.
        of_gateway: settings of the gateway alone.
        common: settings of all.
    """
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
        targets = {"candidate_target": at_candidate, "generator_target": at_generator}
        front = GatewaySettings(**{**common, "history": "bundle", **targets, **of_gateway})
        host, address = await opened.enter_async_context(hosted(front, gateway.main.service(front)))
        addresses = {"candidate": at_candidate, "generator": at_generator, "gateway": address}
        yield Hosts(candidate, generator, host, addresses)
