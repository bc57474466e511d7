"""The index in Milvus, on Milvus Lite in this process: as every other kind, and its faults."""

import socket
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pymilvus import MilvusClient, MilvusException

from core.errors import Unavailable
from services.candidate.index import milvus
from services.candidate.index.live import LiveIndex
from services.candidate.index.milvus import MilvusIndex, collection_name
from tests.candidate.kinds import check_honest, clustered, recall

ITEMS = 600
VECTORS = clustered(ITEMS, 8)
masks = st.none() | st.tuples(st.integers(0, 99), st.floats(0, 1))


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("milvus") / "vectors.db")


@pytest.fixture(scope="module")
def index(uri: str) -> Iterator[MilvusIndex]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(milvus, "COMPARED", 0)  # always ask
        patch.setattr(milvus, "NAMED", 100)
        opened = MilvusIndex.open(uri, "shop/1", "content", VECTORS, timeout=30.0)
        yield opened
        opened.close()


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(at=st.integers(0, ITEMS - 1), count=st.integers(0, ITEMS + 10), filtered=masks)
def test_is_honest_and_full(
    index: MilvusIndex, at: int, count: int, filtered: tuple[int, float] | None
) -> None:
    allowed = None
    if filtered is not None:
        seed, share = filtered
        allowed = np.random.default_rng(seed).random(ITEMS) < share
    found = index.search(VECTORS[at], count, allowed)
    check_honest(found, VECTORS, VECTORS[at], count, allowed)


@pytest.mark.parametrize("share", [1.0, 0.9, 0.5, 0.1, 0.01])
def test_most_of_the_best_are_found(index: MilvusIndex, share: float) -> None:
    """How far to look is Milvus' own choice, and Milvus Lite's is not as far as the others'."""
    allowed = np.random.default_rng(1).random(ITEMS) < share
    assert recall(index, VECTORS[::60], 20, allowed) >= 0.9


def test_few_items_are_compared_without_a_call(
    index: MilvusIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(milvus, "COMPARED", 50)
    monkeypatch.setattr(index, "_propose", None)
    allowed = np.arange(ITEMS) < 50
    found = index.search(VECTORS[3], 5, allowed)
    check_honest(found, VECTORS, VECTORS[3], 5, allowed)


def test_a_collection_is_filled_once(uri: str, index: MilvusIndex) -> None:
    name = collection_name("shop/1", "content", VECTORS)
    client = MilvusClient(uri)
    before = client.query(name, output_fields=["count(*)"])[0]["count(*)"]
    again = MilvusIndex.open(uri, "shop/1", "content", VECTORS)
    assert client.query(name, output_fields=["count(*)"])[0]["count(*)"] == before == ITEMS
    assert again.search(VECTORS[4], 1).items.tolist() == [4]


def test_filling_goes_on_where_it_was_killed(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(milvus, "WRITTEN", 100)
    monkeypatch.setattr(milvus, "COMPARED", 0)
    upsert, calls = MilvusClient.upsert, []

    def killed(self: MilvusClient, *arguments: object, **options: object) -> object:
        calls.append(arguments)
        if len(calls) == 3:
            raise MilvusException(message="power cut")
        return upsert(self, *arguments, **options)

    monkeypatch.setattr(MilvusClient, "upsert", killed)
    with pytest.raises(Unavailable):
        MilvusIndex.open(uri, "shop/2", "content", VECTORS)
    index = MilvusIndex.open(uri, "shop/2", "content", VECTORS)
    assert len(calls) == 3 + 4, "two of six were there"
    for at in (0, 150, 599):
        assert index.search(VECTORS[at], 1).items.tolist() == [at]


def test_every_bundle_and_space_has_its_own() -> None:
    names = {
        collection_name(version, space, vectors)
        for version in ("shop/1", "shop/2", "shop_1")
        for space in ("content", "behavior")
        for vectors in (VECTORS, VECTORS[1:], -VECTORS)
    }
    assert len(names) == 18
    assert all(name.isidentifier() and len(name) <= 255 for name in names)


def test_grows_beside_the_collection(index: MilvusIndex) -> None:
    more = clustered(30, 8, seed=5)
    grown = LiveIndex.of(index).extended(more)
    assert grown.search(more[7], 1).items.tolist() == [ITEMS + 7]
    both = np.concatenate([VECTORS, more])
    check_honest(grown.search(more[7], 50), both, more[7], 50, None)


@pytest.mark.parametrize(
    "fault", [MilvusException(message="no quorum"), grpc.RpcError("deadline"), OSError("reset")]
)
def test_a_server_that_fails_is_unavailable(
    index: MilvusIndex, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    def fail(*_: object, **options: object) -> None:
        assert options["timeout"] == 30.0
        raise fault

    monkeypatch.setattr(index._client, "search", fail)
    with pytest.raises(Unavailable) as caught:
        index.search(VECTORS[0], 5)
    assert caught.value.reason == "INDEX_UNAVAILABLE"


def test_a_server_that_is_not_there_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(milvus, "LOAD_TIMEOUT", 0.5)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: refuses
        with pytest.raises(Unavailable, match="Milvus does not answer"):
            MilvusIndex.open(
                f"milvus://127.0.0.1:{taken.getsockname()[1]}", "shop/1", "content", VECTORS
            )


def test_a_path_is_milvus_lite(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    index = MilvusIndex.open(str(path), "shop/1", "content", VECTORS[:50])
    assert index.search(VECTORS[9], 1).items.tolist() == [9]
    assert path.exists()
    index.close()
