from pathlib import Path

import pytest

from tests.generator.made_up import MadeUp, Served, level_texts, random_levels, write_made_up
from tests.generator.made_up_items import MadeUpItems, write_made_up_items

TEXTS = level_texts(random_levels(300, (7, 9, 11)))
"""300 items, three-token codes of uneven families."""


@pytest.fixture(scope="session")
def made_up(tmp_path_factory: pytest.TempPathFactory) -> MadeUp:
    root: Path = tmp_path_factory.mktemp("generator")
    return write_made_up(root, TEXTS)


@pytest.fixture(scope="session")
def made_up_items(tmp_path_factory: pytest.TempPathFactory) -> MadeUpItems:
    root: Path = tmp_path_factory.mktemp("item_generator")
    return write_made_up_items(root, TEXTS)


@pytest.fixture(params=["tokens", "items"])
def served(request: pytest.FixtureRequest, made_up: MadeUp, made_up_items: MadeUpItems) -> Served:
    """Both kinds of generator."""
    return made_up if request.param == "tokens" else made_up_items
