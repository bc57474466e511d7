"""The stores that a gateway opens for the versions of its bundles."""

import weakref
from pathlib import Path

from core.bundle import Bundle
from gateway.history.stores import Stores
from gateway.settings import GatewaySettings
from tests.tiny_bundle import write_tiny_bundle


def test_a_bundles_own_histories_go_with_it(tmp_path: Path) -> None:
    """What a version is answered from must not outlive it; the key of its answers does."""
    stores = Stores()
    first, second = (Bundle.open(write_tiny_bundle(tmp_path, version)) for version in "12")
    settings = GatewaySettings(bundle=first.path, history="bundle")
    before, after = stores.of(settings, first), stores.of(settings, second)
    assert before.rules is after.rules
    gone = weakref.ref(before.store), weakref.ref(first)
    del before, first
    assert [part() for part in gone] == [None, None]
