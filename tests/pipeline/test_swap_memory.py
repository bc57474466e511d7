"""What a version took is free once it is released, without waiting for the garbage collector."""

import gc
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from core.bundle import Bundle
from gateway.servicer import RecommendationServicer
from gateway.settings import GatewaySettings
from gateway.shared import Shared
from services.candidate.main import Loader
from services.candidate.servicer import CandidateServicer
from services.candidate.settings import CandidateSettings
from services.generator.servicer import GeneratorServicer
from services.generator.settings import GeneratorSettings
from serving.bundles.held import HeldBundles
from serving.bundles.swapper import BundleSwapper
from tests.pipeline.whole_bundle import write_whole_bundle


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("versions")
    for version in ("1", "2", "3"):
        write_whole_bundle(directory, version, seed=int(version))
    return directory / "tiny"


@pytest.fixture
def _no_collector() -> Iterator[None]:
    """What servers freeze, the collector never looks at again."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def candidate(root: Path) -> tuple[Callable[[Bundle], Any], Callable[[Any], list[object]]]:
    settings = CandidateSettings(bundle=root / "1", store=root / "items.db", threads=1)

    def parts(servicer: CandidateServicer) -> list[object]:
        engine = servicer._live.engine
        return [servicer, engine, engine.catalog, engine._text_encoder]

    return Loader(settings), parts


def generator(root: Path) -> tuple[Callable[[Bundle], Any], Callable[[Any], list[object]]]:
    settings = GeneratorSettings(bundle=root / "1", threads=1)

    def parts(servicer: GeneratorServicer) -> list[object]:
        engine = servicer.follower.engine
        return [servicer, engine, engine.snapshot, engine.snapshot.trie]

    return lambda bundle: GeneratorServicer.load(bundle, settings), parts


def gateway(root: Path) -> tuple[Callable[[Bundle], Any], Callable[[Any], list[object]]]:
    shared = Shared(GatewaySettings(bundle=root / "1", history="bundle", warm_up_seconds=0))

    def parts(servicer: RecommendationServicer) -> list[object]:
        return [servicer, servicer._recommender]

    shared.bundles._services = ()  # none runs
    return lambda bundle: RecommendationServicer(bundle, shared), parts


@pytest.mark.usefixtures("_no_collector")
@pytest.mark.parametrize("process", [candidate, generator, gateway])
async def test_a_released_version_is_freed(
    process: Callable[[Path], tuple[Callable[[Bundle], Any], Callable[[Any], list[object]]]],
    root: Path,
) -> None:
    load, parts = process(root)
    held = HeldBundles()
    swapper = BundleSwapper(held, load, root / "1", lambda _: None)
    await swapper.start(root / "1")
    assert held.serving is not None
    first = [weakref.ref(part) for part in parts(held.serving.servicer)]
    await swapper.activate("tiny/2")
    assert all(part() is not None for part in first)
    await swapper.activate("tiny/3")
    assert [part() for part in first] == [None] * len(first)
    await swapper.close()
