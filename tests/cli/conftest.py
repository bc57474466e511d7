"""A gateway that commands ask, in front of fake services."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tests.cli.gateway import Gateway
from tests.tiny_bundle import write_tiny_bundle


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    bundle = write_tiny_bundle(tmp_path_factory.mktemp("asked"))
    with capture_logs(), Gateway(bundle) as gateway:  # what it logs would be on our stdout
        yield gateway


@pytest.fixture
def asked_by_default(gateway: Gateway, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The gateway is the one that commands ask, and the folder has no demo's bundle."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TANDEM_ADDRESS", gateway.address)
    monkeypatch.delenv("TANDEM_BUNDLE", raising=False)
