"""What the console's tests share."""

from collections.abc import Iterator

import pytest

from tests.console.served import Served, Stack
from tests.pipeline.whole_bundle import write_whole_bundle


@pytest.fixture(scope="package")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The servers and the consoles; items that tests add have names of their own."""
    directory = tmp_path_factory.mktemp("console")
    bundle = write_whole_bundle(directory)
    with Served(bundle, directory) as stack:
        yield stack
