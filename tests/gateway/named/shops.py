"""A gateway with the bundles of two shops behind it, whose catalogs have nothing in common."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import grpc

import gateway.main
from core.bundle import write_bundle
from core.catalog import Catalog, CatalogItem
from gateway.settings import GatewaySettings, NamedBundleSettings
from serving.bundles.named import NamedBundle
from serving.server import Service
from serving.settings import ServerSettings
from serving.testing import hosted
from tandem import AsyncClient
from tests.gateway.fake_process import SERVICES
from tests.tiny_bundle import catalog, manifest, write_files

SHOPS: Final = ("", "fr")
"""The first answers calls that name none."""


def bundle_of(shop: str) -> str:
    """The name of a shop's bundle."""
    return f"shop-{shop}" if shop else "shop"


def item_of(shop: str, position: int) -> str:
    return f"{shop or 'i'}{position}"


def write_shop(root: Path, shop: str, version: str = "1") -> Path:
    """Writes a version of a shop's bundle; returns its directory."""
    name = bundle_of(shop)
    with write_bundle(root, manifest(version, name=name)) as directory:
        write_files(directory)
        renamed = [
            CatalogItem(item_of(shop, place), item.title, item.text, item.attributes, 1)
            for place, item in enumerate(catalog().items)
        ]
        Catalog(renamed).write(directory / "catalog.jsonl")
    return root / name / version


@dataclass
class Shops:
    """The gateway, and what is behind it."""

    service: Service
    address: str
    channel: grpc.aio.Channel
    clients: dict[str, AsyncClient]
    candidates: dict[str, str]
    """The addresses of candidate services."""
    services: dict[str, list[Any]] = field(default_factory=dict)
    """The fakes behind each shop: those of each version, a candidate and a generator by turns."""

    async def shown(self, shop: str, user_id: str = "ann", **arguments: Any) -> set[str]:
        """The items that a shop recommends, without their numbers."""
        answer = await self.clients[shop].recommend(user_id, **arguments)
        assert not answer.degraded
        return {item.item_id.rstrip("0123456789") for item in answer.recommendations}


def fake_service(process: str, bundle: Path, made: list[Any]) -> Service:
    """A service whose servicers are fakes, each of which is noted when it is made."""
    apis, fake = SERVICES[process]

    def load(bundle: Any) -> Any:
        made.append(fake(bundle))
        return made[-1]

    return Service(process, apis, {"": NamedBundle(bundle, load)})


@asynccontextmanager
async def running(
    root: Path,
    histories: dict[str, str] | None = None,
    **flags: Any,
) -> AsyncIterator[Shops]:
    """Serves both.

    Args:
        root: where bundles and histories are.
        histories: the stores of shops; each has one of its own by default.
        flags: settings of the gateway; `own` has those of bundles.
    """
    more: dict[str, dict[str, Any]] = flags.pop("own", {})
    histories = histories or {shop: str(root / f"{bundle_of(shop)}.sqlite") for shop in SHOPS}
    services: dict[str, list[Any]] = {shop: [] for shop in SHOPS}
    async with AsyncExitStack() as opened:
        own: dict[str, dict[str, Any]] = {}
        for shop in SHOPS:
            path = write_shop(root, shop)
            own[shop] = {"bundle": path, "history": histories[shop], **more.get(shop, {})}
            for process in SERVICES:
                service = fake_service(process, path, services[shop])
                _, at = await opened.enter_async_context(
                    hosted(ServerSettings(bundle=path, port=0), service)
                )
                own[shop][f"{process}_target"] = at
        candidates = {shop: own[shop]["candidate_target"] for shop in SHOPS}
        first = own.pop("")
        named = {shop: NamedBundleSettings(**each) for shop, each in own.items()}
        settings = GatewaySettings(**first, port=0, bundles=named, **flags)
        service = gateway.main.service(settings)
        _, address = await opened.enter_async_context(hosted(settings, service))
        clients = {
            shop: await opened.enter_async_context(AsyncClient(address, timeout=10, bundle=shop))
            for shop in SHOPS
        }
        channel = await opened.enter_async_context(grpc.aio.insecure_channel(address))
        yield Shops(service, address, channel, clients, candidates, services)
