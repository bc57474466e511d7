from pathlib import Path

import pytest

from tests.generator.made_up import MadeUp, level_texts, random_levels, write_made_up


@pytest.fixture(scope="session")
def made_up(tmp_path_factory: pytest.TempPathFactory) -> MadeUp:
    """300 items, three-token codes of uneven families."""
    root: Path = tmp_path_factory.mktemp("generator")
    return write_made_up(root, level_texts(random_levels(300, (7, 9, 11))))
