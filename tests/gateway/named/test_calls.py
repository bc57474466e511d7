"""Each call is answered from the bundle that it names, and from no other."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.gateway.named.shops import SHOPS, Shops, bundle_of, running


@pytest.fixture
async def shops(tmp_path: Path) -> AsyncIterator[Shops]:
    async with running(tmp_path) as shops:
        yield shops


@pytest.mark.parametrize("shop", SHOPS)
async def test_each_shop_recommends_its_own_items(shops: Shops, shop: str) -> None:
    answer = await shops.clients[shop].recommend("ann", strategy="fuse", max_results=5)
    assert not answer.degraded
    assert answer.bundle_version == f"{bundle_of(shop)}/1"
    assert {timing.bundle_version for timing in answer.timings} <= {f"{bundle_of(shop)}/1", ""}
    assert len(answer.recommendations) == 5
    assert all(item.item_id.startswith(shop or "i") for item in answer.recommendations)
