"""What a version took is free once it is released, without waiting for the garbage collector."""

import gc
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.servicer import RecommendationServicer
from services.candidate.servicer import CandidateServicer
from services.generator.servicer import GeneratorServicer
from tandem import AsyncCatalogClient, AsyncClient, Error, Item
from tests.pipeline.stack import running
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
    gc.unfreeze()


def parts_of(host: Any) -> list["weakref.ref[Any]"]:
    """What the version that serves consists of."""
    servicer = host._bundles.held[""].serving.servicer
    found: list[Any] = []
    match servicer:
        case CandidateServicer():
            engine = servicer._live.engine
            found = [servicer._live, engine, engine.catalog, engine._scorer]
        case GeneratorServicer():
            generator = servicer.follower.engine
            found = [servicer.follower, generator, generator.snapshot, generator.snapshot.trie]
        case RecommendationServicer():
            found = [servicer._recommender, servicer._recommender.services.popularity]
    return [weakref.ref(part) for part in (servicer, *found)]


@pytest.mark.usefixtures("_no_collector")
async def test_released_versions_are_freed(root: Path) -> None:
    """Though calls failed, the generator followed the catalog, and items came."""
    async with (
        running(root / "1", store=root / "items.db") as stack,
        AsyncClient(stack.addresses["gateway"]) as client,
        AsyncCatalogClient(stack.addresses["candidate"]) as catalog,
    ):
        gateway: Any = stack.gateway
        hosts = (stack.candidate, stack.generator, gateway)

        async def call() -> None:
            await catalog.upsert_items([Item("new", "a Film", title="New")])
            await client.recommend(history=["i1"], strategy="fuse", forbid_degraded=True)
            for asked in ({"user_id": "nobody"}, {"history": ["i1"], "pin": {"i2": 10_000}}):
                with pytest.raises(Error):
                    await client.recommend(**asked)

        await call()
        first = [part for host in hosts for part in parts_of(host)]
        await gateway._bundles.swappers[""].activate("tiny/2")
        await call()
        assert all(part() is not None for part in first)
        await gateway._bundles.swappers[""].activate("tiny/3")
        assert [part() for part in first] == [None] * len(first)
