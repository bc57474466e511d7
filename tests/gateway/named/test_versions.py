"""Versions of one bundle come and go while the other serves what it served."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from tandem import BundleClient, InvalidArgument
from tests.cli.command import run
from tests.gateway.named.shops import SHOPS, Shops, write_shop


@pytest.fixture
def bundles(shops: Shops) -> Iterator[BundleClient]:
    with BundleClient(shops.address, timeout=30) as client:
        yield client


async def versions(shops: Shops) -> list[str]:
    """What answers, of each shop."""
    return [(await shops.clients[shop].recommend("ann")).bundle_version for shop in SHOPS]


async def test_a_swap_in_one_leaves_the_other(
    shops: Shops, bundles: BundleClient, tmp_path: Path
) -> None:
    for shop in SHOPS:
        write_shop(tmp_path, shop, "2")
    await asyncio.to_thread(bundles.activate, "shop-fr/2", bundle="fr")
    assert await versions(shops) == ["shop/1", "shop-fr/2"]
    assert [len(shops.services[shop]) for shop in SHOPS] == [2, 4], "the first was not loaded again"
    assert await asyncio.to_thread(bundles.list_all) == {
        "": {"shop/1": "serving", "shop/2": "available"},
        "fr": {"shop-fr/2": "serving", "shop-fr/1": "held"},
    }
    assert await asyncio.to_thread(bundles.list, "fr") == {
        "shop-fr/2": "serving", "shop-fr/1": "held"
    }  # fmt: skip
    await asyncio.to_thread(bundles.activate, "shop/2")
    await asyncio.to_thread(bundles.activate, "shop-fr/1", bundle="fr")
    assert await versions(shops) == ["shop/2", "shop-fr/1"]
    assert await shops.shown("fr", max_results=3) == {"fr"}


async def test_a_version_belongs_to_its_name(shops: Shops, bundles: BundleClient) -> None:
    for change in (bundles.load, bundles.activate):
        for name, reason in (("it", "UNKNOWN_BUNDLE_NAME"), ("fr", "OTHER_BUNDLE")):
            with pytest.raises(InvalidArgument) as caught:
                await asyncio.to_thread(change, "shop/1", bundle=name)
            assert caught.value.reason == reason
    assert await versions(shops) == ["shop/1", "shop-fr/1"]


async def test_the_command_changes_the_named_one(
    shops: Shops, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TANDEM_ADDRESS", shops.address)
    path = write_shop(tmp_path, "fr", "2")
    loaded = await asyncio.to_thread(run, "bundle", "load", str(path), "--bundle-name", "fr")
    assert loaded.code == 0, loaded.stderr
    assert await versions(shops) == ["shop/1", "shop-fr/1"]
    named = ("--bundle-name", "fr", "--root", str(tmp_path))
    activated = await asyncio.to_thread(run, "bundle", "activate", str(path), *named)
    assert activated.code == 0, activated.stderr
    assert await versions(shops) == ["shop/1", "shop-fr/2"]
    status = await asyncio.to_thread(run, "bundle", "status")
    rows = [line.split() for line in status.stdout.splitlines()]
    assert [shops.address, "shop/1", "serving"] in rows
    assert [shops.address, "fr", "shop-fr/1", "held"] in rows
    assert (await asyncio.to_thread(run, "bundle", "rollback", *named)).code == 0
    assert await versions(shops) == ["shop/1", "shop-fr/1"]


async def test_all_versions_are_in_the_metrics(shops: Shops) -> None:
    registry = shops.service.registry
    for shop, version in (("", "shop/1"), ("fr", "shop-fr/1")):
        labels = {"bundle": shop, "version": version, "state": "serving"}
        assert registry.get_sample_value("tandem_bundle_info", labels) == 1
        await shops.clients[shop].similar_items(["i1", "fr1"])
        for service in ("candidate", "generator"):
            labels = {"bundle": shop, "service": service}
            assert registry.get_sample_value("tandem_gateway_service_addresses", labels) == 1
        labels = {"bundle": shop, "service": "candidate", "attempt": "first"}
        assert registry.get_sample_value("tandem_gateway_service_attempts_total", labels)
