"""What the tests of security share."""

from pathlib import Path

import pytest

from tests.serving.security.credentials import KeysFile


@pytest.fixture
def keys(tmp_path: Path) -> KeysFile:
    return KeysFile(tmp_path / "keys.toml")
