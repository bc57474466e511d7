"""A console lends nobody what is not theirs: not the loopback's trust, nor its own certificate."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from console.calls.contract import rpc_named
from console.calls.failures import CallFailedError
from console.calls.upstreams import Deadlines, Upstreams
from console.main import serving
from console.settings import ConsoleSettings
from serving.security.links import Link
from tandem.v1 import recommendation_service_pb2 as pb
from tests.console.served import Answer, Stack, ask

EVERYWHERE = "0.0.0.0"  # noqa: S104 - that it is off the loopback is the point
HISTORY = "/v1/users/ann/history"


@pytest.fixture
async def exposed(stack: Stack) -> AsyncIterator[dict[str, str]]:
    """Consoles off the loopback, in front of a gateway without keys and of one with."""
    common: dict[str, Any] = {"host": EVERYWHERE, "port": 0}
    open_ = ConsoleSettings(gateway=stack.addresses["gateway"], **common)
    keyed = ConsoleSettings(gateway=stack.keyed_gateway, **common)
    async with serving(open_) as first, serving(keyed) as second:
        yield {"open": first, "keyed": second}


async def asked(address: str, path: str, **more: Any) -> Answer:
    return await asyncio.to_thread(ask, address, path, **more)


async def test_trust_in_the_loopback_is_not_lent(exposed: dict[str, str], stack: Stack) -> None:
    shown = {"authorization": f"Bearer {stack.keys['operator']}"}
    for headers in ({}, shown):
        answer = await asked(exposed["open"], HISTORY, headers=headers)
        assert (answer.status, answer.reason) == (401, "NO_CREDENTIALS")
        assert "--keys-file" in answer.json["error"]["message"]
    free = await asked(exposed["open"], "/v1/users/ann/recommendations")
    assert free.status == 200


async def test_a_server_with_keys_decides_itself(exposed: dict[str, str], stack: Stack) -> None:
    assert (await asked(exposed["keyed"], HISTORY)).status == 401
    shown = {"authorization": f"Bearer {stack.keys['operator']}"}
    assert (await asked(exposed["keyed"], HISTORY, headers=shown)).status == 200


async def test_a_certificate_of_its_own_speaks_for_nobody(stack: Stack) -> None:
    upstreams = Upstreams(
        {"gateway": stack.addresses["gateway"]}, Link(), Deadlines(), certified=True
    )
    recommend = rpc_named("RecommendationService", "Recommend")
    request = pb.RecommendRequest(user_id="ann")
    try:
        with pytest.raises(CallFailedError) as failure:
            await upstreams.call(recommend, request, {})
        assert failure.value.error.reason == "NO_CREDENTIALS"
        assert await upstreams.call(recommend, request, {"authorization": "Bearer some"})
    finally:
        await upstreams.close()


async def test_a_process_without_an_address_is_named(stack: Stack) -> None:
    answer = await asked(stack.keyed, "/v1/items")
    assert (answer.status, answer.reason) == (503, "SERVICE_UNAVAILABLE")
    assert "--candidate" in answer.json["error"]["message"]
