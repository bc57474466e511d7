"""Histories of the bundle's users."""

from pathlib import Path

import pytest

from core.bundle import Bundle
from gateway.history import BundleHistoryStore
from gateway.history import bundle as module
from tests.tiny_bundle import HISTORIES, item_id, write_tiny_bundle


@pytest.fixture
def store(tmp_path: Path) -> BundleHistoryStore:
    return BundleHistoryStore(Bundle.open(write_tiny_bundle(tmp_path)))


@pytest.mark.parametrize("user", HISTORIES)
async def test_a_known_user_has_its_items_oldest_first(
    store: BundleHistoryStore, user: str
) -> None:
    assert await store.history(user) == tuple(map(item_id, HISTORIES[user]))
    await store.close()


async def test_an_unknown_user_has_none(store: BundleHistoryStore) -> None:
    assert await store.history("nobody") is None
    assert await store.history("") is None


async def test_a_long_history_keeps_its_newest(
    store: BundleHistoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_HISTORY", 2)
    assert await store.history("ann") == ("i1", "i2")
