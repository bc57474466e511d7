"""What the gateway's tests share."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.gateway.stack import Stack, running
from tests.tiny_bundle import write_tiny_bundle


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[Stack]:
    async with running(write_tiny_bundle(tmp_path)) as stack:
        yield stack
