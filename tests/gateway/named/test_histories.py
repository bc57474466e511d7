"""What is recorded for one shop is known to it alone, unless shops share a store."""

from pathlib import Path

import pytest

from core.errors import SettingsError
from tandem import NotFound, event
from tests.gateway.named.shops import SHOPS, Shops, item_of, running


async def items(shops: Shops, shop: str, user: str) -> list[str]:
    """The user's history, newest first."""
    try:
        events = (await shops.clients[shop].get_history(user)).events
    except NotFound:
        return []
    return [each.item_id for each in events]


def keys_in(directory: Path) -> list[str]:
    return [path.name for path in directory.glob("*.key")]


async def test_a_shop_knows_its_own_events_alone(shops: Shops) -> None:
    for shop in SHOPS:
        await shops.clients[shop].record_events([event("zoe", item_of(shop, 4))])
    assert [await items(shops, shop, "zoe") for shop in SHOPS] == [["i4"], ["fr4"]]
    assert [await items(shops, shop, "bob") for shop in SHOPS] == [["i5"], ["fr5"]]


async def test_users_are_deleted_merged_and_exported_in_one_shop(shops: Shops) -> None:
    first, french = shops.clients[""], shops.clients["fr"]
    await french.merge_users("bob", "ann")
    assert await items(shops, "fr", "bob") == []
    assert await items(shops, "", "bob") == ["i5"]
    exported = [stored.event.item_id async for stored in french.export_user("ann")]
    assert "fr5" in exported
    await first.delete_user("ann")
    assert await items(shops, "", "ann") == []
    assert "fr5" in await items(shops, "fr", "ann")


async def test_shops_that_name_one_store_share_it(tmp_path: Path) -> None:
    shared = str(tmp_path / "both.sqlite")
    async with running(tmp_path, dict.fromkeys(SHOPS, shared)) as shops:
        await shops.clients["fr"].record_events([event("zoe", "fr4")])
        assert await items(shops, "", "zoe") == ["fr4"]
        answer = await shops.clients[""].recommend("ann")
        shown = answer.recommendations[0].item_id
        seen = event("zoe", shown, recommendation_id=answer.recommendation_id)
        recorded = await shops.clients["fr"].record_events([seen])
        assert (recorded.recorded, recorded.unattributed) == (1, 0)
    assert keys_in(tmp_path) == ["both.sqlite.key"]


async def test_a_store_has_one_key(tmp_path: Path) -> None:
    shared, key = str(tmp_path / "both.sqlite"), tmp_path / "other.key"
    with pytest.raises(SettingsError) as caught:
        async with running(tmp_path, dict.fromkeys(SHOPS, shared), history_key_file=key):
            pass
    assert caught.value.message.startswith("bundle 'fr': ")
    assert "history_key_file" in caught.value.message


async def test_histories_of_the_bundles_are_told_apart(tmp_path: Path) -> None:
    async with running(tmp_path, dict.fromkeys(SHOPS, "bundle")) as shops:
        assert [await items(shops, shop, "bob") for shop in SHOPS] == [["i5"], ["fr5"]]
