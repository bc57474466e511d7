from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from tests.generator.made_up import (
    BACKBONES,
    Backbone,
    MadeUp,
    Served,
    level_texts,
    random_levels,
    write_made_up,
)
from tests.generator.made_up_items import MadeUpItems, write_made_up_items

TEXTS = level_texts(random_levels(300, (7, 9, 11)))
"""300 items, three-token codes of uneven families."""


@pytest.fixture(scope="session")
def made_up_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Backbone], MadeUp]:
    @cache
    def make(backbone: Backbone) -> MadeUp:
        return write_made_up(tmp_path_factory.mktemp(backbone), TEXTS, backbone=backbone)

    return make


@pytest.fixture(scope="session")
def made_up(made_up_of: Callable[[Backbone], MadeUp]) -> MadeUp:
    return made_up_of("t5")


@pytest.fixture(params=BACKBONES)
def backbone(request: pytest.FixtureRequest) -> Backbone:
    chosen: Backbone = request.param
    return chosen


@pytest.fixture
def by_token(backbone: Backbone, made_up_of: Callable[[Backbone], MadeUp]) -> MadeUp:
    """A model that reads tokens, of each backbone."""
    return made_up_of(backbone)


@pytest.fixture(scope="session")
def made_up_items(tmp_path_factory: pytest.TempPathFactory) -> MadeUpItems:
    root: Path = tmp_path_factory.mktemp("item_generator")
    return write_made_up_items(root, TEXTS)


@pytest.fixture(params=[*BACKBONES, "items"])
def served(
    request: pytest.FixtureRequest,
    made_up_of: Callable[[Backbone], MadeUp],
    made_up_items: MadeUpItems,
) -> Served:
    """Every kind of generator."""
    return made_up_items if request.param == "items" else made_up_of(request.param)
