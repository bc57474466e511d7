import pytest

from services.generator.text.engine import TextEngine
from tests.generator.made_up import MadeUp
from tests.generator.made_up_items import MadeUpItems
from tests.generator.text.made_up_text import write_item_text_bundle, write_text_bundle


@pytest.fixture(scope="session")
def writer(tmp_path_factory: pytest.TempPathFactory) -> MadeUp:
    return write_text_bundle(tmp_path_factory.mktemp("text"))


@pytest.fixture(scope="session")
def item_writer(tmp_path_factory: pytest.TempPathFactory) -> MadeUpItems:
    return write_item_text_bundle(tmp_path_factory.mktemp("item_text"))


@pytest.fixture
def engine(writer: MadeUp) -> TextEngine:
    return TextEngine(writer.engine.parts)
