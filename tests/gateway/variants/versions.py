"""A gateway that holds two versions of the bundle, in front of services that hold both."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from core.bundle import Bundle
from core.manifest import BlendSection
from gateway.servicer import RecommendationServicer
from gateway.settings import GatewaySettings
from gateway.shared import Common, Shared
from serving.bundles.held import HeldBundle, HeldBundles, Servicer
from serving.server import Api, ServicerProxy
from serving.testing import listening
from tandem import AsyncClient
from tandem.v1 import generator_service_pb2_grpc as generator_grpc
from tandem.v1 import recommendation_service_pb2_grpc as pb_grpc
from tests.gateway.fakes import FakeCandidate, FakeGenerator, attach_candidate
from tests.tiny_bundle import write_tiny_bundle

SERVING, BESIDE = "tiny/1", "tiny/2"
BESIDE_WEIGHT = 3.0
"""Of the generator in the version beside; in the one that serves it is a half."""


class Proxy(ServicerProxy):
    """As in a process, for a server without a shedder."""

    retry_after = None


@dataclass
class Versions:
    """A gateway and what is behind it."""

    client: AsyncClient
    channel: grpc.aio.Channel
    file: Path
    held: HeldBundles
    shared: Shared
    candidates: list[FakeCandidate]
    generators: list[FakeGenerator]


def both(servicers: list[Any]) -> HeldBundles:
    """Holds the servicers of both versions."""
    held = HeldBundles()
    serving, beside = servicers
    held.serving, held.beside = HeldBundle(SERVING, serving), HeldBundle(BESIDE, beside)
    return held


@asynccontextmanager
async def versions(root: Path, text: str, **flags: Any) -> AsyncIterator[Versions]:
    """Serves both, by a serving file of the text."""
    file = root / "serving.toml"
    file.write_text(text, encoding="utf-8")
    blend = BlendSection(retrieval_weight=1.0, generator_weight=BESIDE_WEIGHT, shortlist=6)
    paths = [write_tiny_bundle(root).resolve(), write_tiny_bundle(root, "2", blend=blend).resolve()]
    bundles = [Bundle.open(path) for path in paths]
    candidates, generators = list(map(FakeCandidate, bundles)), list(map(FakeGenerator, bundles))
    async with AsyncExitStack() as opened:

        async def serve(servicers: list[Any], attach: Any) -> str:
            proxy = Proxy(Api("", attach), {"": both(servicers)})
            return await opened.enter_async_context(listening(proxy, attach))

        settings = GatewaySettings(
            bundle=paths[0],
            history="bundle",
            serving_file=file,
            candidate_target=await serve(candidates, attach_candidate),
            generator_target=await serve(
                generators, generator_grpc.add_GeneratorServiceServicer_to_server
            ),
            **flags,
        )
        common = Common(settings)
        shared = Shared(settings, common)
        held = shared.held
        opened.push_async_callback(common.close)
        gateways: list[Servicer] = [RecommendationServicer(bundle, shared) for bundle in bundles]
        loaded = both(gateways)
        held.serving, held.beside = loaded.serving, loaded.beside
        attach = pb_grpc.add_RecommendationServiceServicer_to_server
        address = await opened.enter_async_context(
            listening(Proxy(Api("", attach), {"": held}), attach)
        )
        channel = await opened.enter_async_context(grpc.aio.insecure_channel(address))
        client = await opened.enter_async_context(AsyncClient(address, timeout=10))
        yield Versions(client, channel, file, held, shared, candidates, generators)
