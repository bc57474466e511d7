"""A gateway in front of fake engine services, in this process, and what is known of its answers."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

import tandem
from core.bundle import Bundle
from gateway.servicer import RecommendationServicer
from gateway.settings import GatewaySettings
from gateway.shared import Common, Shared
from serving.bundles.held import HeldBundle
from serving.testing import listening
from tandem import AsyncClient
from tandem.requests import StrategyName
from tandem.v1 import generator_service_pb2_grpc as generator_grpc
from tandem.v1 import recommendation_service_pb2 as pb
from tandem.v1 import recommendation_service_pb2_grpc as pb_grpc
from tests.gateway.fakes import (
    FakeCandidate,
    FakeGenerator,
    attach_candidate,
    generator_score,
    retrieval_score,
)
from tests.tiny_bundle import HISTORIES, ITEMS, item_id

STRATEGIES: tuple[StrategyName, ...] = ("rerank", "generate", "fuse", "embedding")
DEFAULT_TIMEOUT = 1.0


@dataclass
class Stack:
    """A gateway and what is behind it."""

    address: str
    client: AsyncClient
    channel: grpc.aio.Channel
    candidate: FakeCandidate
    generator: FakeGenerator
    servicer: RecommendationServicer


@asynccontextmanager
async def running(path: Path, **flags: Any) -> AsyncIterator[Stack]:
    """Serves a bundle; histories are its own unless the flags say otherwise.

    `metrics` and `calls`, where they are given, count what the gateway does.
    """
    bundle = Bundle.open(path)
    metrics, calls = flags.pop("metrics", None), flags.pop("calls", None)
    candidate, generator = FakeCandidate(bundle), FakeGenerator(bundle)
    guard, tls = flags.pop("guard", None), flags.pop("tls", None)
    async with AsyncExitStack() as opened:
        settings = GatewaySettings(
            bundle=path,
            history=flags.pop("history", "bundle"),
            default_timeout=flags.pop("default_timeout", DEFAULT_TIMEOUT),
            candidate_target=await opened.enter_async_context(
                listening(candidate, attach_candidate)
            ),
            generator_target=await opened.enter_async_context(
                listening(generator, generator_grpc.add_GeneratorServiceServicer_to_server)
            ),
            **flags,
        )
        common = Common(settings, metrics)
        shared = Shared(settings, common)
        servicer = RecommendationServicer(bundle, shared)
        shared.held.serving = HeldBundle(bundle.version, servicer)
        opened.push_async_callback(common.close)
        address = await opened.enter_async_context(
            listening(
                servicer,
                pb_grpc.add_RecommendationServiceServicer_to_server,
                guard=guard,
                tls=tls,
                calls=calls,
            )
        )
        channel = await opened.enter_async_context(grpc.aio.insecure_channel(address))
        client = await opened.enter_async_context(AsyncClient(address, timeout=10))
        yield Stack(address, client, channel, candidate, generator, servicer)


def ids(response: pb.RecommendResponse) -> list[str]:
    return [item.item_id for item in response.recommendations]


def best(score: Callable[[int], float], among: set[int], count: int) -> list[str]:
    return [item_id(p) for p in sorted(among, key=lambda p: -score(p))][:count]


UNSEEN = set(range(ITEMS)) - set(HISTORIES["ann"])


def final_score(position: int) -> float:
    """With the tiny bundle's weights, 1 and .5."""
    return retrieval_score(position) + 0.5 * generator_score(position)


async def raw(
    channel: grpc.aio.Channel,
    method: str,
    request: Any,
    timeout: float | None = 10.0,  # noqa: ASYNC109
) -> bytes:
    """Sends a message, or bytes that may be none; without the client's retries."""
    body = request if isinstance(request, bytes) else request.SerializeToString()
    call: Any = channel.unary_unary(f"/tandem.v1.RecommendationService/{method}")
    try:
        response: bytes = await call(body, timeout=timeout)
    except grpc.aio.AioRpcError as error:
        raise tandem.errors.from_rpc(error) from error
    return response
