"""What the tests of several bundles share."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.gateway.named.shops import Shops, running


@pytest.fixture
async def shops(tmp_path: Path) -> AsyncIterator[Shops]:
    """A gateway with two shops, each with histories of its own."""
    async with running(tmp_path) as shops:
        yield shops
