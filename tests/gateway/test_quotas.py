"""Quotas of callers: of each its own, shared by gateways, bounded in memory."""

import asyncio
from pathlib import Path

import grpc
import pytest
from structlog.testing import capture_logs

from gateway.quotas import CallerQuotas, quotas_of
from gateway.settings import GatewaySettings
from serving.security.guard import Guard
from serving.security.keyring import Caller, Quota
from serving.security.keys_file import watch_keys
from serving.security.rights import Right
from tandem import AsyncClient, ResourceExhausted
from tests.gateway.redis_server import redis_server
from tests.gateway.stack import running
from tests.processes import PATIENCE
from tests.serving.security.credentials import KeysFile
from tests.tiny_bundle import write_tiny_bundle


def caller(name: str, **quota: int) -> Caller:
    return Caller(name, quota=Quota(**quota))


async def let_in(quotas: CallerQuotas, who: Caller, calls: int) -> int:
    """How many calls are within the quota."""
    return [await quotas.spend(who) for _ in range(calls)].count(None)


async def test_each_caller_has_its_own_quota() -> None:
    quotas = CallerQuotas()
    assert await let_in(quotas, caller("key:a", per_minute=5), 9) == 5
    assert await let_in(quotas, caller("key:b", per_minute=7), 9) == 7
    seconds = await quotas.spend(caller("key:a", per_minute=5))
    assert seconds is not None
    assert 0 < seconds <= 120


async def test_both_limits_count() -> None:
    quotas = CallerQuotas()
    assert await let_in(quotas, caller("key:a", per_second=1_000, per_minute=4), 9) == 4


async def test_a_quota_comes_back() -> None:
    quotas, who = CallerQuotas(), caller("key:a", per_second=1)
    await let_in(quotas, who, 2)
    seconds = await quotas.spend(who)
    while seconds is not None:
        await asyncio.sleep(seconds)
        seconds = await quotas.spend(who)


async def test_callers_in_memory_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.quotas.MAX_CALLERS", 10)
    quotas = CallerQuotas()
    for user in range(50):
        await quotas.spend(caller(f"token:{user}", per_minute=1))
    assert len(quotas._memory) == 10
    assert await quotas.spend(caller("token:49", per_minute=1)) is not None


async def test_a_call_above_its_quota_is_refused_with_a_delay(tmp_path: Path) -> None:
    keys = KeysFile(tmp_path / "keys.toml")
    key = keys.add("shop", {Right.RECOMMEND}, calls_per_minute=3)
    free = keys.add("free", {Right.RECOMMEND})
    guard = Guard(watch_keys(keys.path), quotas=CallerQuotas())
    async with running(write_tiny_bundle(tmp_path), guard=guard) as stack:
        async with AsyncClient(stack.address, timeout=10, key=key) as client:
            for _ in range(3):
                await client.recommend("ann")
            with pytest.raises(ResourceExhausted) as caught:
                await client.recommend("ann")
        assert caught.value.reason == "QUOTA_EXCEEDED"
        assert caught.value.retry_after is not None
        assert caught.value.code is grpc.StatusCode.RESOURCE_EXHAUSTED
        async with AsyncClient(stack.address, timeout=10, key=free) as client:
            for _ in range(9):
                await client.recommend("ann")


async def test_gateways_share_a_quota_in_redis(tmp_path: Path) -> None:
    with redis_server(tmp_path) as server:
        settings = GatewaySettings(
            bundle=write_tiny_bundle(tmp_path), history=server.url, history_timeout=PATIENCE
        )
        first, second = quotas_of(settings), quotas_of(settings)
        who = caller("key:a", per_minute=6)
        assert await let_in(first, who, 4) + await let_in(second, who, 9) == 6
        server.kill()
        # Alone, each goes on with a quota of its own.
        with capture_logs() as logs:
            assert await let_in(first, who, 9) == 6
        assert [line["event"] for line in logs] == ["quotas counted alone"]
        await first.close()
        await second.close()
